"""The process: how it starts, refuses, is secured, runs out of threads and ends; and its forks."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from haldane import wire
from haldane.sandbox import toy
from haldane.sandbox.forkserver import ENVIRONMENT, ForkServer

SERVER = [sys.executable, "-m", "haldane.sandbox", "--executor=toy"]


def ended(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVER, *flags], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port=abc"], "Couldn't interpret value abc for flag port."),
        ([], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (["--model_config_file=/no/such"], "NOT_FOUND: /no/such; No such file or directory"),
        (["--port=0", "--model_base_path=/x"], "At least one of server_options.grpc_port"),
        (["--executor=torch", "--model_base_path=/x"], "--executor must be tensorflow or toy"),
        (
            ["--model_base_path=/x", "--batching_parameters_file=/y"],
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true.",
        ),
    ],
)
def test_a_start_that_cannot_work_ends_with_255_and_says_why(flags: list[str], words: str) -> None:
    done = ended(*flags)
    assert done.returncode == 255
    assert words in done.stderr


@pytest.mark.parametrize("text", ["model_config_list { config { nam: 'm' } }", '{"model_config_list": {}}', ""])
def test_an_unreadable_config_ends_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "models.config").write_text(text)
    done = ended(f"--model_config_file={tmp_path}/models.config")
    assert done.returncode == 255
    assert "Failed to start server. Error: INVALID_ARGUMENT: " in done.stderr


def test_version_and_help_are_answered_without_a_server() -> None:
    shown = ended("--version")
    assert (shown.returncode, shown.stdout.splitlines()[0].split(":")[0]) == (0, "TensorFlow ModelServer")
    helped = ended("--help")
    assert (helped.returncode, "--model_config_file" in helped.stdout) == (255, True)


def test_the_toy_executor_needs_no_tensorflow(tmp_path: Path) -> None:
    script = (
        "import sys; from haldane.sandbox.flags import parse; from haldane.sandbox import server;"
        f"toy = server.Server(parse(['--executor=toy', '--port=0', '--grpc_socket_path={tmp_path}/s',"
        f"'--model_name=m', '--model_base_path={tmp_path}/m']));"
        "maps = open('/proc/self/maps').read();"
        "print('tensorflow' in sys.modules, 'libtensorflow' in maps); sys.stdout.flush(); import os; os._exit(0)"
    )
    toy.write(tmp_path / "m" / "1", "affine", k=1.0)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_call_beyond_the_threads_is_refused_at_once_and_counted_nowhere(
    launch: Callable[..., Any], tmp_path: Path
) -> None:
    toy.write(tmp_path / "m" / "1", "slow_predict", k=1.0, seconds=1.0)
    sandbox = launch("--grpc_max_threads=3").until_ready()
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(sandbox.predict, 1) for _ in range(6)]
        failures = [call.exception() for call in calls]
    refused = [failure for failure in failures if failure is not None]
    assert len(refused) == 4  # one of the three threads is the server's own
    assert {(f.code(), f.details()) for f in refused} == {  # type: ignore[attr-defined]
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
    }
    assert sandbox.predict(1) == 1


def test_long_messages_are_cut_on_the_wire(launch: Callable[..., Any]) -> None:
    sandbox = launch().until_ready()
    request = sandbox.predict_request()
    request.model_spec.name = "n" * 2000
    with pytest.raises(grpc.RpcError) as refused:
        sandbox.call(wire.PREDICT, request)
    details = refused.value.details()  # type: ignore[attr-defined]
    assert details.endswith("n...TRUNCATED")
    assert len(details) == 1024 + len("...TRUNCATED")


def test_a_reload_tells_what_the_named_metrics_rose_by(launch: Callable[..., Any]) -> None:
    sandbox = launch().until_ready()
    request = wire.ReloadConfigRequest(metric_names=["/tensorflow/serving/request_count", "/no/such"])
    request.config.model_config_list.SetInParent()
    response = sandbox.call(wire.RELOAD_CONFIG, request)
    assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [
        ("/tensorflow/serving/request_count", 0),
        ("/no/such", 0),
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_kill_at_once(launch: Callable[..., Any], number: signal.Signals) -> None:
    sandbox = launch().until_ready()
    sandbox.process.send_signal(number)
    assert sandbox.process.wait(10) == -number


# ---------------------------------------------------------------- TLS
@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory, need_binary: Callable[[str], str]) -> dict[str, str]:
    """A self-signed authority and certificates for "localhost" and a client, as PEM texts."""
    openssl, base = need_binary("openssl"), tmp_path_factory.mktemp("pems")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=base, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    run(*new, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    (base / "names").write_text("subjectAltName=DNS:localhost")
    for name in ("server", "client"):
        run(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", "names", "-out", f"{name}.pem"),
        )
    return {path.name: path.read_text() for path in base.iterdir() if path.suffix in (".key", ".pem")}


def ssl_config(pems: dict[str, str], *, client_verify: bool) -> str:
    fields = {"server_key": "server.key", "server_cert": "server.pem", "custom_ca": "ca.pem"}
    lines = [f'{field}: "{pems[name]}"'.replace("\n", "\\n") for field, name in fields.items()]
    return "\n".join([*lines, f"client_verify: {str(client_verify).lower()}\n"])


@pytest.mark.parametrize(("client_verify", "with_certificate", "works"), [(0, 0, 1), (1, 1, 1), (1, 0, 0)])
def test_tls_asks_for_a_client_certificate_only_when_told_to(
    launch: Callable[..., Any],
    tmp_path: Path,
    pems: dict[str, str],
    client_verify: int,
    with_certificate: int,
    works: int,
) -> None:
    (tmp_path / "ssl.config").write_text(ssl_config(pems, client_verify=bool(client_verify)))
    sandbox = launch(f"--ssl_config_file={tmp_path}/ssl.config")
    sandbox.until_open(sandbox.port)
    own = [pems["client.key"].encode(), pems["client.pem"].encode()] if with_certificate else []
    credentials = grpc.ssl_channel_credentials(pems["ca.pem"].encode(), *own)
    with grpc.secure_channel(f"localhost:{sandbox.port}", credentials) as channel:
        if works:
            assert sandbox.predict(2, channel=channel) == 20
            return
        with pytest.raises(grpc.RpcError) as refused:
            sandbox.predict(2, channel=channel)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


def test_an_unreadable_ssl_config_crashes_the_start(launch: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "ssl.config").write_text("server_keys: 'x'")
    assert launch(f"--ssl_config_file={tmp_path}/ssl.config").process.wait(20) == -signal.SIGABRT


# ---------------------------------------------------------------- forks
def test_ten_forks_serve_side_by_side(launch: Callable[..., Any], tmp_path: Path) -> None:
    sandboxes = []
    for number in range(10):
        directory = tmp_path / str(number)
        directory.mkdir()
        sandboxes.append(launch(directory=directory))
    assert [sandbox.until_ready().predict(2) for sandbox in sandboxes] == [20.0] * 10


def test_the_fork_server_has_one_thread(forks: ForkServer) -> None:
    # What forks with several threads can leave a lock taken in the child for ever.
    assert "Threads:\t1\n" in Path(f"/proc/{forks.pid}/status").read_text()


def test_the_command_form_passes_signals_on_and_ends_as_its_sandbox_ends(forks: ForkServer, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "haldane.sandbox.forkserver", "run", "--"]
    environment = {**os.environ, ENVIRONMENT: forks.socket}
    refused = subprocess.run([*words, "--port=abc"], env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "Couldn't interpret value" in refused.stderr) == (255, True)
    waiting = [*words, "--executor=toy", "--port=1", "--model_name=m", f"--model_base_path={tmp_path}"]
    with subprocess.Popen(waiting, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "(Re-)adding model: m" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM


def test_closing_the_fork_server_ends_its_sandboxes(tmp_path: Path) -> None:
    with ForkServer(log=tmp_path / "server.log") as server:
        sandbox = server.spawn(["--executor=toy", "--port=1", f"--model_base_path={tmp_path}"], tmp_path / "log")
        assert sandbox.poll() is None
    assert sandbox.wait(10) == -signal.SIGKILL
