"""Does a process that goes on for long take ever more memory: what it holds, against what was done by then.

Resident memory alone cannot tell: glibc's malloc keeps what was freed in pieces too small or too deep to give back, and
how much that is wanders by megabytes with the threads' timing. So what malloc itself calls free is read beside it.
"""

import ctypes
import os
from statistics import median
from typing import NamedTuple

import scipy.stats
from footprint import resident_megabytes

FLAT_MB, FLAT_SLOPE_MB, FLAT_RATIO = 10.0, 0.1, 1.05
Rows = list[tuple[str, str]]


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later (mallinfo(3)), bytes."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    ]


def _freed_megabytes() -> float:
    """What malloc holds and nobody uses; 0 where the C library does not tell."""
    tell = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if tell is None:
        return 0.0
    tell.restype = _Mallinfo2
    return int(tell().fordblks) / 2**20


class Sample(NamedTuple):
    """What was resident when so many pairs had been judged, and how much of that malloc held free."""

    judged: int
    megabytes: float
    freed: float = 0.0

    @classmethod
    def now(cls, judged: int) -> "Sample":
        return cls(judged, resident_megabytes(os.getpid()), _freed_megabytes())


def by_fifths(samples: list[Sample]) -> tuple[Rows, bool]:
    """Memory in the second fifth and the last one, and whether it is as good as flat."""
    sizes = [sample.megabytes for sample in samples]
    fifth = max(1, len(sizes) // 5)
    before, after = median(sizes[fifth : 2 * fifth] or sizes), median(sizes[-fifth:])
    rows = [("memory, second fifth", f"{before:.1f} MB"), ("memory, last fifth", f"{after:.1f} MB")]
    return rows, after - before <= FLAT_MB


def by_tenths(samples: list[Sample]) -> tuple[Rows, bool]:
    """Memory in each tenth of what was judged, and whether it is as good as flat.

    Flat: what is in use has no slope, beyond chance, over all tenths but the first; and what is resident, free pieces
    and all, is in the last tenth within 5 % of the second.
    """
    tenth = max(1, samples[-1].judged // 10)
    each = [
        [sample for sample in samples if place * tenth < sample.judged <= (place + 1) * tenth] for place in range(10)
    ]
    if not all(each):
        return [("memory", "too few samples")], False
    resident = [median(sample.megabytes for sample in some) for some in each]
    in_use = [median(sample.megabytes - sample.freed for sample in some) for some in each]
    slope, least = _slope(in_use)
    ratio = resident[-1] / resident[1]
    rows = [
        (f"pairs {place * tenth:,} to {(place + 1) * tenth:,}: in use, resident", f"{used:.1f} MB, {whole:.1f} MB")
        for place, (used, whole) in enumerate(zip(in_use, resident, strict=True))
    ]
    rows.append(("in use: slope after the first tenth", slope))
    rows.append(("resident: slope after the first tenth", _slope(resident)[0]))
    rows.append(("resident, last tenth / second", f"{ratio:.3f}"))
    return rows, least <= FLAT_SLOPE_MB and ratio <= FLAT_RATIO


def _slope(sizes: list[float]) -> tuple[str, float]:
    """MB for each tenth after the first, with its 95 % interval; and that interval's lower end."""
    fit = scipy.stats.linregress(range(1, 10), sizes[1:])
    wide = float(scipy.stats.t.ppf(0.975, 7) * fit.stderr)
    low, high = fit.slope - wide, fit.slope + wide
    return f"{fit.slope:+.2f} MB for each tenth ({low:+.2f} to {high:+.2f})", low
