#!/usr/bin/env python3
"""How often what is judged of answers without a right one errs on its margin, in thousands of simulated rollouts.

    python benchmarks/answers.py [--trials 2000] [--seed 0] [--table docs/benchmarks.md]

Each run has 10,000 pairs whose disagreement or drift is the margin itself, and is looked at 50 times. Exits 1 where a
verdict comes oftener than promised beyond what chance explains (one such table in a hundred would).
"""

import argparse
from pathlib import Path

import numpy as np
from trials.page import Block, markdown_table

from haldane.testing.answers import EDGES, MARGIN, Edge, said
from haldane.testing.chance import most

PAIRS, ALPHA, BETA = 10_000, 0.01, 0.05
HEAD = ("on the margin of 5 pp", "trials", "shown harmful", "bound", "shown harmless", "bound")


def errors(edge: Edge, trials: int, seed: int) -> tuple[int, int]:
    """Runs in which harm, and in which harmlessness, was ever shown."""
    draws = (edge.draw(np.random.default_rng([seed, trial]), PAIRS) for trial in range(trials))
    found = [said(edge.evidence(), answers, truth=MARGIN, alpha=ALPHA, beta=BETA, intervals=False) for answers in draws]
    return sum(one.harmful for one in found), sum(one.harmless for one in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    block = Block(options.table, "answers") if options.table else None
    n, rows, kept = options.trials, [], True
    for name, edge in EDGES.items():
        harmful, harmless = errors(edge, n, options.seed)
        kept &= harmful <= most(ALPHA, n) and harmless <= most(BETA, n)
        rows.append([name, f"{n:,}", f"{harmful / n:.2%}", f"{ALPHA:.0%}", f"{harmless / n:.2%}", f"{BETA:.0%}"])
        print(" | ".join(rows[-1]), flush=True)
    if block:
        block.write(markdown_table(HEAD, rows))
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
