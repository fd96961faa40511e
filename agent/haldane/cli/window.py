"""What `haldane backtest --prometheus` asks for: two series of a past window, as material to judge."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haldane.cli.cases import rules_of_file
from haldane.cli.exits import INCONCLUSIVE, INFRASTRUCTURE, USAGE, config_errors, leave
from haldane.cli.material import Material

if TYPE_CHECKING:
    from haldane.adapters.promql import Window
    from haldane.judge.rules import Rules

TIMEOUT_SECONDS = 30.0  # a day of a series is asked for in one go
FEWEST_POINTS = 40  # ten blocks of four; a verdict takes about as many


@dataclass(frozen=True, slots=True)
class Asked:
    """The window as a person wrote it."""

    url: str | None  # None: the config's
    stable: str | None
    canary: str | None
    margin: str
    lower_is_worse: bool
    last: str
    end: str | None
    step: str


def window_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that name a window; the command takes `window`, None where none of its series is named."""

    @click.option("--stable", metavar="EXPR", help="Judge a past window of two series instead: PromQL of this one,")
    @click.option("--canary", metavar="EXPR", help="and of this one.")
    @click.option("--prometheus", metavar="URL", help="Where they are.  [default: of --config]")
    @click.option(
        "--margin", metavar="RATIO", default="+10%", show_default=True, help="Harm accepted, relative to stable."
    )
    @click.option("--worse", type=click.Choice(["higher", "lower"]), default="higher", show_default=True)
    @click.option("--last", metavar="TIME", default="6h", show_default=True, help="Length of the window.")
    @click.option("--end", metavar="TIME", help="Its end: ISO 8601 or seconds since 1970.  [default: now]")
    @click.option("--step", metavar="TIME", default="15s", show_default=True, help="Between two readings.")
    @functools.wraps(command)
    def with_window(
        stable: str | None,
        canary: str | None,
        prometheus: str | None,
        margin: str,
        worse: str,
        last: str,
        end: str | None,
        step: str,
        **others: Any,
    ) -> Any:
        if not any((prometheus, stable, canary)):
            return command(window=None, **others)
        asked = Asked(prometheus, stable, canary, margin, worse == "lower", last, end, step)
        return command(window=asked, **others)

    return with_window


def material_of_window(asked: Asked, config: Path | None, policy: Path | None) -> Material:
    """The two series on their common times, judged as a gauge; leaves with what is missing."""
    import numpy as np

    from haldane.judge.replay import opinion
    from haldane.judge.series import from_series, series_rules

    step = _seconds("--step", asked.step)
    margin = _margin(asked)
    stable, canary = _fetch(asked, config, step)
    at, left, right = np.intersect1d(stable.at, canary.at, return_indices=True)
    values = stable.values[left], canary.values[right]
    usable = (values[0] > 0) & (values[1] > 0)
    if dropped := int((~usable).sum()):
        click.echo(
            f"note: {dropped:,} of {len(at):,} readings are not above 0 on both sides and are left out", err=True
        )
    at, values = at[usable], (values[0][usable], values[1][usable])
    if len(at) < FEWEST_POINTS:
        says = f"no data: {len(at)} readings of both sides ({len(stable.at)} stable, {len(canary.at)} canary)"
        leave(INCONCLUSIVE, f"{says}; at least {FEWEST_POINTS} are needed. Is the window right?")
    what = "stable/canary" if asked.lower_is_worse else "canary/stable"
    rules = series_rules(_policy(policy or config), margin, name=what, points=len(at), step_seconds=step)
    pairs = from_series(at, *values, lower_is_worse=asked.lower_is_worse)
    # A look every block: what the agent would have done while the window was written.
    size = rules.block_pairs
    entries = [pairs[first : first + size] for first in range(0, len(pairs), size)]
    name = f"{_utc(at[0])} to {_utc(at[-1])}"
    return Material(rules, (name,), ("",), (opinion(rules, entries),), (pairs,))


def _policy(path: Path | None) -> "Rules":
    if path is not None:
        return rules_of_file(path, model="", rate_per_second=1.0)
    from haldane.config.analysis import AnalysisSection

    return replace(AnalysisSection().rules(rate_per_second=1.0), dependence_seconds=0.0)


def _fetch(asked: Asked, config: Path | None, step: float) -> "tuple[Window, Window]":
    from haldane.adapters.promql import open_range, query_range
    from haldane.ports import NoData, PortError, Refused

    if asked.stable is None or asked.canary is None:
        leave(USAGE, "a window of Prometheus needs both --stable EXPR and --canary EXPR")
    end = time.time() if asked.end is None else _moment(asked.end)
    end = end - end % step  # both sides, and the same window asked for again, on the same times
    start = end - _seconds("--last", asked.last)
    try:
        with open_range(**_server(asked.url, config)) as http:
            stable = query_range(http, asked.stable, start=start, end=end, step=step)
            return stable, query_range(http, asked.canary, start=start, end=end, step=step)
    except NoData as error:
        leave(INCONCLUSIVE, f"no data: {error.detail}")
    except PortError as error:
        leave(USAGE if isinstance(error, Refused) else INFRASTRUCTURE, str(error))


def _server(url: str | None, path: Path | None) -> dict[str, Any]:
    """Its URL, and with the config's own what it takes to be let in."""
    from haldane.config import load_config

    if url is not None:
        return {"url": url, "timeout_seconds": TIMEOUT_SECONDS}
    if path is None:
        leave(USAGE, "give --prometheus URL, or --config FILE with a prometheus: block")
    with config_errors():
        config = load_config(path)
    if config.prometheus is None:
        leave(USAGE, f"{path} has no prometheus: block; give --prometheus URL")
    secret, ca = config.prometheus_token, config.prometheus.ca
    return {
        "url": config.prometheus.url,
        "timeout_seconds": TIMEOUT_SECONDS,
        "token": secret.get_secret_value() if secret else None,
        "ca": str(ca) if ca else None,
    }


def _margin(asked: Asked) -> float:
    """Of the ratio that is judged: worse side over better."""
    from haldane.judge.margin import parse_margin

    text = asked.margin.replace("-", "+") if asked.lower_is_worse else asked.margin
    try:
        relative = parse_margin(text, "latency").relative
    except ValueError as error:
        leave(USAGE, f"--margin: {str(error).replace(' for latency', '')}")
    if not asked.lower_is_worse:
        return relative
    if relative >= 1:
        leave(USAGE, f"--margin {asked.margin}: a drop of 100 % or more is no margin")
    return 1 / (1 - relative) - 1


def _seconds(option: str, text: str) -> float:
    from pydantic import TypeAdapter, ValidationError

    from haldane.config.quantities import Duration

    try:
        return TypeAdapter(Duration).validate_python(text).total_seconds()
    except ValidationError as error:
        leave(USAGE, f"{option}: {error.errors()[0]['msg'].removeprefix('Value error, ')}")


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        leave(USAGE, f"--end {text}: write 2026-03-01T12:00:00Z, or seconds since 1970")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _utc(at: float) -> str:
    return datetime.fromtimestamp(float(at), UTC).strftime("%Y-%m-%d %H:%MZ")
