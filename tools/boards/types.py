"""python -m tools.boards.types PAGE: check the boards against Grafana's own TypeScript types, with tsc.

PAGE is the folder in which `make board-types` has installed draw/package.json.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.boards.queries import BOARDS, load

# The published types have enums, where JSON has their values.
HEAD = """\
import type { Dashboard } from '@grafana/schema';
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer One)[] ? Plain<One>[] : T extends object ? { [Key in keyof T]: Plain<T[Key]> } : T;
"""
# Grafana reads these, its published types do not know them.
OF_VARIABLES = ("auto", "auto_min", "auto_count")
OF_ANNOTATIONS = ("expr", "titleFormat", "step")
TSC = "npx --no-install tsc --noEmit --skipLibCheck --strict --module esnext --moduleResolution bundler --target es2022"


def typed(board: dict[str, Any]) -> dict[str, Any]:
    """The board without what the published types leave out."""
    for parts, keys in ((board["templating"], OF_VARIABLES), (board["annotations"], OF_ANNOTATIONS)):
        for part in parts.get("list", []):
            for key in keys:
                part.pop(key, None)
    return board


def main(page: Path) -> int:
    """Exit code of tsc, which says on stdout what is wrong."""
    boards = [typed(load(path)) for path in BOARDS]
    lines = [f"export const board{n}: Plain<Dashboard> = {json.dumps(one, indent=1)};" for n, one in enumerate(boards)]
    (page / "boards.ts").write_text(HEAD + "\n".join(lines))
    return subprocess.run([*TSC.split(), "boards.ts"], cwd=page, check=False, timeout=300).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
