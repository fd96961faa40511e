"""`haldane adopt`: a model config drafted from the files servers run with today."""

from pathlib import Path

import click

from haldane.cli.exits import USAGE, leave


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), help="Write here; else to stdout.")
@click.option("--force", is_flag=True, help="Replace OUT when it is there.")
def adopt(files: tuple[Path, ...], output: Path | None, force: bool) -> None:
    """Draft model_config_file from Serving's model config FILEs.

    The first listing of a model wins, as its owners wrote it, with the comments
    in it and right above it; a single FILE stays as it is. What a person should
    look at (conflicts, policies that would load a canary by themselves) is told
    on stderr.

    \b
      haldane adopt /etc/serving/a.config /etc/serving/b.config -o models.config

    Exit codes: 0 drafted, 2 a file cannot be read or OUT is there already.
    """
    from haldane.serving.modelconfig import ConfigTextError, merge

    texts: dict[str, str] = {}
    for path in files:
        try:
            texts[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            leave(USAGE, f"{path}: cannot read it: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}")
    try:
        draft = merge(texts)
    except ConfigTextError as error:
        leave(USAGE, str(error))
    for note in draft.notes:
        click.echo(f"note: {note}", err=True)
    if output is None:
        click.echo(draft.text, nl=False)
        return
    _write(output, draft.text, force)
    click.echo(f"{output}: {len(draft.config.models)} models; set model_config_file to it", err=True)


def _write(output: Path, text: str, force: bool) -> None:
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        leave(USAGE, f"{output} is there already; use --force to replace it")
    except OSError as error:
        leave(USAGE, f"{output}: cannot write it: {error.strerror}")
