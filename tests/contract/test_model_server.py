"""The client to Serving keeps the ModelServer contract over the sandbox, toy and TensorFlow, and over a real server.

A real one is started by the command in HALDANE_MODEL_SERVER, as for the recordings.
"""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from haldane.sandbox.forkserver import ForkServer
from haldane.serving.client import open_client
from haldane.testing.contracts.model_server import Bench, ModelServerContract
from haldane.testing.sandboxes import FORKED, Sandbox, affine_request

HERE = Path(__file__).parent / "serving"
CACHE = Path(__file__).parents[2] / ".cache" / "conformance-models"
sys.path.insert(0, str(HERE))
import build_models  # noqa: E402

AFFINE = "affine(versions={1: 10.0, 2: 20.0})"


@asynccontextmanager
async def a_bench(sandbox: Sandbox) -> AsyncIterator[Bench]:
    """Versions 1 and 2 loaded, the client open."""
    with sandbox:
        sandbox.start(sandbox.config(sandbox.entry("toy", 1, 2)), rest=True)
        async with open_client(sandbox.server) as client:
            bench = Bench(client, lambda v, labels: sandbox.entry("toy", *v, labels=labels), affine_request(1.0))
            await bench.wait_until(lambda view: view.loaded == (1, 2))
            yield bench


def place_saved_models(sandbox: Sandbox) -> None:
    build_models.ensure(CACHE, [AFFINE])
    build_models.place(CACHE, AFFINE, sandbox.models / "toy")


class TestToySandbox(ModelServerContract):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        sandbox = Sandbox(tmp_path)
        sandbox.add("toy", 1)
        sandbox.add("toy", 2)
        async with a_bench(sandbox) as bench:
            yield bench


@pytest.fixture(scope="module")
def forkserver() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


class TestTensorFlowSandbox(ModelServerContract):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path, forkserver: ForkServer) -> AsyncIterator[Bench]:
        sandbox = Sandbox(tmp_path, command=FORKED, spawn=forkserver.spawn)
        place_saved_models(sandbox)
        async with a_bench(sandbox) as bench:
            yield bench


@pytest.mark.real_server
class TestRealServer(ModelServerContract):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        command = os.environ.get("HALDANE_MODEL_SERVER", "")
        if "{grpc}" not in command:
            pytest.skip("HALDANE_MODEL_SERVER gives no command to start a tensorflow_model_server with")
        sandbox = Sandbox(tmp_path, command=command)
        place_saved_models(sandbox)
        async with a_bench(sandbox) as bench:
            yield bench
