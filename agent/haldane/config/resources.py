"""Settings of gauges: CPU, memory, load time, and any query, with where the numbers come from."""

import re
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from haldane.config.base import Section
from haldane.config.quantities import POWERS, Duration, DurationOrZero, HttpUrl
from haldane.domain.evidence import Role
from haldane.judge.gauges import FACT_WEIGHT, GAUGE_WEIGHT, Gauge, GaugeRule

_MARGIN = re.compile(r"\s*([+-]?)\s*(\d+(?:\.\d+)?)\s*%\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k|M|G|T|Ki|Mi|Gi|Ti)?B\s*(/\s*h)?\s*")
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m)\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_EXAMPLES = {Gauge.MEMORY: '"500MB"', Gauge.GROWTH: '"100MB/h"', Gauge.LOAD: '"30s"'}

PLACEHOLDERS = ("model", "version", "side", "server")


def _known_placeholders(query: str, known: tuple[str, ...]) -> str:
    template = Template(query)
    names = ", ".join(f"${name}" for name in known)
    if not template.is_valid():
        raise ValueError(f"a lone $ must be written $$; names after $ are {names}")
    if unknown := [name for name in template.get_identifiers() if name not in known]:
        raise ValueError(f"nothing is filled in for ${unknown[0]}; there are {names}, and $$ is a plain $")
    return query


def _server_query(query: str) -> str:
    return _known_placeholders(query, ("server",))


GaugeName = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=100)]
ServerQuery = Annotated[str, AfterValidator(_server_query), Field(min_length=1)]


class PrometheusSection(Section):
    """A Prometheus-compatible server (Thanos and others too) that gauges are read from, by its instant query API."""

    url: HttpUrl
    """Base URL, e.g. http://prometheus:9090."""

    timeout: Duration = timedelta(seconds=5)
    """For each query; a later answer is no reading."""

    token_file: Path | None = None
    """File that holds a bearer token."""

    token_env: str | None = None
    """Environment variable that holds a bearer token."""

    ca: Path | None = None
    """PEM file of the authority that signed the server's certificate; the system's authorities by default."""

    cpu: ServerQuery | None = None
    """Query of one server's CPU seconds (a counter), for servers without process_url; `$server` is the server's name,
    e.g. sum(container_cpu_usage_seconds_total{pod="$server"})."""

    memory: ServerQuery | None = None
    """The same for its resident bytes, e.g. sum(container_memory_rss{pod="$server"})."""


class GaugeSection(Section):
    """A gauge: what is judged besides pairs, read by a clock. By the margin or limit that is given."""

    kind: Gauge = Gauge.QUERY
    """`query` asks Prometheus once per side; `cpu` compares CPU per request of both versions in one process, by blocks
    of stable-stable and stable-canary pairs in turn; `memory` is what loading a version added; `memory_growth` how
    fast memory grows while the canary is loaded; `load_time` how long loading took."""

    query: str | None = None
    """PromQL that gives one number; `$version` or `$side` (stable, canary) tells the sides apart; also `$model` and, to
    ask server by server, `$server`. `$$` is a plain $."""

    counter: bool = False
    """The query gives a count that only grows; its rate is compared."""

    direction: Literal["lower", "higher"] = "lower"
    """Which way is better."""

    margin: str | None = None
    """The harm accepted, relative to stable: "+10%", or "-10%" where higher is better."""

    limit: str | None = None
    """The most accepted of the canary alone: of memory "500MB", of memory_growth "100MB/h", of load_time "30s"."""

    role: Role = Role.GUARDRAIL
    """As for metrics. Pods and servers differ by themselves, so a gauge is a guardrail unless said otherwise."""

    weight: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Its share of alpha, relative to the others. Default: 0.1; for memory and load_time 0.001, since chance has no
    part in what they find."""

    every: Duration = timedelta(seconds=5)
    """How often it is read; no oftener than Prometheus scrapes, for a reading twice is no evidence."""

    block: Duration = timedelta(seconds=60)
    """Readings of this long make one vote. With cpu, how long each kind of pair is sent; at least ten scrapes."""

    warmup: DurationOrZero = timedelta(seconds=120)
    """The first readings, which do not count."""

    def rule(self, name: str) -> GaugeRule:
        """The same as the judge takes it; ValueError says what would be right."""
        return GaugeRule(
            name=name,
            kind=self.kind,
            role=self.role,
            margin=_margin(self.margin, self.direction),
            limit=_limit(self.limit, self.kind),
            weight=self.weight or (FACT_WEIGHT if self.kind.fact else GAUGE_WEIGHT),
            higher_is_worse=self.direction == "lower",
            counter=self.counter,
            query=self.query or "",
            every_seconds=self.every.total_seconds(),
            block_seconds=self.block.total_seconds(),
            warmup_seconds=self.warmup.total_seconds(),
        )

    @model_validator(mode="after")
    def _makes_a_rule(self) -> Self:
        try:
            self.rule("")
        except ValueError as error:
            raise ValueError(str(error).removeprefix(": ")) from None
        if self.query is not None:
            _known_placeholders(self.query, PLACEHOLDERS)
            if not {"version", "side"} & set(Template(self.query).get_identifiers()):
                raise ValueError("query is the same for both sides; $version or $side must tell them apart")
        return self


def _margin(text: str | None, direction: str) -> float:
    if text is None:
        return 0.0
    better = "+10%" if direction == "lower" else "-10%"
    match = _MARGIN.fullmatch(text)
    if match is None:
        raise ValueError(f'margin {text!r} must be a share of stable with its unit, for example "{better}"')
    if match[1] == ("-" if direction == "lower" else "+"):
        raise ValueError(f'margin {text!r} would ask for an improvement; a margin is the harm accepted: "{better}"')
    if not float(match[2]):
        raise ValueError(f'a margin of zero can never be shown to be kept; write for example "{better}"')
    return float(match[2]) / 100


def _limit(text: str | None, kind: Gauge) -> float | None:
    if text is None:
        return None
    if kind not in _EXAMPLES:
        raise ValueError(f'{kind} takes no limit; give a margin relative to stable such as "+10%"')
    wanted = f"limit {text!r} of {kind} must be written with its unit, for example {_EXAMPLES[kind]}"
    if kind is Gauge.LOAD:
        if (match := _TIME.fullmatch(text)) is None:
            raise ValueError(wanted)
        return float(match[1]) * _SECONDS[match[2]]
    if (match := _SIZE.fullmatch(text)) is None or bool(match[3]) != (kind is Gauge.GROWTH):
        raise ValueError(wanted)
    return float(match[1]) * POWERS[match[2] or ""]
