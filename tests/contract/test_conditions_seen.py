"""What goes wrong on a server that runs is seen as what it is, and within its bound (docs/runbooks/README.md)."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from haldane.adapters.storage import listing
from haldane.domain.fleet import Condition, ModelName, ServerConfig
from haldane.engine.observe import Observer, Pace
from haldane.judge.memory import Bounds
from haldane.ports import PortError
from haldane.sandbox.forkserver import ForkServer
from haldane.serving.client import ServingClient, open_client
from haldane.serving.exposition import load_counters
from haldane.telemetry import Telemetry
from haldane.testing.sandboxes import FORKED, Sandbox

SERVING = Path(__file__).parent / "serving"
CACHE = Path(__file__).parents[2] / ".cache" / "conformance-models"
sys.path.insert(0, str(SERVING))
import build_models  # noqa: E402

AFFINE = "affine(versions={1: 10.0, 2: 20.0})"


class Wall:
    """The wall clock."""

    def now(self) -> float:
        return time.time()


class Watched:
    """A sandbox that is looked at and scraped five times a second, with bounds of a second."""

    def __init__(self, box: Sandbox, client: ServingClient, config: ServerConfig, *, stored: bool) -> None:
        self.client = client
        self._box, self._config = box, config
        self.observer = Observer(
            {box.server.name: client},
            base=config,
            read=load_counters,
            sinks={},
            telemetry=Telemetry.on(CollectorRegistry()),
            clock=Wall(),
            wanted=lambda _: config,
            list_storage=listing if stored else None,
            bounds=Bounds(drift=1.0, slow=1.0, upload=1.0, unserved=1.0),
            pace=Pace(scrape=0.2, listing=0.2),
        )

    async def keep_looking(self) -> None:
        while True:
            try:
                view = await self.client.look({entry.name: ["stable"] for entry in self._config.models}, {})
            except PortError:
                view = None
            self.observer.on_view(self._box.server, view)
            await asyncio.sleep(0.2)

    async def one(self, name: str) -> Condition:
        """The condition of that name, as soon as it holds."""
        async with asyncio.timeout(30):
            while True:
                for one in self.observer.conditions():
                    if one.name == name:
                        return one
                await asyncio.sleep(0.05)

    async def quiet(self) -> None:
        """Two scrapes without any condition."""
        await asyncio.sleep(1.0)
        assert self.observer.conditions() == ()


@asynccontextmanager
async def watching(box: Sandbox, config: ServerConfig, *, stored: bool = False) -> AsyncIterator[Watched]:
    async with open_client(box.server) as client, asyncio.TaskGroup() as group:
        watched = Watched(box, client, config, stored=stored)
        tasks = [group.create_task(watched.observer.run()), group.create_task(watched.keep_looking())]
        try:
            yield watched
        finally:
            for task in tasks:
                task.cancel()


async def test_a_directory_without_a_model_is_told_though_no_counter_counts_it(tmp_path: Path) -> None:
    with Sandbox(tmp_path, flags=["--max_num_load_retries=100"]) as box:
        box.add("toy", 1)
        box.start(config := box.config(box.entry("toy")), rest=True)
        async with watching(box, config) as watched:
            await watched.quiet()
            (box.models / "toy" / "2").mkdir()  # its files are still being copied
            one = await watched.one("load_stuck")
    assert (one.model, one.version) == ("toy", 2)
    assert "no saved_model.pb" in one.detail


async def test_a_version_that_fails_in_warm_up_is_told_while_serving_still_retries(tmp_path: Path) -> None:
    """TensorFlow's own counter calls each attempt a success, and status says LOADING, OK."""
    build_models.ensure(CACHE, [AFFINE])
    build_models.place(CACHE, AFFINE, tmp_path / "made")
    retries = ["--max_num_load_retries=1000", "--load_retry_interval_micros=100000"]
    with ForkServer() as forks, Sandbox(tmp_path, command=FORKED, spawn=forks.spawn, flags=retries) as box:
        place = box.models / "toy"
        place.mkdir(parents=True)
        (tmp_path / "made" / "1").rename(place / "1")
        box.start(config := box.config(box.entry("toy")), rest=True)
        async with watching(box, config) as watched:
            await watched.quiet()
            (tmp_path / "made" / "2" / "assets.extra").mkdir()
            (tmp_path / "made" / "2" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no TFRecords")
            (tmp_path / "made" / "2").rename(place / "2")
            one = await watched.one("failed_load")
            view = await watched.client.look({ModelName("toy"): []}, {})
    assert (one.model, one.version) == ("toy", 2)
    assert one.detail.startswith("read more than once without becoming available"), one.detail
    status = view.models[ModelName("toy")].status(2)
    assert status is not None
    assert (status.availability, status.error_code) == ("LOADING", "OK")


async def test_a_label_moved_by_another_sender_and_a_version_it_unloaded_are_drift(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as box:
        box.add("toy", 1)
        box.add("toy", 2)
        entry = box.entry("toy", 1, 2)
        box.start(box.config(entry), rest=True)
        wanted = box.config(entry.serving((1, 2), {"stable": 1}))
        async with watching(box, wanted) as watched:
            await watched.client.reload(wanted)
            await watched.quiet()
            await watched.client.reload(box.config(entry.serving((1, 2), {"stable": 2})))
            label = await watched.one("label_drift")
            await watched.client.reload(box.config(entry.serving((1,), {})))
            version = await watched.one("config_drift")
    assert label.detail == "label stable should name 1, but names 2"
    assert (version.model, version.version) == ("toy", 2)


async def test_a_restart_is_told_and_so_is_the_label_that_it_cost(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as box:
        box.add("toy", 1)
        box.add("toy", 2)
        entry = box.entry("toy", 1, 2)
        box.start(box.config(entry), rest=True)
        wanted = box.config(entry.serving((1, 2), {"stable": 1}))
        async with watching(box, wanted) as watched:
            await watched.client.reload(wanted)
            await watched.quiet()
            box.stop()
            box.start(box.config(entry), rest=True)  # every version is loaded as often as before
            restarted = await watched.one("server_restarted")
            label = await watched.one("label_drift")
    assert restarted.servers == ("r0",)
    assert label.detail == "label stable should name 1, but is not set"


async def test_an_upload_that_stands_still_is_told_by_what_its_directory_lacks(tmp_path: Path) -> None:
    with Sandbox(tmp_path, flags=["--max_num_load_retries=100", "--load_retry_interval_micros=100000"]) as box:
        box.add("toy", 1)
        box.start(config := box.config(box.entry("toy")), rest=True)
        async with watching(box, config, stored=True) as watched:
            await watched.quiet()
            folder = box.models / "toy" / "2"
            (folder / "variables").mkdir(parents=True)
            (folder / "variables" / "variables.index").write_bytes(b"x")
            one = await watched.one("upload_incomplete")
            assert [other.name for other in watched.observer.conditions()] == ["upload_incomplete"]
    assert (one.model, one.version) == ("toy", 2)
    assert one.detail == f"{folder} has no saved_model.pb (it holds variables/variables.index); is the upload complete?"


async def test_one_base_path_that_is_gone_keeps_a_server_from_the_new_versions_of_all_models(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as box:
        box.add("toy", 1)
        other = box.add("other", 1)
        box.start(config := box.config(box.entry("toy"), box.entry("other")), rest=True)
        async with watching(box, config, stored=True) as watched:
            await watched.quiet()
            other.rename(tmp_path / "elsewhere")
            other.parent.rmdir()
            box.add("toy", 2)
            one = await watched.one("version_not_loaded")
    assert (one.model, one.version) == ("toy", 2)
    assert one.detail == "storage holds it, complete, and nothing tries to load it; the newest that serves is 1"


async def test_a_version_that_another_sender_loads_is_told_though_it_is_unloaded_at_once(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as box:
        box.add("toy", 1)
        box.add("toy", 2)
        entry = box.entry("toy", 1)
        box.start(wanted := box.config(entry), rest=True)
        async with watching(box, wanted) as watched:
            await watched.quiet()
            await watched.client.reload(box.config(entry.serving((1, 2), {})))
            one = await watched.one("unapproved_version")
            await watched.client.reload(wanted)
            await asyncio.sleep(1.0)
            still = await watched.one("unapproved_version")
    assert (one.model, one.version, still.since) == ("toy", 2, one.since)
