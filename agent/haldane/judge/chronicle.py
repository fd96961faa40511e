"""When things happened in a hearing: evidence that first sufficed, metrics that fell silent.

For the reader only; no verdict rests on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from haldane.domain.evidence import State

_NEVER = "{metric} never entered: it had no data when the metrics to judge were fixed"
_SILENT = "{metric} has given no data since pair {last.pairs:,} ({last.seconds:,.0f} s)"


@dataclass(frozen=True, slots=True)
class Crossing:
    """The moment a metric's evidence first reached its threshold."""

    pairs: int
    seconds: float
    since: int  # pair at which the start that carried it was opened; 0: the beginning


@dataclass(frozen=True, slots=True)
class Silence:
    """The last reading of a metric."""

    pairs: int
    seconds: float


class Chronicle:
    """Moments by metric."""

    def __init__(self) -> None:
        self._opened = [0]  # the pair at which each start was opened, the beginning first
        self._crossed: dict[tuple[str, State], Crossing] = {}
        self._last: dict[str, Silence] = {}

    def opened(self, pairs: int) -> None:
        """A late start was opened here."""
        self._opened.append(pairs)

    def heard(self, metric: str, pairs: int, seconds: float) -> None:
        """The metric had readings in the batch that ended here."""
        self._last[metric] = Silence(pairs, seconds)

    def sufficed(self, metric: str, state: State, pairs: int, seconds: float, *, start: int = 0) -> None:
        """The evidence for this state suffices now; `start` holds most of it. Only the first time is kept."""
        if (metric, state) not in self._crossed:
            self._crossed[metric, state] = Crossing(pairs, seconds, self._opened[start])

    def crossing(self, metric: str, state: State) -> Crossing | None:
        """When the evidence for this state first sufficed; None when it never did."""
        return self._crossed.get((metric, state))

    def notes(self, metrics: Iterable[str], entered: frozenset[str] | None, *, pairs: int, patience: int) -> list[str]:
        """Which metrics never entered, and which have given nothing for `patience` pairs, as short sentences."""
        told = []
        for metric in metrics:
            last = self._last.get(metric)
            if entered is not None and metric not in entered:
                told.append(_NEVER.format(metric=metric))
            elif last is not None and pairs - last.pairs >= patience:
                told.append(_SILENT.format(metric=metric, last=last))
        return told

    def timed(self, metric: str, *, entered: bool, now: float, patience: float) -> list[str]:
        """The same of one that is read by a clock; `now` and `patience` in seconds."""
        last = self._last.get(metric)
        if not entered:
            return [_NEVER.format(metric=metric)]
        return [_SILENT.format(metric=metric, last=last)] if last is not None and now - last.seconds > patience else []
