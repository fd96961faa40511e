"""`haldane check serving-config`: Serving's own model config file, before a server or an agent reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from haldane.cli.exits import USAGE, leave

if TYPE_CHECKING:
    from haldane.serving.lint import Finding


@click.command("serving-config")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--enforce", is_flag=True, help="It is to be the model_config_file of an agent that changes servers.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def serving_config(files: tuple[Path, ...], enforce: bool, output: str) -> None:
    """Mistakes and surprises in Serving's model config FILEs, with line and what would be right.

    Several FILEs are looked at as one server's list, as when each team keeps
    its own. Base paths that are on this machine are looked into. An error is
    what a server refuses, or what unloads a model; a warning works, and does
    not do what one may think. [trap N] is explained in
    docs/design/serving-traps.md.

    \b
      haldane check serving-config models.config
      haldane check serving-config --enforce models.config
      haldane check serving-config teams/*.config -o json | jq '.findings[] | select(.level == "error")'

    Exit codes: 0 no error, 2 errors, or a file cannot be read.
    """
    from haldane.serving.lint import Level, lint

    texts = dict(_texts(files))
    found = lint(texts, enforce=enforce)
    found += [one for file, text in texts.items() for one in _on_disk(file, text)]
    found.sort(key=lambda one: (list(texts).index(one.file), one.line))
    errors = sum(one.level is Level.ERROR for one in found)
    if output == "json":
        from dataclasses import asdict

        from haldane.cli.shown import print_json

        print_json({"errors": errors, "findings": [asdict(one) for one in found]})
    else:
        for one in found:
            click.echo(str(one))
        click.echo(f"{len(texts)} file(s): {errors} error(s), {len(found) - errors} warning(s)", err=True)
    if errors:
        raise SystemExit(USAGE)


def _texts(files: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    for path in files:
        try:
            yield str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            leave(USAGE, f"{path}: cannot read it: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}")


def _on_disk(file: str, text: str) -> Iterator["Finding"]:
    """What the directories say, where they are on this machine."""
    from haldane.release.check import problem
    from haldane.serving import configtext, modelconfig
    from haldane.serving.lint import Finding, Level

    try:
        config = modelconfig.parse_leniently(text, source=file)
    except ValueError:
        return  # told already
    for field, entry in zip(configtext.entries(text), config.models, strict=True):
        who, base = f"model {entry.name}", Path(entry.base_path)
        if base.is_absolute() and base.parent.is_dir() and not base.exists() and base.parent != Path("/"):
            says = (
                f"{who}: there is no {base} on this machine; a server without it does not open its ports, and a reload"
                " that adds it blocks all others until it is there"
            )
            yield Finding(file, field.line_of("base_path"), Level.WARNING, says, 6)
        for version in entry.versions:
            if wrong := problem(entry.base_path, version):
                line = field.line_of("model_version_policy", "specific")
                yield Finding(file, line, Level.ERROR, f"{who}: {wrong}", 27 if "upload" in wrong else 5)
