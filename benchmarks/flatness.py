"""Does a process that goes on for long take ever more memory: what was resident, against what was done by then."""

from statistics import median
from typing import NamedTuple

import scipy.stats

FLAT_MB, FLAT_SLOPE_MB = 10.0, 0.1
Rows = list[tuple[str, str]]


class Sample(NamedTuple):
    """What was resident when so many pairs had been judged."""

    judged: int
    megabytes: float


def by_fifths(samples: list[Sample]) -> tuple[Rows, bool]:
    """Memory in the second fifth and the last one, and whether it is as good as flat."""
    sizes = [sample.megabytes for sample in samples]
    fifth = max(1, len(sizes) // 5)
    before, after = median(sizes[fifth : 2 * fifth] or sizes), median(sizes[-fifth:])
    rows = [("memory, second fifth", f"{before:.1f} MB"), ("memory, last fifth", f"{after:.1f} MB")]
    return rows, after - before <= FLAT_MB


def by_tenths(samples: list[Sample]) -> tuple[Rows, bool]:
    """Memory in each tenth of what was judged, the slope over all but the first, whether that is as good as flat."""
    tenth = max(1, samples[-1].judged // 10)
    each = [
        [sample.megabytes for sample in samples if place * tenth < sample.judged <= (place + 1) * tenth]
        for place in range(10)
    ]
    if not all(each):
        return [("memory", "too few samples")], False
    sizes = [median(some) for some in each]
    fit = scipy.stats.linregress(range(1, 10), sizes[1:])
    wide = float(scipy.stats.t.ppf(0.975, 7) * fit.stderr)
    rows = [
        *(
            (f"memory, pairs {place * tenth:,} to {(place + 1) * tenth:,}", f"{sizes[place]:.1f} MB")
            for place in range(10)
        ),
        (
            "slope after the first tenth",
            f"{fit.slope:+.2f} MB for each tenth ({fit.slope - wide:+.2f} to {fit.slope + wide:+.2f})",
        ),
        ("memory, last tenth / second", f"{sizes[-1] / sizes[1]:.3f}"),
    ]
    return rows, fit.slope - wide <= FLAT_SLOPE_MB
