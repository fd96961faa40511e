"""`haldane forecast`: what can be shown with this traffic and these margins, and when."""

from pathlib import Path

import click

from haldane.cli.exits import USAGE, config_errors, leave


@click.command("forecast")
@click.argument("model")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The config file.")
@click.option("--rows", type=click.IntRange(min=1), help="Labelled rows there are; each is judged once.")
def forecast_(model: str, config: Path, rows: int | None) -> None:
    """How many pairs, and how long, a verdict on MODEL would take.

    \b
      haldane forecast credit_risk --config haldane.yaml
    """
    from haldane.config import load_config, notes

    with config_errors():
        settings = load_config(config)
    if model not in settings.models:
        leave(USAGE, f"{model} is not among the models of {config}: {', '.join(settings.models) or 'none'}")
    from haldane.judge.forecast import Traffic, forecast

    serving = sum(not server.canary for server in settings.servers)
    traffic = Traffic(pairs_per_second=settings.shadow.rate, servers=serving, labelled_rows=rows)
    click.echo(f"{model}, at {settings.shadow.rate:g} pairs a second over {serving} server(s):")
    for outlook in forecast(settings.rules_of(model), traffic):
        click.echo(f"  {outlook.sentence()}")
    for note in notes(settings):
        if note.startswith(f"models.{model}:"):
            click.echo(f"note: {note}")
