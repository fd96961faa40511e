"""What a range query may answer, from a server that answers what it is told to."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from haldane.adapters.promql import MOST_POINTS, Window, open_range, query_range
from haldane.ports import Malformed, NoData, Refused, Unavailable


class Server(HTTPServer):
    answer: Callable[[dict[str, str]], tuple[int, Any]]
    asked: list[dict[str, str]]
    tokens: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        self.server.asked.append(form)
        self.server.tokens.append(self.headers["authorization"])
        status, answer = self.server.answer(form)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.asked, made.tokens = [], []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/"


def matrix(*series: list[list[Any]]) -> dict[str, Any]:
    result = [{"metric": {}, "values": values} for values in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def ask(server: Server, *, end: float = 300.0, step: float = 60.0, token: str | None = None) -> Window:
    with open_range(url(server), timeout_seconds=5.0, token=token) as http:
        return query_range(http, "up", start=0.0, end=end, step=step)


def test_one_series_comes_as_times_and_values_without_the_steps_that_say_nothing(server: Server) -> None:
    server.answer = lambda form: (200, matrix([[60, "1.5"], [120, "NaN"], [180, "+Inf"], [240, "2"]]))
    found = ask(server)
    assert (found.at.tolist(), found.values.tolist()) == ([60.0, 240.0], [1.5, 2.0])
    assert server.asked[0] == {"query": "up", "start": "0.0", "end": "300.0", "step": "60.0"}


@pytest.mark.parametrize("series", [[], [[[60, "NaN"]]]])
def test_a_window_without_a_number_is_no_data(server: Server, series: list[list[Any]]) -> None:
    server.answer = lambda form: (200, matrix(*series))
    with pytest.raises(NoData, match="up: no number in the whole window"):
        ask(server)


def test_the_token_is_sent_as_a_bearer(server: Server) -> None:
    server.answer = lambda form: (200, matrix([[60, "1"]]))
    ask(server, token="t0ken")
    assert server.tokens == ["Bearer t0ken"]


def test_a_long_window_is_asked_for_in_parts_that_meet(server: Server) -> None:
    server.answer = lambda form: (200, matrix([[float(form["start"]), "1"], [float(form["end"]), "1"]]))
    found = ask(server, end=2.5 * MOST_POINTS, step=1.0)
    edges = [(float(one["start"]), float(one["end"])) for one in server.asked]
    assert edges == [(0.0, 9999.0), (10000.0, 19999.0), (20000.0, 25000.0)]
    assert found.at.tolist() == [0.0, 9999.0, 10000.0, 19999.0, 20000.0, 25000.0]


@pytest.mark.parametrize(
    ("status", "answer", "error", "says"),
    [
        (200, matrix([[0, "1"]], [[0, "2"]]), NoData, r"up: gives 2 series; sum\(\) or avg\(\)"),
        (400, {"status": "error", "error": "parse error: unexpected end"}, Refused, "up: parse error: unexpected end"),
        (503, {"status": "error", "error": "too busy"}, Unavailable, "status 503: too busy"),
        (200, {"status": "success", "data": {"resultType": "vector", "result": []}}, Malformed, "a vector instead"),
        (404, b"<html>", Malformed, "not an answer of the query API; is the URL right"),
        (200, {"data": 1}, Malformed, "not an answer"),
        (200, [], Malformed, "not an answer"),
        (200, matrix([[0, "one"]]), Malformed, "not an answer"),
    ],
)
def test_anything_else_has_its_word(
    server: Server, status: int, answer: Any, error: type[Exception], says: str
) -> None:
    server.answer = lambda form: (status, answer)
    with pytest.raises(error, match=says):
        ask(server)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[::1"])
def test_nobody_there_is_unavailable(url: str) -> None:
    with pytest.raises(Unavailable, match="prometheus: "), open_range(url, timeout_seconds=1.0) as http:
        query_range(http, "up", start=0.0, end=1.0, step=1.0)


def test_an_authority_that_cannot_be_read_is_unavailable() -> None:
    with (
        pytest.raises(Unavailable, match="cannot be asked"),
        open_range("https://p", timeout_seconds=1.0, ca="/nowhere"),
    ):
        pass
