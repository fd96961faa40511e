"""The rules of judging: fixed and hashed when a rollout starts, never changed after."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from haldane.domain.evidence import Role
from haldane.judge.gauges import Gauge, GaugeRule
from haldane.judge.limit import LimitRule
from haldane.judge.margin import Margin
from haldane.stats.blocks import block_length

T = TypeVar("T")

SCHEMA = 2
READS = (1, 2)  # rules of schema 1 lack what has a default here
METRICS = ("errors", "accuracy", "disagreement", "drift", "loss", "latency")
MOST_SLICES = 32  # a pair says by one bit each which slices it belongs to
# The operator's prior on where harm shows; halving a weight costs 0.7 nats, some 10 to 15 % more pairs.
WEIGHTS = {"accuracy": 0.4, "errors": 0.3, "latency": 0.2, "loss": 0.4, "disagreement": 0.1, "drift": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The pairs whose request field has this value; named before the hearing, since it takes a share of alpha."""

    field: str
    value: str

    @property
    def name(self) -> str:
        return f"{self.field}={self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """A watch on the slow tail of latency: canary's may be slower by `margin`, as a ratio, from this quantile on."""

    quantile: float
    margin: float = 0.25

    def __post_init__(self) -> None:
        _require(0.5 < self.quantile < 1.0, f"latency: a tail begins between 0.5 and 1, not at {self.quantile!r}")
        _require(0.0 < self.margin < math.inf, f"latency: the margin of a tail must be positive: {self.margin!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRule:
    """How one metric is judged.

    `weight` is its share of alpha (shares are taken relative to those of all
    metrics that can roll back). `reach` is the largest loss that counts.
    `floor`: disagreement is judged beyond what stable disagrees with itself,
    so that there must be A/A pairs. `classes`: outputs are indices of classes,
    of which drift compares the shares. `tails` of latency are watched for
    rollback only, and share half of its stake.
    """

    name: str
    role: Role
    margin: Margin
    kind: str = ""  # what it measures; "" when the name says it
    slice: int | None = None  # index into the rules' slices; None: all pairs
    share: float = 1.0  # of all requests that it is expected to see
    weight: float = 1.0
    reach: float = 1.0
    floor: bool = False
    classes: bool = False
    tails: tuple[Tail, ...] = ()

    def __post_init__(self) -> None:
        if self.measures not in METRICS:
            raise ValueError(f"unknown metric {self.measures!r}; known are {', '.join(METRICS)}")
        _require(0.0 < self.weight < math.inf, f"{self.name}: weight must be positive, got {self.weight!r}")
        _require(0.0 < self.share <= 1.0, f"{self.name}: share must lie above 0 and up to 1, got {self.share!r}")
        _require(0.0 < self.reach < math.inf, f"{self.name}: reach must be positive, got {self.reach!r}")
        if self.measures == "latency":
            _require(self.margin.absolute == 0.0, 'latency: the margin is a ratio, for example "+10%"')
        elif self.measures in ("accuracy", "disagreement", "drift"):
            _require(self.margin.relative == 0.0, f'{self.name}: the margin is in percentage points, for example "1pp"')
        reach = self.reach if self.measures == "loss" else 1.0
        _require(self.margin.absolute < reach, f"{self.name}: margin {self.margin.absolute!r} allows any harm at all")
        _require(not self.floor or self.measures == "disagreement", f"{self.name}: only disagreement has a noise floor")
        _require(not self.classes or self.measures == "drift", f"{self.name}: only drift compares classes")
        _require(not self.tails or self.measures == "latency", f"{self.name}: only latency has tails to watch")
        quantiles = [tail.quantile for tail in self.tails]
        _require(len(set(quantiles)) == len(quantiles), f"{self.name}: a tail is listed twice: {quantiles}")

    @property
    def measures(self) -> str:
        """One of METRICS: which readings it is judged on."""
        return self.kind or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What was fixed before the hearing.

    `alpha` bounds the chance of ever rolling back a canary within every
    margin, `beta` that of ever passing one at or beyond the margin of an
    objective, over all metrics and looks together. A pair counts once its
    server has had `warmup_pairs`. `dependence_seconds` is the declared time
    scale of noise that hits one side only; `rate_per_second` the pairs per
    second expected over all servers. Metrics without data in the first
    `entry_pairs` counted pairs never enter, except accuracy and loss where
    `late_labels` says that their truth comes later. While stable itself fails
    more than the share `baseline_errors` of its requests, nothing passes. Without
    a `baseline` (a first version) canary's side alone is judged. Each of `extensions` by a person
    gives horizon and budget once more; the evidence goes on as it was, so
    nothing of alpha or beta is spent.
    """

    metrics: tuple[MetricRule, ...]
    slices: tuple[Slice, ...] = ()
    limits: tuple[LimitRule, ...] = ()
    gauges: tuple[GaugeRule, ...] = ()
    alpha: float = 0.01
    beta: float = 0.05
    least_pairs: int = 500
    horizon_pairs: int = 20_000
    budget_seconds: float = 3600.0
    warmup_pairs: int = 200
    entry_pairs: int = 500
    dependence_seconds: float = 2.0
    rate_per_second: float = 20.0
    baseline_errors: float = 0.1
    extensions: int = 0
    late_labels: bool = False
    baseline: bool = True

    def __post_init__(self) -> None:
        _require(0.0 < self.alpha < 1.0, f"alpha must lie between 0 and 1, got {self.alpha!r}")
        _require(0.0 < self.beta < 1.0, f"beta must lie between 0 and 1, got {self.beta!r}")
        _require(self.horizon_pairs >= 1, f"horizon_pairs must be at least 1, got {self.horizon_pairs!r}")
        _require(self.least_pairs >= 0, f"least_pairs must not be negative, got {self.least_pairs!r}")
        _require(self.warmup_pairs >= 0, f"warmup_pairs must not be negative, got {self.warmup_pairs!r}")
        _require(self.entry_pairs >= 1, f"entry_pairs must be at least 1, got {self.entry_pairs!r}")
        _require(self.budget_seconds > 0.0, f"budget_seconds must be positive, got {self.budget_seconds!r}")
        _require(0 <= self.dependence_seconds < math.inf, f"dependence_seconds: {self.dependence_seconds!r}")
        _require(0 < self.rate_per_second < math.inf, f"rate_per_second must be positive: {self.rate_per_second!r}")
        _require(0.0 < self.baseline_errors < 1.0, f"baseline_errors: not between 0 and 1: {self.baseline_errors!r}")
        _require(self.extensions >= 0, f"extensions must not be negative, got {self.extensions!r}")
        _require(bool(self.metrics or self.limits), "at least one metric must be judged")
        _require(len(self.slices) <= MOST_SLICES, f"at most {MOST_SLICES} slices, got {len(self.slices)}")
        known = [one.name for one in self.slices]
        _require(len(set(known)) == len(known), f"a slice is listed twice: {', '.join(known)}")
        names = [rule.name for rule in self.metrics]
        names += [*(limit.name for limit in self.limits), *(rule.name for rule in self.gauges)]
        _require(len(set(names)) == len(names), f"a metric is listed twice: {', '.join(names)}")
        for rule in self.metrics:
            there = rule.slice is None or 0 <= rule.slice < len(self.slices)
            _require(there, f"{rule.name}: there is no slice {rule.slice!r}")

    @property
    def block_pairs(self) -> int:
        """Pairs in a base block of latency."""
        return block_length(dependence_seconds=self.dependence_seconds, pairs_per_second=self.rate_per_second)

    def seen_by(self, rule: MetricRule) -> "Rules":
        """The same with rate and horizon as they are for that rule's share of all requests."""
        if rule.share == 1.0:
            return self
        horizon = max(1, round(self.horizon_pairs * rule.share))
        return replace(self, rate_per_second=self.rate_per_second * rule.share, horizon_pairs=horizon)

    @property
    def switchback(self) -> bool:
        """Blocks of A/A pairs take turns with blocks of A/B pairs, so that CPU can be told apart."""
        return any(gauge.kind is Gauge.CPU for gauge in self.gauges)

    @property
    def last_pair(self) -> int:
        """Counted pairs after which an undecided analysis is inconclusive."""
        return self.horizon_pairs * (1 + self.extensions)

    @property
    def last_second(self) -> float:
        """Seconds of judging after which an undecided analysis is inconclusive."""
        return self.budget_seconds * (1 + self.extensions)

    @property
    def objectives(self) -> tuple[str, ...]:
        return tuple(rule.name for rule in self.metrics if rule.role is Role.OBJECTIVE)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON with a schema number: equal rules give equal text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Rules":
        """The rules written by `to_json`; ValueError names what is wrong, another schema included."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"rules are not JSON: {error}") from error
        if not isinstance(data, dict) or "schema" not in data:
            raise ValueError("rules have no schema number")
        if data["schema"] not in READS:
            known = " and ".join(str(number) for number in READS)
            raise ValueError(f"rules are of schema {data['schema']!r}; this version reads {known}")
        values = _known(data, {"schema"} | {entry.name for entry in fields(cls)}, "rules")
        del values["schema"]
        metrics = values.pop("metrics", None)
        if not isinstance(metrics, list):
            raise ValueError("rules: metrics must be a list")
        lists = {name: values.pop(name, []) for name in ("slices", "limits", "gauges")}
        for name, entries in lists.items():
            if not isinstance(entries, list):
                raise ValueError(f"rules: {name} must be a list")
        return _build(
            cls,
            {
                **values,
                "metrics": tuple(_metric(entry) for entry in metrics),
                "slices": tuple(_build(Slice, _known(entry, {"field", "value"}, "slice")) for entry in lists["slices"]),
                "limits": tuple(_limit(entry) for entry in lists["limits"]),
                "gauges": tuple(_gauge(entry) for entry in lists["gauges"]),
            },
        )


_ONE_TAIL = {"tail_quantile", "tail_margin"}  # how rules named a single watch before there were several


def _metric(data: Any) -> MetricRule:
    values = _known(data, {entry.name for entry in fields(MetricRule)} | _ONE_TAIL, "metric")
    role = Role(values.get("role", ""))
    margin = _known(values.get("margin"), {"absolute", "relative"}, "margin")
    tails = tuple(_build(Tail, _known(tail, {"quantile", "margin"}, "tail")) for tail in _tails(values))
    return _build(MetricRule, {**values, "role": role, "margin": _build(Margin, margin), "tails": tails})


def _tails(values: dict[str, Any]) -> list[Any]:
    """The tails among a metric's values, taken out of them."""
    quantile, margin = values.pop("tail_quantile", None), values.pop("tail_margin", 0.25)
    tails = values.pop("tails", [])
    if not isinstance(tails, list):
        raise ValueError("metric: tails must be a list")
    return tails if quantile is None else [{"quantile": quantile, "margin": margin}]


def _gauge(data: Any) -> GaugeRule:
    values = _known(data, {entry.name for entry in fields(GaugeRule)}, "gauge")
    role, kind = Role(values.get("role", "")), Gauge(values.get("kind", ""))
    return _build(GaugeRule, {**values, "role": role, "kind": kind})


def _limit(data: Any) -> LimitRule:
    values = _known(data, {entry.name for entry in fields(LimitRule)}, "limit")
    return _build(LimitRule, {**values, "role": Role(values.get("role", ""))})


def _known(data: Any, names: set[str], where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected an object, got {data!r}")
    unknown = sorted(set(data) - names)
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(names))}")
    return dict(data)


def _build(kind: type[T], values: dict[str, Any]) -> T:
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
