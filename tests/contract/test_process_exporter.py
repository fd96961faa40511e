"""CPU and memory of a server as a real process exporter tells them, set up as docs/howto/resources.md says."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from haldane.adapters.process import open_process_page
from haldane.ports import NoData
from haldane.testing.sandboxes import Sandbox

GROUPS = """
process_names:
  - name: r0
    cmdline: ['--port=%d']
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("box")) as made:
        made.flags = (*made.flags, f"--admin_port={made.admin_port}")
        made.add("m", 1)
        yield made.start(made.config(made.entry("m", 1)))


@pytest.fixture(scope="module")
def exporter(
    sandbox: Sandbox,
    need_binary: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of its page."""
    directory: Path = tmp_path_factory.mktemp("exporter")
    config, port = directory / "groups.yml", free_port()
    config.write_text(GROUPS % sandbox.port)
    command = [
        need_binary("prometheus-process-exporter"),
        f"-config.path={config}",
        f"-web.listen-address=127.0.0.1:{port}",
    ]
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        url, deadline = f"http://127.0.0.1:{port}/metrics", time.monotonic() + 20
        while True:
            try:
                if httpx.get(url, trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url
        process.kill()


async def test_it_tells_what_the_process_tells_of_itself(exporter: str, sandbox: Sandbox) -> None:
    own = f"http://127.0.0.1:{sandbox.admin_port}/metrics"
    async with open_process_page("r0", exporter, group="r0") as group, open_process_page("r0", own) as process:
        assert await group.resident_bytes() == pytest.approx(await process.resident_bytes(), rel=0.2)
        # It counts from the moment it first saw the process; differences are what is used.
        assert 0 <= await group.cpu_seconds() <= await process.cpu_seconds()


async def test_a_group_it_does_not_have_is_no_data(exporter: str) -> None:
    async with open_process_page("r0", exporter, group="tensorflow_model_server") as page:
        with pytest.raises(NoData, match="tensorflow_model_server"):
            await page.cpu_seconds()
