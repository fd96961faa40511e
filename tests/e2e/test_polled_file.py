"""Servers that poll their model config file are changed through it, on real processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fleet import MODEL, Fleet

from haldane.serving import modelconfig

FLAGS = ("--model_config_file_poll_wait_seconds=1", "--allow_version_labels_for_unavailable_models=true")


class Polling(Fleet):
    """Two sandboxes that poll, with a model of another team in their files."""

    def file(self, index: int) -> Path:
        return self.directory / f"r{index}.config"

    def start(self) -> None:
        for index, sandbox in enumerate(self.sandboxes):
            sandbox.start(sandbox.config(sandbox.entry(MODEL, 1), sandbox.entry("other", 1)), rest=True)
            self.file(index).write_text("# whom to ask: ada\n" + self.file(index).read_text())

    def base(self) -> Path:
        path = self.directory / "base.config"
        path.write_text(modelconfig.render(self.first.config(self.first.entry(MODEL, 1), self.first.entry("other", 1))))
        return path

    def config(self, **more: Any) -> dict[str, Any]:
        made = super().config(**more)
        for index, server in enumerate(made["servers"]):
            server["config_file"] = str(self.file(index))
        return made


@pytest.fixture
def polling(tmp_path: Path) -> Iterator[Polling]:
    made = Polling(tmp_path, flags=(*FLAGS, "--load_retry_interval_micros=200000"))
    made.add(1)
    made.add(2)
    made.first.add("other", 1)
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_a_version_is_promoted_through_the_files_and_a_restarted_server_has_it(polling: Polling) -> None:
    agent = polling.run_agent()
    name = agent.begin(2)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    assert over["phase"] == "SUCCEEDED", over["why"]
    agent.wait(lambda: agent.labels() == {"r0": {"stable": 2}, "r1": {"stable": 2}}, "at rest on version 2")
    for index in (0, 1):
        text = polling.file(index).read_text()
        entry = modelconfig.parse(text).entry(MODEL)
        assert (entry.versions, entry.labels) == ((2,), {"stable": 2})
        assert text.startswith("# whom to ask: ada\n") and modelconfig.parse(text).entry("other").versions == (1,)
    agent.stop()
    box = polling.first
    box.stop()
    box.start(modelconfig.parse(polling.file(0).read_text()), rest=True)  # nobody is there to give labels back
    url = f"http://127.0.0.1:{box.rest_port}/v1/models/{MODEL}/labels/stable/metadata"
    assert httpx.get(url, trust_env=False).json()["model_spec"]["version"] == "2"


def test_a_wrong_version_is_withdrawn_from_the_files(polling: Polling) -> None:
    polling.add(3, k=20.0)
    agent = polling.run_agent()
    name = agent.begin(3)
    over = agent.wait_phase(name, "SUCCEEDED", "ROLLED_BACK", "HELD", seconds=90)
    assert over["phase"] == "ROLLED_BACK", over["why"]
    assert modelconfig.parse(polling.file(0).read_text()).entry(MODEL).labels == {"stable": 1}
    assert agent.labels() == {"r0": {"stable": 1}, "r1": {"stable": 1}}
