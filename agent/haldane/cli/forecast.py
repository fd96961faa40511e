"""`haldane forecast`: what can be shown with this traffic and these margins, and when."""

from pathlib import Path

import click

from haldane.cli.exits import USAGE, config_errors, leave


@click.command("forecast")
@click.argument("model")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The config file.")
@click.option("--rows", type=click.IntRange(min=1), help="Labelled rows there are; each is judged once.")
@click.option(
    "--share",
    "shares",
    metavar="SLICE=PERCENT",
    multiple=True,
    help="How much of the traffic a slice has; else what the config says, or 10 %.",
)
def forecast_(model: str, config: Path, rows: int | None, shares: tuple[str, ...]) -> None:
    """How many pairs, and how long, a verdict on MODEL would take.

    \b
      haldane forecast credit_risk --config haldane.yaml
      haldane forecast credit_risk --config haldane.yaml --share country=DE=4%
    """
    from haldane.config import load_config, notes

    with config_errors():
        settings = load_config(config)
    if model not in settings.models:
        leave(USAGE, f"{model} is not among the models of {config}: {', '.join(settings.models) or 'none'}")
    from haldane.judge.forecast import Traffic, forecast

    serving = sum(not server.canary for server in settings.servers)
    rules = settings.rules_of(model)
    traffic = Traffic(
        pairs_per_second=settings.shadow.rate,
        servers=serving,
        labelled_rows=rows,
        shares=_shares(shares, [one.name for one in rules.slices]),
    )
    click.echo(f"{model}, at {settings.shadow.rate:g} pairs a second over {serving} server(s):")
    for outlook in forecast(rules, traffic):
        click.echo(f"  {outlook.sentence()}")
    for note in notes(settings):
        if note.startswith(f"models.{model}:"):
            click.echo(f"note: {note}")


def _shares(given: tuple[str, ...], slices: list[str]) -> dict[str, float]:
    """Shares by slice; a usage error names the slices there are."""
    found = {}
    for text in given:
        name, _, percent = text.rpartition("=")
        try:
            share = float(percent.removesuffix("%")) / 100
        except ValueError:
            share = -1.0
        if name not in slices:
            leave(USAGE, f"--share {text}: no slice {name!r}; the config has {', '.join(slices) or 'none'}")
        if not 0 < share <= 1:
            leave(USAGE, f"--share {text}: write for example {name}=5%")
        found[name] = share
    return found
