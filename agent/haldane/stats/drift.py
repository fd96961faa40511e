"""Evidence on drift: whether the outputs of the canary are distributed as stable's are.

The outputs of a pair belong to the same request, so at a threshold t the two
indicators [output > t] are compared as a paired count, both ways: pairs above
on one side only. Thresholds are the deciles of stable's first outputs; for
classes, the shares of the commonest are compared in their place. All are fixed
before the pairs that they count.

Source: McNemar, on correlated proportions (each threshold); Vovk & Wang,
E-values: calibration, combination and applications (their average).
"""

import numpy as np
from numpy.typing import NDArray

from haldane.stats import checks
from haldane.stats.betting import HOLD_LOG_E, MEANS, Floats, Interval, Ledger, carrier_of, mix_starts
from haldane.stats.bounds import count_interval, last_rejected

LEARNING_PAIRS = 200  # the first of them fix where to compare, and are not counted
PLACES = 9
FURTHEST = float(np.finfo(np.float32).max)  # an output that is no number is stored as infinite: above all thresholds

Flags = NDArray[np.bool_]


class DriftEvidence:
    """Evidence against "at every place, the shares of canary and stable differ by at most the margin".

    Exact whatever the distributions. Harm is the average over places and both
    ways; harmless is the least of them all, so that it is proven at each
    place. State: two counts for each place, and for each late start.
    """

    def __init__(self, *, margin: float, classes: bool = False) -> None:
        if not 0.0 <= margin < 1.0:
            raise ValueError(f"margin must lie in [0, 1), got {margin!r}")
        self.margin, self.classes = margin, classes
        self.pairs = 0
        self.places: Floats | None = None  # thresholds or classes
        # pairs, then for each place: on canary only, on stable only; then, not marked, on stable
        self.ledger = Ledger(entries=1 + 3 * PLACES, marked=1 + 2 * PLACES)
        self._first: Floats = np.empty(0)

    def fold(self, stable: Floats, canary: Floats) -> None:
        """Take in outputs, shape (n,) each: numbers, or indices of classes. ValueError when any is NaN."""
        checks.known(stable, canary)
        self.pairs += len(stable)
        if self.places is None:
            wanted = LEARNING_PAIRS - len(self._first)
            self._first = np.concatenate([self._first, stable[:wanted]])
            if len(self._first) < LEARNING_PAIRS:
                return
            self.places = _commonest(self._first) if self.classes else _deciles(self._first)
            self._first = np.empty(0)
            stable, canary = stable[wanted:], canary[wanted:]
        old, new = self._inside(stable), self._inside(canary)
        counts = np.zeros((3, PLACES))
        counts[:, : len(old)] = (new & ~old).sum(axis=1), (old & ~new).sum(axis=1), old.sum(axis=1)
        self.ledger.total += np.concatenate([[len(stable)], counts.ravel()])

    def _inside(self, values: Floats) -> Flags:
        """Which values each place holds, shape (places, n); of classes, the last place holds all others."""
        assert self.places is not None
        if not self.classes:
            return np.asarray(values > self.places[:, None])
        named = values == self.places[:, None]
        return np.vstack([named, ~named.any(axis=0)])

    @property
    def _used(self) -> int:
        return 0 if self.places is None else len(self.places) + self.classes

    def start(self) -> None:
        self.ledger.start()

    def merge(self, other: "DriftEvidence") -> None:
        """Add a shard's counts; ValueError unless both compare at the same places, by the same margin."""
        checks.alike(self, other, "margin", "classes")
        if self.places is None or other.places is None or not np.array_equal(self.places, other.places):
            raise ValueError("shards that compare outputs at different places cannot be added")
        self.ledger.merge(other.ledger)
        self.pairs += other.pairs

    def _cells(self, sums: Floats) -> Floats:
        """Sums (..., marked) as counts (..., 2 * places, 3): further in this direction, in the other, in neither."""
        used = self._used
        canary, stable = sums[..., 1 : 1 + used], sums[..., 1 + PLACES : 1 + PLACES + used]
        further = np.concatenate([canary, stable], axis=-1)
        back = np.concatenate([stable, canary], axis=-1)
        return np.stack([further, back, sums[..., :1] - further - back], axis=-1)

    def _by_start(self) -> Floats:
        """Log of the average e-value over places and directions, shape (1 + starts,)."""
        cells = self._cells(self.ledger.since())
        if not self._used:
            return np.zeros(len(cells))
        x = (np.array([1.0, -1.0, 0.0]) - self.margin) / (1 + self.margin)
        bets = MEANS.harm
        grown = cells.reshape(-1, 3) @ np.log1p(np.multiply.outer(x, bets.sizes)) + np.log(bets.weights)
        grown = grown.reshape(len(cells), -1)
        top = grown.max(axis=1)  # one sum of thousands: three times as fast by exp as by logaddexp
        averaged: Floats = top + np.log(np.exp(grown - top[:, None]).sum(axis=1) / (2 * self._used))
        return averaged

    def log_harm(self) -> float:
        return mix_starts(self._by_start())

    def carrier(self) -> int:
        return carrier_of(self._by_start())

    def log_harmless(self) -> float:
        return float(self._log_below(np.array([self.margin]))[0]) if self._used else 0.0

    def _log_below(self, margins: Floats) -> Floats:
        """Log evidence that the largest gap is below each margin: the least over places and directions."""
        cells = self._cells(self.ledger.total)
        x = (margins[:, None] - np.array([1.0, -1.0, 0.0])) / (1 - margins[:, None])
        bets = MEANS.harmless
        growth = np.log1p(np.maximum(x, -1.0)[..., None] * bets.sizes)
        least: Floats = bets.mix(np.einsum("pc,mcb->mpb", cells, growth)).min(axis=1)
        return least

    def holds(self) -> bool:
        return bool(self._by_start().max() > HOLD_LOG_E)

    def _gaps(self) -> Floats | None:
        """Canary minus stable at each place; None before the first counted pair."""
        n, used = self.ledger.total[0], self._used
        if not n:
            return None
        gaps: Floats = (self.ledger.total[1 : 1 + used] - self.ledger.total[1 + PLACES : 1 + PLACES + used]) / n
        return gaps

    def estimate(self) -> float | None:
        """The largest gap, whichever way; None while too few pairs were seen."""
        gaps = self._gaps()
        return None if gaps is None else float(np.abs(gaps).max())

    def interval(self, level: float) -> Interval:
        """Bounds for the largest gap.

        The lower end is that of the widest place, its level shared among all
        that might have been it; the upper is where `log_harmless` would reach.
        """
        gaps = self._gaps()
        if gaps is None:
            return None, None
        widest = int(np.abs(gaps).argmax())
        side = widest if gaps[widest] > 0 else widest + self._used
        further, back, neither = self._cells(self.ledger.total)[side]
        low, _ = count_interval(np.array([0.0, further, back, neither]), level=level / (2 * self._used))
        high = last_rejected(lambda v: self._log_below(-v), -1.0 + 1e-9, 0.0, level)
        return max(0.0, low), 1.0 if high is None else -high

    def detail(self) -> str:
        """Where the gap is widest, and both shares there."""
        gaps = self._gaps()
        if gaps is None:
            return f"the first {LEARNING_PAIRS} pairs say where outputs are compared"
        widest = int(np.abs(gaps).argmax())
        stable = self.ledger.total[1 + 2 * PLACES + widest] / self.ledger.total[0]
        shares = f"{100 * stable:.1f} % stable, {100 * (stable + gaps[widest]):.1f} % canary"
        return f"{self._place(widest)}: {shares}"

    def _place(self, index: int) -> str:
        assert self.places is not None
        if not self.classes:
            return f"outputs above {self.places[index]:.4g}"
        return f"class {self.places[index]:.0f}" if index < len(self.places) else "other classes"


def _deciles(values: Floats) -> Floats:
    """Thresholds at the deciles; a value that is several of them at once is told from what lies below it, too."""
    deciles = np.quantile(np.clip(values, -FURTHEST, FURTHEST), np.arange(1, 10) / 10, method="inverted_cdf")
    found, times = np.unique(deciles, return_counts=True)
    return np.unique(np.concatenate([found, np.nextafter(found[times > 1], -np.inf)]))


def _commonest(values: Floats) -> Floats:
    """The commonest classes, all but one place; the last is for all others."""
    found, times = np.unique(values[np.isfinite(values)], return_counts=True)
    order = np.argsort(-times, kind="stable")[: PLACES - 1]
    return np.sort(found[order])
