"""Settings of judging: margins and error rates."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from haldane.config.base import Section
from haldane.config.quantities import Duration, DurationOrZero, Share
from haldane.config.resources import GaugeName, GaugeSection
from haldane.config.slices import SliceSection, slice_forms
from haldane.domain.evidence import Role
from haldane.judge.gauges import Gauge
from haldane.judge.limit import LimitRule, parse_limits
from haldane.judge.margin import parse_margin
from haldane.judge.rules import METRICS, WEIGHTS, MetricRule, Rules, Tail
from haldane.judge.slices import SLICE_WEIGHT, sliced

MetricName = Literal["errors", "accuracy", "disagreement", "drift", "loss", "latency"]

# The harm we would accept without being told otherwise, and what each metric may do about it. Much disagreement or
# drift is no regression, so both are shown only; a loss has a unit of its own, so it is off.
DEFAULTS: Mapping[str, tuple[Role, str]] = {
    "errors": (Role.OBJECTIVE, "+0.5pp"),
    "accuracy": (Role.OBJECTIVE, "-1pp"),
    "latency": (Role.OBJECTIVE, "+15%"),
    "disagreement": (Role.INFO, "5pp"),
    "drift": (Role.INFO, "5pp"),
}


class TailSection(Section):
    """A watch on the slowest requests, for rollback only."""

    quantile: Annotated[float, Field(gt=0.5, lt=1)]
    """Where the tail begins: 0.95 watches the slowest one in twenty."""

    margin: str = "+25%"
    """How much slower the tail may be."""

    def tail(self) -> Tail:
        """The same as the judge takes it; ValueError says what would be right."""
        return Tail(quantile=self.quantile, margin=parse_margin(self.margin, "latency").relative)


class MetricSection(Section):
    """How one metric is judged. `off` in place of the block leaves the metric out."""

    role: Role | None = None
    """`objective` must be shown harmless for a promotion and can roll back; `guardrail` can only roll back; `signal`
    only holds a promotion while it shows harm; `info` is shown only. Default: objective, for disagreement and drift
    info."""

    margin: str | None = None
    """The harm accepted: "1pp" (percentage points), "+15%" (relative to stable), for loss also "0.02 loss"; sums
    such as "+100% +0.01pp" for errors. Default: errors 0.5pp, accuracy 1pp, latency +15%, disagreement and drift
    5pp."""

    limit: str | float | dict[str, str | float] | None = None
    """The most the canary may do whatever stable does, judged beside the margin and able to roll back: for errors a
    share such as "1%", for latency quantiles such as {p99: 250ms}."""

    weight: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Its share of alpha, relative to the others. Default: accuracy and loss 0.4, errors 0.3, latency 0.2,
    disagreement and drift 0.1."""

    reach: Annotated[float, Field(gt=0)] | None = None
    """Loss only: the largest loss that counts."""

    tails: tuple[TailSection, ...] = ()
    """Latency only: quantiles to watch beside the typical ratio, such as [{quantile: 0.95, margin: +20%}]. A regression
    of the slowest requests is then a reason to roll back; together they take half of latency's share of alpha."""

    def rule(self, name: str) -> MetricRule:
        """The same as the judge takes it; ValueError says what would be right."""
        role, margin = DEFAULTS.get(name, (Role.OBJECTIVE, ""))
        return MetricRule(
            name=name,
            role=self.role or role,
            margin=parse_margin(margin if self.margin is None else self.margin, name),
            weight=self.weight or WEIGHTS[name],
            reach=1.0 if self.reach is None else self.reach,
            tails=tuple(tail.tail() for tail in self.tails),
        )

    def limits(self, name: str) -> tuple[LimitRule, ...]:
        """Its absolute limits; ValueError says what would be right."""
        return () if self.limit is None else parse_limits(self.limit, name)


def _metric_forms(value: Any) -> Any:
    """`off` (which YAML reads as false) leaves a metric out; a bare margin stands for {margin: ...}."""
    if value is False:
        return None
    if not isinstance(value, str | dict | MetricSection):
        raise ValueError(f'must be a margin such as "1pp", a block with role and margin, or off; got {value!r:.60}')
    return {"margin": value} if isinstance(value, str) else value


Metric = Annotated[MetricSection | None, BeforeValidator(_metric_forms)]


class MetricsSection(Section):
    """The metrics that are judged."""

    errors: Metric = MetricSection()
    """Calls that failed: time-outs, refused, internal, unreadable answers."""

    accuracy: Metric = MetricSection()
    """Wrong answers, where the right one is known."""

    latency: Metric = MetricSection()
    """Typical ratio of seconds, canary to stable."""

    disagreement: Metric = MetricSection()
    """Answers that differ beyond the tolerance, or in class, oftener than stable's own do when it is asked twice
    (shadow.aa_share; with 0 that noise floor is not measured, and all count)."""

    drift: Metric = MetricSection()
    """The largest gap between the distributions of outputs: at the deciles of stable's first ones, or in the share of a
    class. Needs answers of one row and one number."""

    loss: Metric = None
    """Per-example loss, where the right answer is known. Off unless a margin is given."""

    def rules(self) -> tuple[MetricRule, ...]:
        """One rule per metric that is not off; ValueError says what would be right."""
        chosen = ((name, getattr(self, name)) for name in METRICS)
        return tuple(section.rule(name) for name, section in chosen if section is not None)

    def limits(self) -> tuple[LimitRule, ...]:
        """The absolute limits of all metrics that are not off."""
        chosen = ((name, getattr(self, name)) for name in METRICS)
        return tuple(limit for name, section in chosen if section is not None for limit in section.limits(name))

    @field_validator(*METRICS)
    @classmethod
    def _makes_a_rule(cls, section: MetricSection | None, info: ValidationInfo) -> MetricSection | None:
        if section is not None and info.field_name is not None:
            section.rule(info.field_name)
            section.limits(info.field_name)
        return section

    @model_validator(mode="after")
    def _judges_something(self) -> Self:
        if not self.rules():
            raise ValueError("every metric is off; at least one must be judged")
        return self


class AnalysisSection(Section):
    """How a canary is judged. Copied into the rollout when it starts: changing the file never changes the rules of an
    analysis already under way."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Chance, over the whole rollout and all metrics, of withdrawing a canary that is within every margin."""

    beta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Chance, over the whole rollout, of promoting a canary that is at or beyond a margin."""

    least_pairs: Annotated[int, Field(ge=0)] = 500
    """Pairs to see before any PASS. A FAIL may come sooner."""

    horizon_pairs: Annotated[int, Field(ge=1)] = 20_000
    """Pairs after which an undecided analysis is inconclusive."""

    budget: Duration = timedelta(hours=1)
    """Time after which an undecided analysis is inconclusive."""

    warmup_pairs: Annotated[int, Field(ge=0)] = 200
    """First pairs of each server, which do not count for errors and latency: caches are cold."""

    entry_pairs: Annotated[int, Field(ge=1)] = 500
    """A metric without data in this many pairs is left out, and the report says so."""

    dependence: DurationOrZero = timedelta(seconds=2)
    """How long noise that slows one side only may last (garbage collection, a neighbour); 0 on a bench. Declare
    generously: latency is judged in blocks of three and a half times this, and needs a dozen of them."""

    baseline_errors: Share = 0.1
    """While stable itself fails more than this share of its requests ("10%"), nothing is promoted against it; a server
    on which it does while others are well is set aside."""

    metrics: MetricsSection = MetricsSection()
    """The metrics, with role and margin each."""

    slices: Annotated[tuple[SliceSection, ...], BeforeValidator(slice_forms)] = ()
    """Requests that are also judged by themselves, such as [country=DE, {field: segment, values: [new, loyal]}]; at
    most 32 values in all."""

    slice_weight: Annotated[float, Field(gt=0, le=10)] = SLICE_WEIGHT
    """What all slices of a metric together weigh, relative to the metric itself."""

    gauges: dict[GaugeName, GaugeSection] = Field(default_factory=dict)
    """Gauges to judge besides, by a name of your own: CPU, memory, load time, any PromQL query."""

    @field_validator("gauges")
    @classmethod
    def _named_apart(cls, gauges: dict[str, GaugeSection]) -> dict[str, GaugeSection]:
        if taken := sorted(set(gauges) & set(METRICS)):
            raise ValueError(f"{taken[0]} is a metric's name; call the gauge otherwise")
        if sum(gauge.kind is Gauge.CPU for gauge in gauges.values()) > 1:
            raise ValueError("only one gauge can be of kind cpu: blocks of pairs have one schedule")
        return gauges

    def rules(self, *, rate_per_second: float, floor: bool = False, classes: bool = False) -> Rules:
        """The same as the judge takes it; `floor`: A/A pairs are sent; `classes`: outputs are scores of classes."""
        metrics = tuple(_fitted(rule, floor=floor, classes=classes) for rule in self.metrics.rules())
        slices = [one for section in self.slices for one in section.rules(metrics)]
        return Rules(
            metrics=metrics + sliced(metrics, slices, weight=self.slice_weight),
            slices=tuple(one.slice for one in slices),
            limits=self.metrics.limits(),
            gauges=tuple(gauge.rule(name) for name, gauge in self.gauges.items()),
            alpha=self.alpha,
            beta=self.beta,
            least_pairs=self.least_pairs,
            horizon_pairs=self.horizon_pairs,
            budget_seconds=self.budget.total_seconds(),
            warmup_pairs=self.warmup_pairs,
            entry_pairs=self.entry_pairs,
            dependence_seconds=self.dependence.total_seconds(),
            rate_per_second=rate_per_second,
            baseline_errors=self.baseline_errors,
        )

    @property
    def fields(self) -> frozenset[str]:
        """The request fields that slices are made by."""
        return frozenset(section.field for section in self.slices)

    @model_validator(mode="after")
    def _makes_rules(self) -> Self:
        self.rules(rate_per_second=1.0)
        return self


def _fitted(rule: MetricRule, *, floor: bool, classes: bool) -> MetricRule:
    """The rule with what other sections of the config say of its readings."""
    if rule.measures == "disagreement":
        return replace(rule, floor=floor)
    return replace(rule, classes=classes) if rule.measures == "drift" else rule
