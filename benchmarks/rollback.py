#!/usr/bin/env python3
"""How long a rollback takes on one server, with labels and without: from sending the reload to the first proof.

    python benchmarks/rollback.py [--runs 20]

Both versions stay loaded before the change, as they do while promoting and baking. The sandbox runs toy
models, so the figures show Serving's own waiting (its poll of the file system, its manager's tick), not inference.

Then the same with labels beside another model, whose broken canary is being tried under a name of its own: with that
name introduced by the version which serves (placement: second_name), and with it given to the canary outright.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from haldane.domain.fleet import ModelEntry, ModelName, ServerConfig
from haldane.ports import Unavailable
from haldane.serving.client import Limits, ServingClient, open_client
from haldane.testing.sandboxes import Sandbox, affine_request

MODEL = ModelName("m")
OTHER, APART = ModelName("other"), ModelName("other_canary")
PATIENCE_SECONDS = 10.0


async def seconds_until(client: ServingClient, config: ServerConfig, *, want: int, asked: str | None) -> float:
    """Send the config, then ask until the wanted version answers."""
    began = time.perf_counter()
    await client.reload(config)
    while True:
        deadline = asyncio.get_running_loop().time() + 5.0
        outcome = await client.predict(MODEL, affine_request(1.0), version=asked, deadline=deadline)
        if outcome.version == want:
            return time.perf_counter() - began
        await asyncio.sleep(0.002)


async def until_loaded(client: ServingClient, *versions: int) -> None:
    while True:
        view = await client.look({MODEL: ()}, {})
        if view.models[MODEL].loaded == versions:
            return
        await asyncio.sleep(0.02)


async def beside(box: Sandbox, runs: int, *, outright: bool) -> list[float]:
    """Seconds of rollbacks while the broken version 2 of OTHER is tried as APART; `outright`: APART began with it."""
    entry, other = box.entry(MODEL, 1), box.entry(OTHER, 1)
    apart = replace(other, name=APART)
    base, tried = [entry.serving((1, 2), {}), other], apart.serving((1, 2), {})
    found: list[float] = []
    async with open_client(box.server, limits=Limits(reload_seconds=1.0, jam_seconds=(0.0, 0.0))) as client:
        await client.reload(ServerConfig(tuple(base)))
        await until_loaded(client, 1, 2)
        if not outright:
            await client.reload(ServerConfig((*base, apart)))
        with suppress(Unavailable):  # it holds the lock, and says nothing
            await client.reload(ServerConfig((*base, apart.serving((2,), {}) if outright else tried)))
        for _ in range(runs):
            ahead, back = (ServerConfig((entry.serving((1, 2), {"stable": at}), other, tried)) for at in (2, 1))
            began = time.perf_counter()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    with suppress(Unavailable):
                        await client.reload(ahead)
                        began = time.perf_counter()
                    await seconds_until(client, back, want=1, asked="stable")
            except (TimeoutError, Unavailable):
                return [*found, PATIENCE_SECONDS]
            found.append(time.perf_counter() - began)
    return found


async def measure(entry: ModelEntry, box: Sandbox, runs: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"with labels": [], "without": []}
    both, old = entry.serving((1, 2), {}), entry.serving((1,), {})
    async with open_client(box.server) as client:
        for _ in range(runs):
            await client.reload(ServerConfig((both,)))
            await until_loaded(client, 1, 2)
            await client.reload(ServerConfig((entry.serving((1, 2), {"stable": 2}),)))
            back = ServerConfig((entry.serving((1, 2), {"stable": 1}),))
            found["with labels"].append(await seconds_until(client, back, want=1, asked="stable"))
            await asyncio.sleep(random.random())  # anywhere in Serving's poll period
            found["without"].append(await seconds_until(client, ServerConfig((old,)), want=1, asked=None))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, Sandbox(Path(folder)) as box:
        box.add("m", 1)
        box.add("m", 2)
        entry = box.entry("m", 1)
        box.start(box.config(entry))
        for name, seconds in asyncio.run(measure(entry, box, runs)).items():
            show(name, seconds)
    for outright in (False, True):
        with tempfile.TemporaryDirectory() as folder, Sandbox(Path(folder), flags=("--num_load_threads=2",)) as box:
            for model in (MODEL, OTHER):
                box.add(model, 1)
                box.add(model, 2, "affine" if model == MODEL else "corrupt_pb")
            box.start(box.config(box.entry(MODEL, 1), box.entry(OTHER, 1)))
            name = "beside a broken canary, named outright" if outright else "beside a broken canary, introduced"
            show(name, asyncio.run(beside(box, runs, outright=outright)))


def show(name: str, seconds: list[float]) -> None:
    """`PATIENCE_SECONDS` stands for "not within"."""
    ordered = sorted(seconds)
    if ordered[-1] >= PATIENCE_SECONDS:
        print(f"{name:40} not within {PATIENCE_SECONDS:.0f} s")
        return
    print(f"{name:40} median {statistics.median(ordered):.3f} s, longest {ordered[-1]:.3f} s of {len(ordered)}")


if __name__ == "__main__":
    main()
