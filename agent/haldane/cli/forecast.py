"""`haldane forecast`: what can be shown with this traffic and these margins, and when."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from haldane.cli.exits import USAGE, config_errors, leave

if TYPE_CHECKING:
    from haldane.config import Config
    from haldane.judge.traffic import Traffic

_SAYS = {
    "en": {
        "opening": "{model}, at {rate:.3g} pairs a second over {servers} server(s):",
        "measured": "Rates as measured in rollout {rollout}, {pairs} pairs.",
        "guessed": "Rates are guesses: no rollout of this model with {least} pairs is on record yet.",
    },
    "zh": {
        "opening": "{model}，每秒 {rate:.3g} 对，共 {servers} 台服务器：",
        "measured": "各项比率取自上线 {rollout} 的实测，共 {pairs} 对。",
        "guessed": "各项比率为估计值：尚无该模型达到 {least} 对的上线记录。",
    },
}


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
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True)
def forecast_(model: str, config: Path, rows: int | None, shares: tuple[str, ...], language: str) -> None:
    """How many pairs, and how long, a verdict on MODEL would take, and what could not be shown at all.

    Rates (how often answers differ, fail, how far latency spreads) are those
    of the model's newest rollout in the agent's store, where there is one.

    \b
      haldane forecast credit_risk --config haldane.yaml
      haldane forecast credit_risk --config haldane.yaml --share country=DE=4%
    """
    from haldane.config import load_config, notes

    with config_errors():
        settings = load_config(config)
    if model not in settings.models:
        leave(USAGE, f"{model} is not among the models of {config}: {', '.join(settings.models) or 'none'}")
    from haldane.judge.forecast import forecast
    from haldane.judge.foretold import foretell
    from haldane.judge.traffic import Traffic

    # How many servers a list has is not known here: each takes a warm-up of its own, so the figure is a least one.
    serving = max(1, sum(not server.canary for server in settings.servers))
    says = _SAYS[language]
    shadow, rules = settings.shadow, settings.rules_of(model)
    canary_share = (1 - shadow.aa_share) / (2 if rules.switchback else 1)  # half of its blocks are of stable alone
    guess = Traffic(
        pairs_per_second=shadow.rate * canary_share,
        servers=serving,
        labelled_rows=rows,
        aa_share=shadow.aa_share,
        shares=_shares(shares, [one.name for one in rules.slices]),
    )
    traffic, told = _measured(settings, model, guess, says)
    click.echo(says["opening"].format(model=model, rate=traffic.pairs_per_second, servers=serving))
    for outlook in forecast(rules, traffic):
        click.echo(f"  {foretell(outlook, language)}")
    click.echo(told)
    for note in notes(settings):
        if note.startswith(f"models.{model}:"):
            click.echo(f"note: {note}")


def _measured(settings: "Config", model: str, guess: "Traffic", says: dict[str, str]) -> tuple["Traffic", str]:
    """The traffic of the model's newest rollout on record, or the guess; and a sentence saying which."""
    from haldane.adapters.sql import open_store
    from haldane.engine.judging import rules_of
    from haldane.judge.traffic import LEAST_MEASURED, measured
    from haldane.ports import PortError

    guessed = says["guessed"].format(least=LEAST_MEASURED)
    try:
        store = open_store(settings.store_url.get_secret_value(), new=False)
    except PortError:  # no agent has run yet
        return guess, guessed
    try:
        for rollout in store.rollouts():
            if rollout.model != model:
                continue
            entries = list(store.evidence(rollout.id))
            traffic = measured(entries, guess, rules_of(rollout).slices)
            if traffic is not guess:
                pairs = f"{sum(len(entry) for entry in entries):,}"
                return traffic, says["measured"].format(rollout=rollout.id, pairs=pairs)
    except PortError as error:
        return guess, f"{guessed} ({error})"
    finally:
        store.close()
    return guess, guessed


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
