"""The REST API: paths, methods, counters, and HTTP itself over a real socket."""

import gzip
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.unit.sandbox.one_model import OneModel

from haldane import wire
from haldane.sandbox import toy
from haldane.sandbox.http_server import HttpServer
from haldane.sandbox.inference import Inference, Runner
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.rest import Request, Response, RestApi
from haldane.sandbox.servable import StatusError

ROWS = b'{"instances": [1.0]}'


def _status(request: Any) -> Any:
    if request.model_spec.name != "toy":
        raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {request.model_spec.name}")
    response = wire.GetModelStatusResponse()
    response.model_version_status.add(version=2, state="AVAILABLE").status.SetInParent()
    return response


class Api:
    """A RestApi over one toy model, and its metrics."""

    def __init__(self, directory: Path, **options: Any) -> None:
        toy.write(directory / "2", "affine", k=10.0)
        self.metrics = Metrics()
        servable = toy.ToyExecutor(self.metrics).load("toy", str(directory / "2"))
        inference = Inference(OneModel("toy", servable), Runner(self.metrics))
        self.api = RestApi(inference, _status, self.metrics, **options)

    def __call__(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        return self.api.handle(Request(method, target, headers, body))

    def counted(self, model: str, status: str) -> int:
        return self.metrics.request_count.value(model, status)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path, metrics_path="/m")


def test_predict_answers_in_the_layout_of_the_request(api: Api) -> None:
    assert api("POST", "/v1/models/toy:predict", ROWS).body == b'{\n    "predictions": [10.0\n    ]\n}'
    assert api("POST", "/v1/models/toy:predict", b'{"inputs": [1.0]}').body == (
        b'{\n    "outputs": [\n        10.0\n    ]\n}'
    )


def test_paths_match_in_any_case_but_verbs_do_not(api: Api) -> None:
    assert api("POST", "/V1/Models/toy/VERSIONS/2:predict", ROWS).status == 200
    refused = api("POST", "/v1/models/toy:Predict", ROWS)
    assert (refused.status, json.loads(refused.body)) == (
        400,
        {"error": "Malformed request: POST /v1/models/toy:Predict"},
    )


@pytest.mark.parametrize("target", ["/v1/models/toy:predict?a=1", "/v1/models/toy/versions/1/labels/a:predict"])
def test_a_query_or_two_choices_make_a_predict_malformed(api: Api, target: str) -> None:
    assert json.loads(api("POST", target, ROWS).body)["error"] == f"Malformed request: POST {target}"


def test_a_query_belongs_to_the_name_of_the_model_asked_about(api: Api) -> None:
    answer = api("GET", "/v1/models/toy?x=1")
    assert (answer.status, json.loads(answer.body)["error"]) == (404, "Could not find any versions of model toy?x=1")


def test_names_are_percent_decoded(api: Api) -> None:
    assert api("GET", "/v1/models/t%6Fy").status == 200


def test_a_version_beyond_64_bits_is_refused_without_a_word(api: Api) -> None:
    answer = api("POST", "/v1/models/toy/versions/99999999999999999999:predict", ROWS)
    assert (answer.status, answer.body) == (400, b"")
    assert api.counted("toy", "INVALID_ARGUMENT") == 1


@pytest.mark.parametrize("target", ["/", "/v1", "/v2/models/toy", "/healthz"])
def test_outside_the_api_there_is_an_html_404(api: Api, target: str) -> None:
    answer = api("GET", target)
    assert (answer.status, answer.headers) == (404, (("Content-Type", "text/html"),))
    assert b"<H1>Not Found</H1>" in answer.body


def test_methods_libevent_does_not_know_are_not_implemented(api: Api) -> None:
    assert api("TRACE", "/v1/models/toy").status == 501
    assert api("OPTIONS", "/v1/models/toy").body == b""


@pytest.mark.parametrize("target", ["/v1/models/a b", "/v1/models/{x}", "/v1/models/%zz"])
def test_what_is_no_uri_is_a_bad_request_in_html(api: Api, target: str) -> None:
    answer = api("GET", target)
    assert (answer.status, answer.headers[0][1]) == (400, "text/html")


def test_every_call_below_v1_is_counted_and_only_successes_are_timed(api: Api) -> None:
    api("POST", "/v1/models/toy:predict", ROWS)
    api("GET", "/v1/models/toy")
    api("GET", "/v1/models/toy/metadata")
    api("GET", "/v1/models/zz")
    api("PUT", "/v1/models/toy", b"{}")
    page = api.metrics.page()
    assert ':tensorflow:serving:request_count{model_name="toy",status="OK"} 3\n' in page
    assert ':tensorflow:serving:request_count{model_name="zz",status="NOT_FOUND"} 1\n' in page
    assert ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 1\n' in page
    latency = ':tensorflow:serving:request_latency_count{model_name="toy",API="%s",entrypoint="REST"} %d\n'
    assert latency % ("predict", 1) in page
    assert latency % ("", 2) in page
    assert ':tensorflow:serving:runtime_latency_count{model_name="toy",API="Predict",runtime="TF1"} 1\n' in page


def test_metadata_doubles_its_key_and_prints_the_version_as_a_string(api: Api) -> None:
    parsed = json.loads(api("GET", "/v1/models/toy/metadata").body)
    assert parsed["model_spec"] == {"name": "toy", "version": "2", "signature_name": ""}
    assert parsed["metadata"]["signature_def"]["signature_def"]["serving_default"]["defaults"] == {}


def test_the_metrics_page_takes_any_method_but_no_query(api: Api) -> None:
    assert api("POST", "/m").headers == (("Content-Type", "text/plain"),)
    refused = api("GET", "/m?x=1")
    assert (refused.status, refused.body) == (400, b"Unexpected path: /m?x=1. Should be /m")
    assert api.counted("", "INVALID_ARGUMENT") == 0


def test_a_gzip_body_is_read_and_a_false_one_is_empty(api: Api) -> None:
    path = "/v1/models/toy:predict"
    assert api("POST", path, gzip.compress(ROWS), **{"content-encoding": "gzip"}).status == 200
    answer = api("POST", path, ROWS, **{"content-encoding": "gzip"})
    assert json.loads(answer.body)["error"] == "JSON Parse error: The document is empty"


def test_cors_headers_come_with_every_answer_of_the_api(tmp_path: Path) -> None:
    api = Api(tmp_path, cors=True)
    for method in ("GET", "OPTIONS"):
        assert dict(api(method, "/v1/models/toy").headers)["Access-Control-Allow-Origin"] == "*"
    assert len(api("GET", "/").headers) == 1


@pytest.fixture
def server(api: Api) -> Iterator[HttpServer]:
    server = HttpServer(api.api.handle, port=0, threads=3, host="127.0.0.1")
    yield server
    server.close()


def test_a_connection_takes_one_request_after_another(server: HttpServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for method, status in (("POST", 200), ("HEAD", 400), ("POST", 200)):
        connection.request(method, "/v1/models/toy:predict", ROWS)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()


def test_pipelined_requests_are_answered_in_order(server: HttpServer) -> None:
    one = b"GET /v1/models/%s HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(one % b"toy" + one % b"zz" + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b"".join(iter(lambda: client.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"404", b"404"]


def test_idle_connections_hold_no_worker(server: HttpServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(20)]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/v1/models/toy")
    assert connection.getresponse().status == 200
    for client in (*idle, connection):
        client.close()


def test_what_is_no_http_gets_a_400(server: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_mistake_of_ours_is_a_500_and_not_a_hang() -> None:
    def broken(request: Request) -> Response:
        raise KeyError(request.target)

    server = HttpServer(broken, port=0, threads=2, host="127.0.0.1")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == 500
    connection.close()
    server.close()


def test_a_busy_worker_does_not_stop_the_others() -> None:
    release = threading.Event()

    def slow(request: Request) -> Response:
        if request.target == "/slow":
            release.wait(10)
        return Response(200, (), b"done")

    server = HttpServer(slow, port=0, threads=3, host="127.0.0.1")
    waiting, quick = (http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(2))
    waiting.request("GET", "/slow")
    quick.request("GET", "/quick")
    assert quick.getresponse().read() == b"done"
    release.set()
    assert waiting.getresponse().read() == b"done"
    waiting.close()
    quick.close()
    server.close()
