"""The client to Serving keeps the ModelServer contract over the sandbox, and over a real server when one is given."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from haldane.serving.client import open_client
from haldane.testing.contracts.model_server import Bench, ModelServerContract
from haldane.testing.sandboxes import Sandbox, affine_request


class TestSandbox(ModelServerContract):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        with Sandbox(tmp_path) as sandbox:
            sandbox.add("toy", 1)
            sandbox.add("toy", 2)
            sandbox.start(sandbox.config(sandbox.entry("toy", 1, 2)))
            async with open_client(sandbox.server) as client:
                bench = Bench(client, lambda v, labels: sandbox.entry("toy", *v, labels=labels), affine_request(1.0))
                await bench.wait_until(lambda view: view.loaded == (1, 2))
                yield bench
