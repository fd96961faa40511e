#!/usr/bin/env python3
"""What reading metrics pages costs, beside prometheus_client.parser on the same recorded pages.

    python benchmarks/scrape.py [--models 200] [--replicas 50]

First the ratio of samples per second of CPU time, once the series are known
(from the second scrape on), then the first scrape, then 15 s over a fleet: a page
as the recorded ones, grown to that many models, read once per replica, with other
numbers on each, and everything that the watch makes of it and of a look at every
server each second. The two readers do not do the same: prometheus_client makes an
object of every sample; Haldane checks every line and keeps the counters it uses.
Exits 1 when the ratio is below 20 or the fleet takes more than 15 s of one core.
"""

import argparse
import logging
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from haldane.domain.fleet import (
    Availability,
    ModelEntry,
    ModelName,
    ModelView,
    ReplicaView,
    Server,
    ServerConfig,
    ServerName,
    VersionStatus,
)
from haldane.engine.observe import Observer
from haldane.judge.loads import LoadCounters
from haldane.serving import exposition
from haldane.telemetry import Telemetry

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


class Watched:
    """A fleet under watch, without its network: pages and views are handed over."""

    def __init__(self, models: int, replicas: int) -> None:
        self.servers = [Server(ServerName(f"r{number}"), f"r{number}:8500") for number in range(replicas)]
        names = [ModelName(f"model{number}") for number in range(models)]
        entries = tuple(ModelEntry(name=name, base_path=f"{{BASE}}/{name}") for name in names)
        clients: dict[ServerName, Any] = dict.fromkeys(server.name for server in self.servers)
        self._time = 0.0
        self._observer = Observer(
            clients,
            base=ServerConfig(entries),
            read=exposition.load_counters,
            sinks={},
            telemetry=Telemetry.on(CollectorRegistry()),
            clock=self,
        )
        served = ModelView((VersionStatus(1, Availability.AVAILABLE),), {"stable": 1})
        self._seen = dict.fromkeys(names, served)

    def now(self) -> float:
        return self._time

    def take_in(self, pages: Sequence[LoadCounters]) -> None:
        """A scrape of each server."""
        for server, counters in zip(self.servers, pages, strict=True):
            self._observer.on_counters(server.name, counters)

    def look(self) -> None:
        """A look at each server, a second after the one before."""
        self._time += 1.0
        for server in self.servers:
            self._observer.on_view(server, ReplicaView(server.name, self._time, self._seen))


def seconds_of_fleet(page: str, watched: Watched, start: int) -> tuple[float, float, float]:
    """CPU seconds to read such a page from every server once, to take them in, and to take in 15 looks at each."""
    numbered = (with_other_numbers(page, start + place) for place, _ in enumerate(watched.servers))
    read: list[LoadCounters] = []
    reading = 0.0
    for one in numbered:
        began = time.thread_time()
        read.append(exposition.load_counters(one))
        reading += time.thread_time() - began
    began = time.thread_time()
    watched.take_in(read)
    taken = time.thread_time()
    for _ in range(int(GOAL_SECONDS)):
        watched.look()
    return reading, taken - began, time.thread_time() - taken


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
    # Counters drawn by chance go back, so a restart of every server is told, too; it need not be read here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    watched = Watched(options.models, options.replicas)
    first_read, _, _ = seconds_of_fleet(page, watched, 0)
    read, taken_in, looks = seconds_of_fleet(page, watched, options.replicas)
    whole = read + taken_in + looks
    fleet = f"{options.models} models on {options.replicas} servers"
    print(f"{whole:.1f} s of one core in {GOAL_SECONDS:.0f} s for {fleet} (goal: less than those)")
    size = f"{page.count(chr(10)):,} lines, {len(page) / 1e6:.1f} MB"
    print(f"  {read:.1f} s to read a page of each, {size}; {first_read:.1f} s the first time")
    print(f"  {taken_in:.1f} s to take them in, {looks:.1f} s for a look at each server every second")
    return 0 if ratio >= GOAL_RATIO and whole <= GOAL_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
