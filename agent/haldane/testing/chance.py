"""How many errors a promise allows in so many trials."""

import math


def most(rate: float, trials: int = 300) -> int:
    """The largest count of errors still believable at this rate: one suite in a thousand sees more."""
    upto, count = 0.0, -1
    while upto < 0.999:
        count += 1
        upto += math.comb(trials, count) * rate**count * (1 - rate) ** (trials - count)
    return count
