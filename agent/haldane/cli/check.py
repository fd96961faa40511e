"""`haldane check`: is it right before it runs?"""

from pathlib import Path

import click

from haldane.cli.exits import INFRASTRUCTURE, config_errors, leave
from haldane.cli.servingconfig import serving_config


@click.group()
def check() -> None:
    """Check things before they are used."""


@check.command("config")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--online", is_flag=True, help="Also reach servers and topics, compare models, read the traffic.")
def config_(file: Path, online: bool) -> None:
    """Every mistake in the config FILE, with line, key and what would be right.

    \b
      haldane check config haldane.yaml
      haldane check config haldane.yaml --online

    Exit codes: 0 fine, 2 mistakes, 4 (with --online) a server or a file could
    not be read or is not as the config says.
    """
    from haldane.config import load_config, notes
    from haldane.serving.modelconfig import parse

    with config_errors():
        settings = load_config(file, parse_models=lambda text, source: parse(text, source=source))
    models = ", ".join(settings.models) or "no models"
    click.echo(f"{file}: fine; mode {settings.mode}, {len(settings.servers)} server(s), {models}")
    for note in notes(settings):
        click.echo(f"note: {note}")
    if not online:
        return
    import asyncio

    from haldane.cli.online import findings

    wrong = False
    for good, sentence in asyncio.run(findings(settings)):
        click.echo(f"{'ok ' if good else 'NO '} {sentence}", err=not good)
        wrong = wrong or not good
    if wrong:
        leave(INFRASTRUCTURE, "not everything is as the config says")


check.add_command(serving_config)
