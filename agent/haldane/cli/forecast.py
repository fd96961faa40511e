"""`haldane forecast`: what can be shown with this traffic and these margins, and when."""

from pathlib import Path

import click

from haldane.cli.exits import USAGE, config_errors, leave


@click.command()
@click.argument("model")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The config file.")
def forecast(model: str, config: Path) -> None:
    """How many pairs, and how long, a verdict on MODEL would take.

    \b
      haldane forecast credit_risk --config haldane.yaml
    """
    from haldane.config import load_config

    with config_errors():
        settings = load_config(config)
    if model not in settings.models:
        leave(USAGE, f"{model} is not among the models of {config}: {', '.join(settings.models) or 'none'}")
    from haldane.judge.forecast import sentences

    for sentence in sentences(settings.rules_of(model)):
        click.echo(sentence)
