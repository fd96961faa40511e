"""Absolute limits on the canary alone, and how people write them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from haldane.domain.evidence import Role

# Far from what is normal, so harm beyond it shows fast on a small share of alpha.
LIMIT_WEIGHT = 0.1
_SHARE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*")
_SECONDS = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|)\s*")
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")
_SIZES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_EXAMPLES = {"errors": 'write for example "1%"', "latency": "write for example {p99: 250ms}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRule:
    """The most the canary may do, whatever stable does; judged without a baseline too.

    At most `share` of its requests may be bad: fail (`measures` "errors"), or
    take longer than `seconds` ("latency"; its 1 - share quantile is limited).
    """

    measures: str
    share: float
    seconds: float | None = None
    role: Role = Role.GUARDRAIL
    weight: float = LIMIT_WEIGHT

    def __post_init__(self) -> None:
        if self.measures not in _EXAMPLES:
            raise ValueError(f"{self.measures} takes no limit; {' and '.join(_EXAMPLES)} do")
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"{self.measures}: a limit lies above 0 % and below 100 %; {_EXAMPLES[self.measures]}")
        if (self.seconds is None) != (self.measures == "errors"):
            raise ValueError(f"{self.measures}: {_EXAMPLES[self.measures]} as its limit")
        if self.seconds is not None and not 0.0 < self.seconds < float("inf"):
            raise ValueError(f"latency: a limit is a time above 0; {_EXAMPLES['latency']}")
        if not 0.0 < self.weight < float("inf"):
            raise ValueError(f"{self.name}: weight must be positive, got {self.weight!r}")

    @property
    def name(self) -> str:
        if self.seconds is None:
            return f"errors limit {100 * self.share:.10g}%"
        return f"latency p{100 * (1 - self.share):.10g} limit {1000 * self.seconds:.10g}ms"


def parse_limits(given: object, metric: str) -> tuple[LimitRule, ...]:
    """The limits written as "1%" for errors, as {p99: 250ms} (one or more quantiles) for latency.

    ValueError says what is wrong and what would do.
    """
    if metric not in _EXAMPLES:
        raise ValueError(f"limit: {metric} takes none; {' and '.join(_EXAMPLES)} do")
    if metric == "errors":
        return (LimitRule(measures=metric, share=_share(given)),)
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"limit {given!r} for latency names no quantile; {_EXAMPLES['latency']}")
    return tuple(
        LimitRule(measures=metric, share=_beyond(quantile), seconds=_seconds(quantile, time))
        for quantile, time in given.items()
    )


def _share(given: object) -> float:
    part = _SHARE.fullmatch(str(given))
    if part is None:
        raise ValueError(f"limit {given!r} for errors cannot be read; {_EXAMPLES['errors']}")
    if not part[2]:
        raise ValueError(f"limit {given!r} for errors has no unit; {_EXAMPLES['errors']}")
    return float(part[1]) / 100


def _beyond(quantile: object) -> float:
    """The share beyond a quantile written p99, rounded so that it is the share a person means."""
    part = _QUANTILE.fullmatch(str(quantile))
    if part is None:
        raise ValueError(f"limit for latency: {quantile!r} is no quantile; {_EXAMPLES['latency']}")
    return round(1 - float(part[1]) / 100, 12)


def _seconds(quantile: object, given: object) -> float:
    part = _SECONDS.fullmatch(str(given))
    if part is None:
        raise ValueError(f"limit {quantile}: {given!r} for latency is no time; {_EXAMPLES['latency']}")
    if not part[2]:
        raise ValueError(f"limit {quantile}: {given!r} for latency has no unit; {_EXAMPLES['latency']}")
    return float(part[1]) * _SIZES[part[2]]
