"""The tutorial's own commands, line by line, on free ports and in a directory of its own."""

import importlib.util
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
# What the reader has done already, or does in the foreground and stops by hand.
LEFT_OUT = ("make setup", ". .venv", "mkdir ", "cd ", "haldane run --server")
NOT_YET = (4, 7)  # haldane: the agent does not answer; curl: nobody listens
PATIENCE_SECONDS = 90.0
FIRST_RETRY_SECONDS = 0.2

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed: install haldane[sandbox]"
)


class Reader:
    """Somebody who types the tutorial's commands; a command that comes too early is typed again."""

    def __init__(self, directory: Path, ports: dict[str, int]) -> None:
        self.directory = directory
        self._swaps = {"/tmp/haldane-tutorial": str(directory), **{str(old): str(new) for old, new in ports.items()}}
        self._running: list[subprocess.Popen[bytes]] = []
        config = directory / "haldane.yaml"
        config.write_text(self.adapted((ROOT / "docs/examples/tutorial/haldane.yaml").read_text()) + self.listen())

    def listen(self) -> str:
        return f"listen: 127.0.0.1:{self._swaps['8620']}\n"

    def adapted(self, text: str) -> str:
        for old, new in self._swaps.items():
            text = text.replace(old, new)
        return text

    def type(self, line: str) -> tuple[int, str]:
        """Exit code and output; 0 at once for what is left running in the background."""
        words = shlex.split(self.adapted(line))
        words[0] = {"haldane": str(Path(sys.executable).with_name("haldane")), "python": sys.executable}.get(
            words[0], words[0]
        )
        if words[-1] == "&":
            log = (self.directory / f"background-{len(self._running)}.log").open("wb")
            self._running.append(subprocess.Popen(words[:-1], cwd=self.directory, stdout=log, stderr=subprocess.STDOUT))
            return 0, ""
        words = [str(ROOT / word) if word.startswith("docs/") else word for word in words]
        return self._until_heard(words)

    def _until_heard(self, words: list[str]) -> tuple[int, str]:
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, FIRST_RETRY_SECONDS
        while True:
            done = subprocess.run(words, cwd=self.directory, capture_output=True, text=True, timeout=240, check=False)
            if done.returncode not in NOT_YET or time.monotonic() > deadline:
                return done.returncode, done.stdout + done.stderr
            time.sleep(pause)
            pause = min(2.0, 1.5 * pause)

    def stop(self) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in self.directory.glob("*.log"))


@pytest.fixture
def reader(tmp_path, free_port) -> Iterator[Reader]:
    somebody = Reader(tmp_path, {port: free_port() for port in ("8500", "8501", "8510", "8511", "8620")})
    yield somebody
    somebody.stop()


def lines() -> list[str]:
    text = (ROOT / "docs/tutorial.md").read_text()
    all_lines = [line.strip() for block in FENCE.findall(text) for line in block.splitlines()]
    return [line for line in all_lines if line and not line.startswith(("#", *LEFT_OUT))]


def expected_code(line: str) -> int:
    """Version 2 is withdrawn, and the explanation asked for is version 2's."""
    return 1 if "start risk 2" in line or "explain" in line else 0


@pytest.mark.timeout(600)
def test_the_tutorial_does_what_it_says(reader, need_binary):
    need_binary("curl")
    said: dict[str, str] = {}
    for line in lines():
        if "haldane.yaml /tmp" in line:
            continue  # written by the reader, with free ports
        rollout = re.search(r"^(risk-2-\w+):", said.get("start risk 2", ""), re.M)
        code, output = reader.type(line.replace("ROLLOUT", rollout[1] if rollout else "ROLLOUT"))
        assert code == expected_code(line), f"{line}\n{output}\n{reader.logs()}"
        for key in ("start risk 2", "start risk 3", "labels/stable", "explain"):
            if key in line:
                said[key] = output
    assert "accuracy" in said["start risk 2"]
    assert "SUCCEEDED" in said["start risk 3"]
    assert "outputs" in said["labels/stable"]
    assert "withdrawn" in said["explain"]
