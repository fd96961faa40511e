"""Many callers at once: how fast calls are then. Threads and a stopwatch; what a call is, it does not know."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, cycle, islice

import numpy as np

from haldane.domain.release import UnderLoad


def under_load(calls: Sequence[Callable[[], object]], *, callers: int, seconds: float) -> UnderLoad:
    """`callers` threads make the calls in turn, without a pause, and begin none after `seconds`.

    Each makes one call at least. Raises what a call raises.
    """
    began = time.perf_counter()

    def caller(first: int) -> list[float]:
        took = []
        for call in islice(cycle(calls), first % len(calls), None):
            started = time.perf_counter()
            call()
            ended = time.perf_counter()
            took.append(ended - started)
            if ended - began >= seconds:
                break
        return took

    with ThreadPoolExecutor(callers) as threads:
        took = list(chain.from_iterable(threads.map(caller, range(callers))))
    lasted = time.perf_counter() - began
    p50, p99 = np.quantile(took, (0.5, 0.99), method="inverted_cdf").tolist()  # by nearest rank: what a call did take
    return UnderLoad(callers, len(took), lasted, p50, p99)
