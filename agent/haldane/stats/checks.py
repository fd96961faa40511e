"""What readings must be: evidence folded from what cannot be would be wrong for good, so it is refused at the door."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from haldane.stats.betting import Floats


def same_length(stable: Floats, canary: Floats) -> None:
    """ValueError unless both sides are arrays of shape (n,) with the same n."""
    shapes = np.shape(stable), np.shape(canary)
    if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
        raise ValueError(
            f"both sides must be arrays of one length, got shapes {shapes[0]} stable and {shapes[1]} canary"
        )


def outcomes(stable: Floats, canary: Floats) -> None:
    """ValueError unless all are 0.0 (good) or 1.0 (bad), as many on both sides."""
    same_length(stable, canary)
    for name, side in (("stable", stable), ("canary", canary)):
        _all(((side == 0.0) | (side == 1.0)), side, f"outcomes of {name} must be 0 (good) or 1 (bad)")


def losses(stable: Floats, canary: Floats) -> None:
    """ValueError unless all lie in [0, 1], as many on both sides."""
    same_length(stable, canary)
    for name, side in (("stable", stable), ("canary", canary)):
        _all((side >= 0.0) & (side <= 1.0), side, f"losses of {name} must lie in [0, 1]")


def positive(stable: Floats, canary: Floats) -> None:
    """ValueError unless all are positive and finite, as many on both sides."""
    same_length(stable, canary)
    for name, side in (("stable", stable), ("canary", canary)):
        _all((side > 0.0) & (side < math.inf), side, f"readings of {name} must be positive and finite")


def finite(stable: Floats, canary: Floats) -> None:
    """ValueError unless all are finite, as many on both sides."""
    same_length(stable, canary)
    for name, side in (("stable", stable), ("canary", canary)):
        _all(np.isfinite(side), side, f"readings of {name} must be finite")


def known(stable: Floats, canary: Floats) -> None:
    """ValueError if any is NaN (infinite ones may be), or unless there are as many on both sides."""
    same_length(stable, canary)
    for name, side in (("stable", stable), ("canary", canary)):
        _all(~np.isnan(side), side, f"readings of {name} must be numbers")


def chance(value: float, name: str) -> None:
    """ValueError unless the value lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")


def counts(values: Iterable[float]) -> None:
    """ValueError unless all are finite and none is negative."""
    found = np.asarray(values, np.float64)
    _all((found >= 0.0) & (found < math.inf), found, "counts must be 0 or more and finite")


def alike(one: object, other: object, *names: str) -> None:
    """ValueError unless both were made with the same terms, which are attributes of these names."""
    for name in names:
        if getattr(one, name) != getattr(other, name):
            terms = f"{getattr(one, name)!r} and {getattr(other, name)!r}"
            raise ValueError(f"shards judged by different terms cannot be added: {name} {terms}")


def _all(right: NDArray[np.bool_], values: Floats, rule: str) -> None:
    if not right.all():
        raise ValueError(f"{rule}, got {float(values[~right][0])!r}")
