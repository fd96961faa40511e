#!/usr/bin/env python3
"""From a proof of harm to a whole fleet turned back and seen to be: the agent's own control, on 1 to 100 servers.

    python benchmarks/control.py [--servers 1 10 50 100] [--runs 3] [--models 5] [--table docs/benchmarks.md]

The clock starts when the verdict reaches the rollout, and the rollback is stored before anything is sent. `safe`: every
server has been seen to answer users with the old version again, and a gateway to send its canary servers nobody.
`settled`: the new version is unloaded, too, which waits for Serving's poll (1 s). Store, audit records and looks at all
models are those of the agent. The servers are sandboxes with toy models on the same machine, so that they share its
cores with the agent. `bare reload` is one reload of the same config that changes nothing, to one server of the fleet.
The gateway is a HAProxy, where there is one: a server in ten is a canary server, and they have half of the calls.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from trials.gateway import haproxy
from trials.page import Block, markdown_table

from haldane.adapters.haproxy import HAProxy
from haldane.adapters.sql import SqlStore, open_store
from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients, ModelName, ModelView, Placement, ServerConfig
from haldane.domain.rollout import Judged, Mode, Phase, Plan, Progress, Rollout, RolloutId
from haldane.engine.converge import Converge
from haldane.engine.deliberate import Deliberate
from haldane.engine.desk import Desk
from haldane.engine.gateway import Gateway
from haldane.sandbox.forkserver import ForkServer
from haldane.serving.client import ServingClient, open_client
from haldane.telemetry import Telemetry
from haldane.testing.sandboxes import FORKED, Sandbox, affine_request

MODEL = ModelName("m0")
PATIENT = Plan(bake_seconds=1e9, change_seconds=1e9, load_seconds=1e9)
BEFORE_GATEWAY = "label, with a gateway"
HEAD = ("servers", "clients", "safe s", "longest", "settled s", "bare reload ms", "safe / bare")


class WallClock:
    def now(self) -> float:
        return time.time()


@dataclass
class Found:
    """Seconds of each run."""

    safe: list[float]
    settled: list[float]
    bare: list[float]


@dataclass
class Fleet:
    """The acting half of an agent: store, desk, one task per server."""

    desk: Desk
    store: SqlStore
    clients: Sequence[ServingClient]
    clients_are: Clients
    gateway: bool = False

    async def rolled_back(self, run: int) -> tuple[float, float]:
        """Promote everywhere, show harm, and wait: seconds until users are safe, and until all is settled."""
        names = tuple(self.desk.servers)
        canary = tuple(name for name, server in self.desk.servers.items() if server.dedicated_canary)
        rollout = Rollout(
            id=RolloutId(f"{self.clients_are}-{run}"),
            model=MODEL,
            old=1,
            new=2,
            mode=Mode.ENFORCE,
            clients=self.clients_are,
            placement=Placement.SAME_ENTRY,
            servers=names,
            promoted=names,
            plan=PATIENT,
            phase=Phase.BAKING,
            phase_since=time.time(),
        )
        if self.gateway:  # all waves over, the last step of traffic still on; held, or it would go on to the bake
            rollout = replace(
                rollout,
                dedicated=canary,
                placement=Placement.OWN_REPLICAS,
                plan=replace(PATIENT, traffic_steps=(0.5,)),
                step=1,
                phase=Phase.HELD,
                held_from=Phase.PROMOTING,
            )
        self.desk.put_rollout(rollout, self.store.commit(rollout, None, []))
        await self.desk.wait_until(lambda: self._all_settled(rollout))
        writer = Deliberate(
            id=rollout.id, desk=self.desk, store=self.store, clock=WallClock(), on_move=lambda transition: None
        )
        writing = asyncio.create_task(writer.run())
        await asyncio.sleep(random.uniform(0.5, 1.5))  # anywhere between two looks, and in Serving's poll period
        began = time.perf_counter()
        await writer.judged(Judged(time.time(), Verdict.FAIL, "harm shown"))
        await self.desk.wait_until(self._all_safe)
        safe = time.perf_counter() - began
        await writing
        return safe, time.perf_counter() - began

    def _all_settled(self, rollout: Rollout) -> bool:
        looked = self.desk.looked(rollout, 0.0)
        return {*looked.progress.values(), looked.gateway} == {Progress.SETTLED}

    def _all_safe(self) -> bool:
        if any(view.share != 0.0 for view in self.desk.gateways.values()):
            return False
        seen = [view.models.get(MODEL, ModelView()) if view else ModelView() for view in self.desk.views.values()]
        if self.clients_are is Clients.LABEL:
            return all(model.labels.get("stable") == 1 for model in seen)
        return all(model.unversioned == 1 for model in seen)

    async def bare(self) -> float:
        config = self.desk.wanted(self.clients[0].server.name)
        began = time.perf_counter()
        await self.clients[0].reload(config)
        return time.perf_counter() - began


@asynccontextmanager
async def open_fleet(
    boxes: Sequence[Sandbox], base: ServerConfig, clients_are: Clients, url: str, gateway: Path | None
) -> AsyncIterator[Fleet]:
    """The agent's tasks for these servers, at the pace of the agent's defaults. `gateway`: a HAProxy's socket."""
    canary = {box.server.name for box in canary_servers(boxes)} if gateway else set()
    servers = [replace(box.server, dedicated_canary=box.server.name in canary) for box in boxes]
    desk = Desk(mode=Mode.ENFORCE, servers={server.name: server for server in servers}, base=base, watched={})
    desk.put_stable(MODEL, 1, 1, clients_are, provable=True)
    desk.golden[MODEL] = affine_request(1.0)
    store, telemetry = open_store(url), Telemetry.on(CollectorRegistry())

    async def note(kind: str, data: dict[str, Any]) -> None:
        await asyncio.to_thread(store.record, kind, data)

    async def cleared(*_: object) -> str:
        return ""

    async with AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(open_client(server)) for server in servers]
        tasks = [
            asyncio.create_task(
                Converge(
                    server=client.server,
                    client=client,
                    desk=desk,
                    telemetry=telemetry,
                    may_act=lambda: True,
                    guard=cleared,
                    note=note,
                    on_view=lambda server, view: None,
                ).run()
            )
            for client in clients
        ]
        if gateway:
            router = HAProxy(
                str(gateway),
                "serving",
                servers=lambda: {str(name): one.dedicated_canary for name, one in desk.servers.items()},
            )
            turning = Gateway("haproxy", router, desk, telemetry, may_act=lambda: True, note=note)
            tasks.append(asyncio.create_task(turning.run()))
        try:
            yield Fleet(desk, store, clients, clients_are, gateway is not None)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            store.close()


def canary_servers(boxes: Sequence[Sandbox]) -> Sequence[Sandbox]:
    return boxes[: max(1, len(boxes) // 10)]


async def measure(
    boxes: Sequence[Sandbox], base: ServerConfig, clients_are: Clients, url: str, runs: int, gateway: Path | None = None
) -> Found:
    found = Found([], [], [])
    async with open_fleet(boxes, base, clients_are, url, gateway) as fleet:
        for run in range(runs):
            safe, settled = await fleet.rolled_back(run)
            found.safe.append(safe)
            found.settled.append(settled)
            found.bare += [await fleet.bare() for _ in range(10)]
    return found


def row(servers: int, clients: str, found: Found) -> tuple[str, ...]:
    safe, settled, bare = (statistics.median(each) for each in (found.safe, found.settled, found.bare))
    return (
        f"{servers}",
        clients,
        f"{safe:.3f}",
        f"{max(found.safe):.3f}",
        f"{settled:.2f}",
        f"{1000 * bare:.1f}",
        f"{safe / bare:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 10, 50, 100])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--models", type=int, default=5, help="models on each server; one of them is rolled back")
    parser.add_argument("--table", type=Path, help="page to write the figures into")
    args = parser.parse_args()
    block = Block(args.table, "control") if args.table else None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name, ForkServer() as forks, ExitStack() as running:
        folder = Path(name)
        boxes: list[Sandbox] = []
        models = Sandbox(folder)
        for model in range(args.models):
            for version in (1, 2):
                models.add(f"m{model}", version)
        base = ServerConfig(tuple(models.entry(f"m{model}", 1) for model in range(args.models)))
        for servers in sorted(args.servers):
            while len(boxes) < servers:  # made just before it starts: a port chosen earlier may be taken by then
                box = Sandbox(
                    folder, name=f"r{len(boxes)}", flags=("--executor=toy",), command=FORKED, spawn=forks.spawn
                )
                boxes.append(running.enter_context(box.start(base)))
            for found in each_kind(folder, boxes[:servers], base, args.runs):
                rows.append(found)
                print(" ".join(f"{cell:>12}" for cell in found), flush=True)
    table = markdown_table(HEAD, rows)
    print(table)
    if block:
        block.write(f"Median of {args.runs} runs.\n\n{table}")


def each_kind(folder: Path, boxes: Sequence[Sandbox], base: ServerConfig, runs: int) -> Iterator[tuple[str, ...]]:
    """One row for each kind of clients, and one with a gateway before more than one server."""

    def url(kind: str) -> str:
        return f"sqlite:///{folder}/{len(boxes)}-{kind}.db"

    for clients in Clients:
        yield row(len(boxes), clients, asyncio.run(measure(boxes, base, clients, url(clients), runs)))
    binary = shutil.which("haproxy")
    if len(boxes) > 1 and binary:
        with haproxy(binary, folder, boxes, canary_servers(boxes)) as path:
            found = asyncio.run(measure(boxes, base, Clients.LABEL, url("gateway"), runs, path))
        yield row(len(boxes), BEFORE_GATEWAY, found)


if __name__ == "__main__":
    main()
