"""Delivery tools ask and get one word; a gate opens on the answer it is for and on nothing else."""

import httpx
import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Phase
from haldane.testing.gallery import MemoryAgent, a_story
from haldane.web.server import make_app


@pytest.fixture
def agent() -> MemoryAgent:
    return MemoryAgent()


@pytest.fixture
async def http(agent):
    transport = httpx.ASGITransport(make_app(agent, registry=CollectorRegistry(), token="secret"))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        yield client


def flagger(**metadata: str) -> dict[str, object]:
    """The body of Flagger's webhook."""
    return {"name": "credit", "namespace": "models", "phase": "Progressing", "checksum": "1", "metadata": metadata}


async def gates(http, **metadata: str) -> tuple[int, int]:
    both = [await http.post(f"/v1/gates/{name}", json=flagger(**metadata)) for name in ("promote", "rollback")]
    return both[0].status_code, both[1].status_code


@pytest.mark.parametrize(
    ("phase", "verdict", "answer", "promote", "rollback"),
    [
        (Phase.PROMOTING, Verdict.PASS, "pass", 200, 409),
        (Phase.ROLLING_BACK, Verdict.FAIL, "fail", 409, 200),
        (Phase.SHADOWING, Verdict.CONTINUE, "wait", 409, 409),
        (Phase.HELD, Verdict.INCONCLUSIVE, "inconclusive", 409, 409),
    ],
)
async def test_each_answer_opens_its_own_gate(agent, http, phase, verdict, answer, promote, rollback):
    agent.add(a_story(phase=phase, verdict=verdict))
    told = (await http.get("/v1/verdict", params={"model": "credit", "version": 2})).json()
    assert (told["answer"], told["phase"], told["rollout"]) == (answer, phase, "credit-2-test")
    assert await gates(http, model="credit", version="2") == (promote, rollback)


async def test_before_a_rollout_has_begun_both_gates_are_shut_and_it_is_said_why(http):
    told = (await http.get("/v1/verdict?model=credit&version=7")).json()
    assert (told["answer"], told["why"]) == ("wait", "no rollout of version 7 has been started")
    assert told["why_zh"] == "尚未开始版本 7 的上线流程"
    assert await gates(http, model="credit", version="7") == (409, 409)


async def test_an_announcement_that_nothing_came_of_is_no_verdict_and_is_not_waited_for(agent, http):
    agent.dropped_for["credit", 7] = "version 7 is older than stable, which is 9; a person may start it by hand"
    told = (await http.get("/v1/verdict?model=credit&version=7")).json()
    assert (told["answer"], told["rollout"]) == ("inconclusive", None)
    assert told["why"].startswith("no rollout of version 7 was started: version 7 is older than stable")
    assert told["why_zh"] == "没有为版本 7 启动上线流程：版本 7 比稳定版本 9 更旧；可由人手动启动"
    assert await gates(http, model="credit", version="7") == (409, 409)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("model=credit", 422),
        ("version=2", 422),
        ("model=credit&version=latest", 422),
        ("model=credit&version=-1", 422),
        ("model=credit&version=²", 422),
        ("model=nothing&version=2", 404),
    ],
)
async def test_a_question_that_does_not_say_which_version_is_no_pass(http, query, status):
    answer = await http.get(f"/v1/verdict?{query}")
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"metadata": 1}', b"{}", b"\xff", b"[" * 100_000, b'{"metadata": {}}'])
async def test_a_body_that_is_not_flaggers_opens_no_gate(agent, http, body):
    agent.add(a_story(phase=Phase.ROLLING_BACK, verdict=Verdict.FAIL))
    for name in ("promote", "rollback"):
        assert not (await http.post(f"/v1/gates/{name}", content=body)).is_success
