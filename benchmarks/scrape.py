#!/usr/bin/env python3
"""What reading metrics pages costs, beside prometheus_client.parser on the same recorded pages.

    python benchmarks/scrape.py [--models 200] [--replicas 50]

First the ratio of samples per second of CPU time, once the series are known
(from the second scrape on), then the first scrape, then one round over a fleet:
a page as the recorded ones, grown to that many models, read once per replica,
with other numbers on each. The two do not do the same: prometheus_client makes
an object of every sample; Haldane checks every line and keeps the counters it
uses. Exits 1 when the ratio is below 20 or a round takes more than 15 s of one core.
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from haldane.serving import exposition

RECORDED = Path(__file__).resolve().parents[1] / "tests" / "contract" / "serving" / "recorded" / "metrics"
GOAL_RATIO, GOAL_SECONDS = 20.0, 15.0


def reference(page: str) -> int:
    """Samples that prometheus_client reads from a page."""
    return sum(len(family.samples) for family in text_string_to_metric_families(page))


def seconds_of(deed: Callable[[str], object], pages: Sequence[str], rounds: int) -> float:
    """CPU seconds of this thread for all pages; the best round, since other work on the machine only adds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.thread_time()
        for page in pages:
            deed(page)
        best = min(best, time.thread_time() - began)
    return best


def fleet_page(models: int) -> str:
    """The recorded page of two models with the lines of one of them once per model."""
    lines = (RECORDED / "metrics_two_models.prom").read_text().split("\n")
    own = [line for line in lines if re.search(r'[/"]toy["/]', line)]
    rest = [line for line in lines if line not in set(own)]
    grown = [re.sub(r'([/"])toy(["/])', rf"\g<1>model{number}\g<2>", line) for number in range(models) for line in own]
    return "\n".join([*grown, *rest])


def with_other_numbers(page: str, seed: int) -> str:
    """The same series at another time."""
    chance = random.Random(seed)
    return re.sub(r" \d+$", lambda _: f" {chance.randrange(10**6)}", page, flags=re.MULTILINE)


def seconds_of_round(page: str, replicas: int, start: int) -> float:
    """CPU seconds to read such a page from every server once, other numbers on each."""
    numbered = (with_other_numbers(page, start + replica) for replica in range(replicas))
    return sum(seconds_of(exposition.parse, [one], 1) for one in numbered)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200, help="models on each server (%(default)s)")
    parser.add_argument("--replicas", type=int, default=50, help="servers (%(default)s)")
    options = parser.parse_args()
    if options.models < 1 or options.replicas < 1:
        parser.error("--models and --replicas must be at least 1")
    pages = [path.read_text() for path in sorted(RECORDED.glob("*.prom"))]
    if not pages:
        parser.error(f"no recorded pages in {RECORDED}")
    samples = sum(reference(page) for page in pages)

    first = seconds_of(exposition.parse, pages, 1)
    known = seconds_of(exposition.parse, pages, 20)
    peer = seconds_of(reference, pages, 5)
    ratio = peer / known
    print(f"{ratio:.0f} times as fast as prometheus_client.parser once the series are known (goal {GOAL_RATIO:.0f})")
    print(f"  {len(pages)} recorded pages, {samples:,} samples, samples per second of CPU time:")
    for name, seconds in (("first scrape", first), ("later scrapes", known), ("prometheus_client", peer)):
        print(f"  {name:18} {samples / seconds:>12,.0f}")

    page = fleet_page(options.models)
    cold, warm = (seconds_of_round(page, options.replicas, start) for start in (0, options.replicas))
    fleet = f"{options.models} models on {options.replicas} servers"
    print(f"{warm:.1f} s of one core for {fleet} (goal {GOAL_SECONDS:.0f} s)")
    print(f"  {page.count(chr(10)):,} lines, {len(page) / 1e6:.1f} MB a page; the first round {cold:.1f} s")
    return 0 if ratio >= GOAL_RATIO and warm <= GOAL_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
