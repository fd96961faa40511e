"""Each fault on request does what docs/sandbox.md says, to the version it names, until it is deleted."""

import http.client
import json
import math
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from haldane import wire


class Admin:
    """The admin endpoint of one sandbox."""

    def __init__(self, port: int) -> None:
        self._port = port

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, body=body if isinstance(body, str) else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def post(self, **fault: Any) -> int:
        status, body = self.request("POST", "/faults", fault)
        assert status == 200, body
        return int(body["id"])


@pytest.fixture
def sandbox(launch: Callable[..., Any]) -> Any:
    return launch().until_ready()


@pytest.fixture
def admin(sandbox: Any) -> Admin:
    return Admin(sandbox.admin_port)


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    code: grpc.StatusCode = refused.value.code()  # type: ignore[attr-defined]
    return code


def test_a_delayed_version_is_late_and_the_other_is_not(sandbox: Any, admin: Admin) -> None:
    admin.post(kind="delay", model="m", version=2, seconds=0.6)
    assert code_of(lambda: sandbox.predict(2, timeout=0.3)) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sandbox.predict(2) == 20
    assert sandbox.predict(1, timeout=0.3) == 10


def test_a_version_can_be_slower_by_a_factor(launch: Callable[..., Any], tmp_path: Any) -> None:
    from haldane.sandbox import toy

    toy.write(tmp_path / "m" / "2", "slow_predict", k=20.0, seconds=0.2)
    sandbox = launch().until_ready()
    Admin(sandbox.admin_port).post(kind="delay", version=2, factor=4)
    assert code_of(lambda: sandbox.predict(2, timeout=0.5)) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sandbox.predict(2) == 20


def test_a_share_of_a_versions_answers_fails_with_the_code_asked_for(sandbox: Any, admin: Admin) -> None:
    admin.post(kind="fail", version=2, share=0.5, code="UNAVAILABLE", message="rehearsed")
    codes = []
    for _ in range(60):
        try:
            sandbox.predict(2)
            codes.append("OK")
        except grpc.RpcError as failure:
            codes.append(failure.code().name)  # type: ignore[attr-defined]
    assert set(codes) == {"OK", "UNAVAILABLE"}
    assert [sandbox.predict(1) for _ in range(20)] == [10.0] * 20


@pytest.mark.parametrize(
    ("fault", "claim"),
    [
        ({"how": "nan"}, math.isnan),
        ({"how": "zero"}, lambda y: y == 0),
        ({"how": "scale", "factor": 1.5}, lambda y: y == 30),
    ],
)
def test_outputs_can_be_corrupted(
    sandbox: Any, admin: Admin, fault: dict[str, Any], claim: Callable[[float], bool]
) -> None:
    number = admin.post(kind="corrupt", version=2, **fault)
    assert claim(sandbox.predict(2))
    assert sandbox.predict(1) == 10
    admin.request("DELETE", f"/faults/{number}")
    assert sandbox.predict(2) == 20


def test_a_load_can_be_slow(sandbox: Any, admin: Admin) -> None:
    from haldane.sandbox import toy

    admin.post(kind="slow_load", version=3, seconds=1.5)
    toy.write(sandbox.directory / "m" / ".3", "affine", k=30.0)
    (sandbox.directory / "m" / ".3").rename(sandbox.directory / "m" / "3")
    sandbox.until(lambda: sandbox.states().get(3) == 20)
    began = time.monotonic()
    sandbox.until(lambda: sandbox.states().get(3) == 30)
    assert time.monotonic() - began > 1.0


def test_reloads_can_be_refused(sandbox: Any, admin: Admin) -> None:
    number = admin.post(kind="reload", how="refuse", code="PERMISSION_DENIED")
    assert code_of(sandbox.reload) is grpc.StatusCode.PERMISSION_DENIED
    admin.request("DELETE", f"/faults/{number}")
    sandbox.reload("model_version_policy { all {} }")


def test_reloads_can_hang_until_the_fault_is_deleted(sandbox: Any, admin: Admin) -> None:
    admin.post(kind="reload", how="hang")
    assert code_of(lambda: sandbox.reload(timeout=0.5)) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sandbox.predict() == 20
    admin.request("DELETE", "/faults")
    sandbox.reload("model_version_policy { all {} }", timeout=5)


def test_connections_can_be_dropped_under_requests_in_flight(sandbox: Any, admin: Admin) -> None:
    admin.post(kind="delay", seconds=5)
    call = sandbox.channel.unary_unary(wire.PREDICT.path)
    pending = call.future(sandbox.predict_request().SerializeToString(), timeout=20)
    sandbox.until(lambda: bool(admin.request("GET", "/faults")[1]["faults"]))
    time.sleep(0.3)  # the request has to be under way
    admin.post(kind="drop_connections")
    assert code_of(pending.result) is grpc.StatusCode.UNAVAILABLE
    admin.request("DELETE", "/faults")
    sandbox.until(lambda: sandbox.states() == {1: 30, 2: 30})  # a new connection works


def test_a_crash_ends_the_process_by_the_signal(sandbox: Any, admin: Admin) -> None:
    admin.post(kind="crash", how="SIGKILL")
    assert sandbox.process.wait(10) == -9


def test_what_is_in_force_is_listed_with_its_number(admin: Admin) -> None:
    number = admin.post(kind="delay", model="m", version=2, seconds=0.1)
    _, body = admin.request("GET", "/faults")
    assert [(fault["id"], fault["kind"], fault["version"]) for fault in body["faults"]] == [(number, "delay", 2)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("not json", "Expecting value"),
        ("[]", "a fault is a JSON object"),
        ({"kind": "earthquake"}, "kind must be one of"),
        ({"kind": "delay", "secs": 1}, "unknown field 'secs'"),
        ({"kind": "delay", "seconds": "1"}, "seconds must be a number"),
        ({"kind": "delay", "seconds": -1}, "must not be negative"),
        ({"kind": "delay", "version": "2"}, "version must be an integer"),
        ({"kind": "fail", "code": "TEAPOT"}, "code must be a gRPC status code's name"),
        ({"kind": "fail", "share": 1.5}, "share must lie between 0 and 1"),
        ({"kind": "corrupt", "how": "sideways"}, "how must be one of nan"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_by_name(admin: Admin, body: Any, words: str) -> None:
    status, answer = admin.request("POST", "/faults", body)
    assert status == 400
    assert words in answer["error"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/x"), ("DELETE", "/faults/9"), ("DELETE", "/x")])
def test_other_addresses_are_not_found(admin: Admin, method: str, path: str) -> None:
    assert admin.request(method, path)[0] == 404


def test_without_the_flag_there_is_no_endpoint(launch: Callable[..., Any]) -> None:
    sandbox = launch("--admin_port=0")
    sandbox.until_open(sandbox.port, sandbox.rest_port)
    with pytest.raises(ConnectionRefusedError):
        Admin(sandbox.admin_port).request("GET", "/faults")
