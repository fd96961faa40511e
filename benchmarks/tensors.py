#!/usr/bin/env python3
"""What comparing two answers costs, beside numpy.allclose on the same arrays.

    python benchmarks/tensors.py [--rounds 5] [--table docs/benchmarks.md]

Haldane compares as many pairs at once as it scores in one go, and says more than allclose: how far apart they are,
NaN equal to NaN, infinities, the one number that drift is judged by. First the ratio for arrays in memory, then what
scoring costs from the answers' bytes on. CPU time of this thread, the best round, since other work only adds.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from trials.page import Block, markdown_table

from haldane import wire
from haldane.domain.traffic import Api, Request
from haldane.judge.outputs import Array, OutputKind, OutputRule, Stack
from haldane.judge.scoring import score
from haldane.serving.shadow import Scorer
from haldane.tensors import encode

PAIRS = 100  # scored in one go by default
SIZES = (1, 10, 1_000, 50_000)
FLOAT = 1
ANY, CLASSES = OutputRule(), OutputRule(kind=OutputKind.CLASS_SCORES, top=5)
HEAD = ("values in an answer", "allclose, us", "Haldane, us", "ratio", "with class and top 5, us", "from bytes, us")


@dataclass(frozen=True)
class Row:
    """Microseconds of CPU for one pair."""

    size: int
    allclose: float
    compared: float
    classes: float
    from_bytes: float

    def cells(self) -> tuple[str, ...]:
        ratio = f"{self.allclose / self.compared:.1f}"
        times = (f"{one:.2f}" for one in (self.allclose, self.compared, self.classes, self.from_bytes))
        allclose, compared, classes, from_bytes = times
        return f"{self.size:,}", allclose, compared, ratio, classes, from_bytes


def microseconds(deed: Callable[[], object], rounds: int) -> float:
    """CPU time for one pair, the best round."""
    best = float("inf")
    for _ in range(rounds):
        turns, began = 0, time.thread_time()
        while time.thread_time() - began < 0.2:
            deed()
            turns += 1
        best = min(best, (time.thread_time() - began) / turns)
    return 1e6 * best / PAIRS


def answers(arrays: Sequence[Array]) -> list[bytes]:
    """PredictResponses as a server gives them."""
    found = []
    for array in arrays:
        message = wire.PredictResponse()
        message.outputs["scores"].CopyFrom(encode(array, FLOAT))
        message.model_spec.version.value = 1
        found.append(bytes(message.SerializeToString()))
    return found


def measure(size: int, rounds: int) -> Row:
    chance = np.random.default_rng(size)
    stable = chance.random((PAIRS, 1, size), np.float32)
    canary = stable * (1 + chance.choice([0, 1e-7, 1e-3], (PAIRS, 1, 1)).astype(np.float32))
    places, truth = np.arange(PAIRS), [None] * PAIRS
    stacks = [[Stack(places, {"scores": side})] for side in (stable, canary)]
    requests = [Request(str(number), Api.PREDICT, b"") for number in range(PAIRS)]
    old, new = answers(list(stable)), answers(list(canary))
    scorer = Scorer(ANY)
    return Row(
        size,
        microseconds(lambda: [np.allclose(b, a, rtol=1e-5, atol=1e-6) for a, b in zip(stable, canary)], rounds),  # noqa: B905
        microseconds(lambda: score(*stacks, truth, ANY), rounds),
        microseconds(lambda: score(*stacks, truth, CLASSES), rounds),
        microseconds(lambda: scorer(requests, old, new), rounds),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--table", type=Path, help="page to write the figures into")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    block = Block(options.table, "tensors") if options.table else None
    text = markdown_table(HEAD, [measure(size, options.rounds).cells() for size in SIZES])
    print(text)
    if block:
        block.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
