"""`haldane tap` as a process, and real proxies that mirror to it, with the very configs of docs/howto/tap.md."""

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests.fleet import HALDANE

from haldane.testing.sandboxes import free_port

HOWTO = Path(__file__).resolve().parent.parent / "docs" / "howto" / "tap.md"
# As the manual has them: what clients call, where Serving listens, where the tap does.
PORTS = {"grpc": 8510, "rest": 8511, "serving_grpc": 8500, "serving_rest": 8501, "tap_grpc": 8621, "tap_rest": 8622}


def snippet(name: str) -> str:
    """The block of the manual whose first line is `# NAME`."""
    found: list[str] = re.findall(rf"^```\w+\n# {re.escape(name)}\n(.*?)^```", HOWTO.read_text(), re.M | re.S)
    assert len(found) == 1, f"{HOWTO.name} has {len(found)} blocks named {name}"
    return found[0]


class Running:
    """A process with a log; ended at the end."""

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name, self.log = name, directory / f"{name}.log"
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = 150.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log.read_text()[-3000:]}"
            try:
                if holds():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"{self.name}: not {what} after {seconds:.0f} s:\n{self.log.read_text()[-3000:]}")

    def wait_up(self, holds: Callable[[], bool], what: str) -> None:
        """The first wait, while nobody has it yet who would end it."""
        try:
            self.wait(holds, what)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                return self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


class Tap(Running):
    """The tap; `config` needs no `tap` of its own."""

    def __init__(self, directory: Path, config: Mapping[str, Any], *, name: str = "tap", **tap: Any) -> None:
        self.file = directory / f"{name}.yaml"
        self.grpc, self.rest = free_port(), free_port()
        ports = {"grpc": f"127.0.0.1:{self.grpc}", "rest": f"127.0.0.1:{self.rest}"}
        self.file.write_text(yaml.safe_dump({**config, "tap": {**ports, **tap}}))
        self.url = f"http://127.0.0.1:{self.rest}"
        super().__init__(name, [HALDANE, "tap", str(self.file)], directory)
        self.wait_up(lambda: httpx.get(f"{self.url}/-/healthy", timeout=30).is_success, "healthy")

    def counts(self) -> dict[str, float]:
        """Its series: "received model result", "copies model result use"."""
        page = httpx.get(f"{self.url}/metrics", timeout=30).text
        found = re.findall(r"^haldane_tap_(received|copies)_total\{(.*)\} (\S+)$", page, re.M)
        return {" ".join([name, *re.findall(r'"(.*?)"', labels)]): float(value) for name, labels, value in found}


class Mirror(Running):
    """Envoy or nginx, before one Serving and one tap; clients call `grpc` and `rest`."""

    def __init__(self, name: str, binary: str, directory: Path, ports: Mapping[str, int]) -> None:
        self.grpc, self.rest = free_port(), free_port()
        file = directory / ("envoy.yaml" if name == "envoy" else "nginx.conf")
        text = snippet(file.name)
        for key, port in {**ports, "grpc": self.grpc, "rest": self.rest}.items():
            before, after = (
                (f"port_value: {PORTS[key]}", f"port_value: {port}")
                if name == "envoy"
                else (f":{PORTS[key]}", f":{port}")
            )
            assert text.count(before) == 1, f"{name}: {before} stands {text.count(before)} times"
            text = text.replace(before, after)
        if name == "envoy":
            words = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn", "-c", str(file)]
        else:
            # Where a test may write; the manual leaves that to the distribution.
            paths = (
                "client_body_temp_path",
                "proxy_temp_path",
                "fastcgi_temp_path",
                "uwsgi_temp_path",
                "scgi_temp_path",
            )
            own = "".join(f"  {path} {directory};\n" for path in paths) + "  access_log off;\n"
            text = text.replace("http {\n", f"http {{\n{own}", 1)
            settings = f"daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr;"
            words = ["-p", str(directory), "-c", str(file), "-g", settings]
        file.write_text(text)
        super().__init__(f"{name}-process", [binary, *words], directory)
        self.wait_up(lambda: httpx.get(f"http://127.0.0.1:{self.rest}/v1/models/scorer", timeout=30).is_success, "up")
