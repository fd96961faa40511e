"""python -m tools.boards [FOLDER]: write every board as FOLDER/<uid>.json, by default into dashboards/."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from tools.boards import agent, fleet, loads, model, rollout

BOARDS = (fleet, rollout, model, loads, agent)
OUT = Path(__file__).resolve().parents[2] / "dashboards"


def write(folder: Path) -> list[Path]:
    """The files written. OSError where the folder cannot be."""
    written = []
    for module in BOARDS:
        board = module.board()
        path = folder / f"{board.uid}.json"
        path.write_text(json.dumps(board, cls=JSONEncoder, indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT):
        print(f"wrote {path}")
