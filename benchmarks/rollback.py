#!/usr/bin/env python3
"""How long a rollback takes on one server, with labels and without: from sending the reload to the first proof.

    python benchmarks/rollback.py [--runs 20]

Both versions stay loaded before the change, as they do while promoting and baking. The sandbox runs toy
models, so the figures show Serving's own waiting (its poll of the file system, its manager's tick), not inference.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path

from haldane.domain.fleet import ModelEntry, ModelName, ServerConfig
from haldane.serving.client import ServingClient, open_client
from haldane.testing.sandboxes import Sandbox, affine_request

MODEL = ModelName("m")


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
            ordered = sorted(seconds)
            print(f"{name:12} median {statistics.median(ordered):.3f} s, longest {ordered[-1]:.3f} s of {runs}")


if __name__ == "__main__":
    main()
