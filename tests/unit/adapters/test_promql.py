"""Why a query gives no number, told apart; a token is sent and never shown."""

import json
import math
from collections.abc import Callable

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from haldane.adapters.process import ProcessPage, PromqlMeter
from haldane.adapters.promql import Prometheus
from haldane.ports import Malformed, NoData, PortError, Refused, Unavailable


def vector(*values: str) -> dict[str, object]:
    result = [{"metric": {"pod": str(i)}, "value": [1.0, value]} for i, value in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def source(answer: Callable[[httpx.Request], httpx.Response]) -> Prometheus:
    http = httpx.AsyncClient(base_url="http://secret-host/prefix", transport=httpx.MockTransport(answer))
    return Prometheus(http, timeout_seconds=1)


async def asked(status: int, body: object) -> float:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await source(lambda request: httpx.Response(status, content=content)).ask("up")


async def test_one_number_is_the_answer() -> None:
    assert await asked(200, vector("2.5")) == 2.5
    assert await asked(200, {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "7"]}}) == 7.0


async def test_the_query_is_sent_as_a_form_below_the_base_url() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=vector("1"))

    await source(answer).ask('sum(rate(a{b="c+d"}[1m]))')
    assert (seen[0].url.path, seen[0].method) == ("/prefix/api/v1/query", "POST")
    assert "c%2Bd" in seen[0].content.decode()


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (200, vector(), NoData, "no series"),
        (200, vector("1", "2"), NoData, "2 series"),
        (200, vector("NaN"), NoData, "nan"),
        (200, vector("+Inf"), NoData, "inf"),
        (200, {"status": "success", "data": {"resultType": "matrix", "result": []}}, NoData, "matrix"),
        (200, {"status": "success", "data": {"resultType": "string", "result": [1, "a"]}}, NoData, "string"),
        (200, b"<html>hello</html>", Malformed, "prometheus.url"),
        (200, {"status": "success"}, Malformed, "prometheus.url"),
        (200, [], Malformed, "prometheus.url"),
        (200, vector("one"), Malformed, "prometheus.url"),
        (200, b" " * 2_000_000, NoData, "far too many"),
        (400, {"status": "error", "error": "parse error: unexpected end"}, Refused, "parse error"),
        (401, b"", Refused, "status 401"),
        (422, {"status": "error", "error": "execution"}, Refused, "execution"),
        (429, b"", Unavailable, "status 429"),
        (503, {"status": "error", "error": "query timed out"}, Unavailable, "query timed out"),
    ],
)
async def test_no_number_has_a_reason(status: int, body: object, error: type[PortError], says: str) -> None:
    with pytest.raises(error, match=f"prometheus: .*{says}"):
        await asked(status, body)


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (httpx.ReadTimeout("http://secret-host"), "no answer within 1 s"),
        (httpx.ConnectError("http://secret-host"), "ConnectError"),
    ],
)
async def test_down_and_slow_are_told_apart_and_show_no_address(failure: Exception, says: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(Unavailable, match=says) as caught:
        await source(answer).ask("up")
    assert "secret-host" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "data", "resultType", "result", "value", "error"]), inner)
    ),
    max_leaves=12,
)


@given(status=st.sampled_from([200, 400, 503]), body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
@example(status=200, body=b"[" * 100_000)
@example(status=400, body=b"[" * 100_000)
@example(status=200, body=b'{"status":"success","data":{"resultType":"scalar","result":[1,1%s]}}' % (b"0" * 400))
async def test_whatever_it_answers_is_a_number_or_a_reason(status: int, body: bytes) -> None:
    try:
        assert math.isfinite(await asked(status, body))
    except PortError as error:
        assert error.detail


# --- processes ----------------------------------------------------------------

PAGE = """\
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
process_resident_memory_bytes 5e+08
namedprocess_namegroup_cpu_seconds_total{groupname="tfs",mode="system"} 1.5
namedprocess_namegroup_cpu_seconds_total{groupname="tfs",mode="user"} 4
namedprocess_namegroup_cpu_seconds_total{groupname="sshd",mode="user"} 99
namedprocess_namegroup_memory_bytes{groupname="tfs",memtype="resident"} 7e+08
namedprocess_namegroup_memory_bytes{groupname="tfs",memtype="virtual"} 9e+09
"""


def page(text: str, *, group: str = "", status: int = 200) -> ProcessPage:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=text))
    return ProcessPage(httpx.AsyncClient(transport=transport), server="r0", url="http://x/metrics", group=group)


async def test_a_process_page_tells_cpu_and_memory() -> None:
    assert (await page(PAGE).cpu_seconds(), await page(PAGE).resident_bytes()) == (12.5, 5e8)


async def test_a_process_exporter_tells_them_of_a_group() -> None:
    group = page(PAGE, group="tfs")
    assert (await group.cpu_seconds(), await group.resident_bytes()) == (5.5, 7e8)
    with pytest.raises(NoData, match=r'r0: .*groupname="other"'):
        await page(PAGE, group="other").cpu_seconds()


async def test_a_page_without_it_or_broken_is_no_reading() -> None:
    with pytest.raises(NoData, match="no process_cpu_seconds_total"):
        await page("other 1\n").cpu_seconds()
    with pytest.raises(Malformed):
        await page("process_cpu_seconds_total twelve\n").cpu_seconds()
    with pytest.raises(Unavailable, match="status 404"):
        await page(PAGE, status=404).cpu_seconds()


async def test_a_server_without_a_page_is_asked_for_by_its_name() -> None:
    queries: list[str] = []

    class Source:
        async def ask(self, query: str) -> float:
            queries.append(query)
            return 3.0

    meter = PromqlMeter(Source(), server="r1", cpu='cpu{pod="$server"}', memory=None)
    assert await meter.cpu_seconds() == 3.0
    assert queries == ['cpu{pod="r1"}']
    with pytest.raises(NoData, match=r"prometheus\.memory"):
        await meter.resident_bytes()


@given(st.text(max_size=40))
@example(" NaN")
@example(" +Inf")
async def test_whatever_stands_on_a_page_is_a_number_or_a_reason(rest: str) -> None:
    for start in ("process_cpu_seconds_total", "process_cpu_seconds_total{", 'process_cpu_seconds_total{a="'):
        try:
            assert math.isfinite(await page(f"{start}{rest}\n").cpu_seconds())
        except PortError as error:
            assert error.detail
