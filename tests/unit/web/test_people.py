"""Each person by a token of their own: what they may, under which name, and what is denied on record."""

from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from haldane.domain.people import Person, Right
from haldane.domain.rollout import Phase
from haldane.testing.gallery import MemoryAgent, a_story
from haldane.web.people import Certified
from haldane.web.server import make_app

ADA = Person("ada", frozenset({Right.START, Right.OPERATE}), ("cred*",))
BOB = Person("bob", frozenset({Right.APPROVE}))
CAL = Person("cal", frozenset({Right.HOLD}))
EVE = Person("eve", frozenset(Right), ("fraud",))
OWN = "the-agents-own-token"
PEOPLE = [("ada-ada-ada-ada-ada-ada", ADA), ("bob-bob-bob-bob-bob-bob", BOB), ("eve-eve-eve-eve-eve-eve", EVE)]
HOLD = {"model": "credit", "version": 3, "by": "x", "why": "audit"}
START = {"model": "credit", "version": 7, "by": "somebody", "why": "retrained"}


@pytest.fixture
def agent() -> MemoryAgent:
    return MemoryAgent()


async def post(
    agent: MemoryAgent, token: str, path: str, body: dict[str, Any], people: Sequence[tuple[str, Person]] = PEOPLE
) -> httpx.Response:
    app = make_app(agent, registry=CollectorRegistry(), token=OWN, people=people)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as http:
        return await http.post(path, json=body, headers={"Authorization": f"Bearer {token}"} if token else {})


async def test_what_somebody_may_is_done_under_their_name_whatever_they_call_themselves(agent: MemoryAgent) -> None:
    made = await post(agent, PEOPLE[0][0], "/v1/rollouts", START)
    assert (made.status_code, made.json()["rollout"]["why"]) == (201, "ada: retrained")


async def test_the_agents_own_token_may_everything_and_takes_the_name_given(agent: MemoryAgent) -> None:
    made = await post(agent, OWN, "/v1/rollouts", START)
    assert (made.status_code, made.json()["rollout"]["why"]) == (201, "somebody: retrained")


@pytest.mark.parametrize(
    ("token", "status", "refused"),
    [
        ("", 401, []),
        ("nobody-has-this-token", 403, []),
        (PEOPLE[1][0], 403, [("bob", Right.START, "credit")]),
        (PEOPLE[2][0], 403, [("eve", Right.START, "credit")]),
    ],
)
async def test_what_is_denied(agent: MemoryAgent, token: str, status: int, refused: list[object]) -> None:
    answer = await post(agent, token, "/v1/rollouts", START)
    assert (answer.status_code, agent.refused, agent.stories) == (status, refused, {})


async def test_a_refusal_says_which_right_it_takes(agent: MemoryAgent) -> None:
    answer = await post(agent, PEOPLE[1][0], "/v1/rollouts", START)
    assert answer.json()["error"] == "bob may not: it takes the right `start` of credit; they have approve of *"


@pytest.mark.parametrize(
    ("token", "kind", "status"),
    [
        (PEOPLE[0][0], "abort", 200),
        (PEOPLE[0][0], "promote", 403),
        (PEOPLE[0][0], "approve", 403),
        (PEOPLE[1][0], "abort", 403),
        (PEOPLE[1][0], "approve", 409),  # he may, but nothing waits for it
    ],
)
async def test_commands_take_rights_of_their_own(agent: MemoryAgent, token: str, kind: str, status: int) -> None:
    agent.add(a_story(phase=Phase.SHADOWING))
    body = {"kind": kind, "by": "x", "why": "because"}
    answer = await post(agent, token, "/v1/rollouts/credit-2-test/commands", body)
    assert answer.status_code == status, answer.text


async def test_a_hold_takes_its_right_and_has_the_name_of_the_token(agent: MemoryAgent) -> None:
    assert (await post(agent, PEOPLE[0][0], "/v1/holds", HOLD)).status_code == 403
    assert agent.refused == [("ada", Right.HOLD, "credit")]
    people = [*PEOPLE, ("cal-cal-cal-cal-cal-cal", CAL)]
    late = await post(agent, people[-1][0], "/v1/holds", {**HOLD, "until": 2_000_000_000_000}, people)
    assert late.status_code == 422 and "not milliseconds" in late.text
    made = await post(agent, people[-1][0], "/v1/holds", {**HOLD, "until": 2_000_000_000}, people)
    assert (made.status_code, made.json()["hold"]["by"], made.json()["hold"]["until"]) == (200, "cal", 2e9)
    assert (await post(agent, PEOPLE[0][0], "/v1/holds/end", HOLD)).status_code == 403
    assert (await post(agent, people[-1][0], "/v1/holds/end", HOLD, people)).status_code == 200
    assert agent.held == {}


@pytest.mark.parametrize("until", ["soon", -1, None, True])
async def test_a_hold_with_an_end_that_is_no_time_is_refused(agent: MemoryAgent, until: object) -> None:
    answer = await post(agent, OWN, "/v1/holds", {**HOLD, "until": until})
    assert (answer.status_code, "until" in answer.json()["error"], agent.held) == (422, True, {})


PROXY = Certified({"CN=ada,O=risk": ADA}, "x-client-name", (ip_network("10.0.0.5"), ip_network("10.1.0.0/24")))


async def by_certificate(
    agent: MemoryAgent,
    caller: str,
    headers: Sequence[tuple[str, str]],
    certified: Certified | None = PROXY,
    refused: Callable[[str, str, str], None] = lambda *_: None,
) -> httpx.Response:
    app = make_app(agent, registry=CollectorRegistry(), token=OWN, people=PEOPLE, certified=certified, refused=refused)
    transport = httpx.ASGITransport(app, client=(caller, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as http:
        return await http.post("/v1/rollouts", json=START, headers=headers)


NAME = ("X-Client-Name", "CN=ada,O=risk")


@pytest.mark.parametrize("caller", ["10.0.0.5", "10.1.0.77", "::ffff:10.0.0.5"])
async def test_the_proxy_says_whose_certificate_it_saw(agent: MemoryAgent, caller: str) -> None:
    made = await by_certificate(agent, caller, [NAME])
    assert (made.status_code, made.json()["rollout"]["why"]) == (201, "ada: retrained")


@pytest.mark.parametrize(
    ("caller", "headers", "status", "says"),
    [
        ("10.0.0.6", [NAME], 403, "believed from the proxy alone"),
        ("10.0.0.6", [NAME, ("X-Forwarded-For", "10.0.0.5")], 403, "believed from the proxy alone"),
        ("::1", [NAME], 403, "believed from the proxy alone"),
        ("10.0.0.5", [("X-Client-Name", "CN=ada")], 403, "nobody here has the certificate"),
        ("10.0.0.5", [("X-Client-Name", "")], 403, "nobody here has the certificate"),
        ("10.0.0.5", [NAME, ("X-Client-Name", "CN=bob")], 403, "nobody here has the certificate"),
        ("10.0.0.5", [NAME, ("Origin", "http://evil.example")], 403, "no page"),
        ("10.0.0.5", [NAME, ("Authorization", "Bearer unheard-of")], 403, "not a token"),
        ("10.0.0.5", [], 401, "needs a token"),
    ],
)
async def test_who_could_be_anybody_is_nobody(
    agent: MemoryAgent, caller: str, headers: list[tuple[str, str]], status: int, says: str
) -> None:
    answer = await by_certificate(agent, caller, headers)
    assert (answer.status_code, says in answer.json()["error"], agent.stories) == (status, True, {})


@pytest.mark.parametrize(
    ("caller", "headers", "reason"),
    [
        ("10.0.0.6", [NAME], "not the proxy"),
        ("10.0.0.5", [("X-Client-Name", "CN=eve")], "unknown certificate"),
        ("10.0.0.5", [NAME, ("Origin", "http://evil.example")], "a page"),
        ("10.0.0.9", [("Authorization", "Bearer s3cret")], "unknown token"),
        ("10.0.0.9", [("Authorization", "Basic s3cret")], "no token"),
        ("10.0.0.9", [], "no token"),
    ],
)
async def test_who_is_nobody_is_told_of_with_address_path_and_reason_and_never_the_token(
    agent: MemoryAgent, caller: str, headers: list[tuple[str, str]], reason: str
) -> None:
    told: list[tuple[str, str, str]] = []
    await by_certificate(agent, caller, headers, refused=lambda *of: told.append(of))
    assert told == [(caller, "POST /v1/rollouts", reason)]


async def test_who_is_known_is_not_told_of_and_a_path_is_told_as_the_route_has_it(agent: MemoryAgent) -> None:
    told: list[tuple[str, str, str]] = []
    app = make_app(agent, registry=CollectorRegistry(), token=OWN, people=PEOPLE, refused=lambda *of: told.append(of))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as http:
        bearer = {"Authorization": f"Bearer {PEOPLE[1][0]}"}
        assert (await http.post("/v1/rollouts", json=START, headers=bearer)).status_code == 403
        assert (await http.get("/v1/status")).status_code == 200
        assert told == []
        await http.post("/v1/rollouts/any%20thing/commands?token=s3cret", json={})
    assert [path for _, path, _ in told] == ["POST /v1/rollouts/{rollout}/commands"]


async def test_without_a_proxy_in_the_config_a_name_in_a_header_means_nothing(agent: MemoryAgent) -> None:
    assert (await by_certificate(agent, "10.0.0.5", [NAME], None)).status_code == 401


async def test_a_token_counts_more_than_a_certificate(agent: MemoryAgent) -> None:
    answer = await by_certificate(agent, "10.0.0.5", [NAME, ("Authorization", f"Bearer {PEOPLE[1][0]}")])
    assert answer.json()["error"].startswith("bob may not")


FIN = Person("fin", frozenset(Right), ("finance/*",))


@pytest.mark.parametrize("said", ["finance/credit", "credit"])
async def test_rights_go_by_the_name_with_its_namespace(agent: MemoryAgent, said: str) -> None:
    people = [*PEOPLE, ("fin-fin-fin-fin-fin-fin", FIN)]
    body = {**START, "model": said}
    assert (await post(agent, people[-1][0], "/v1/rollouts", {**START}, people)).status_code == 403
    agent.namespace = "finance"
    denied = await post(agent, PEOPLE[0][0], "/v1/rollouts", body)
    assert "the right `start` of finance/credit" in denied.json()["error"]
    made = await post(agent, people[-1][0], "/v1/rollouts", body, people)
    assert (made.status_code, made.json()["rollout"]["model"]) == (201, "credit")


@pytest.mark.parametrize("said", ["fraud/credit", "finance/../credit", "finance/finance/credit", "/credit", "finance/"])
async def test_a_name_in_another_namespace_or_that_climbs_is_no_model(agent: MemoryAgent, said: str) -> None:
    agent.namespace = "finance"
    answer = await post(agent, OWN, "/v1/rollouts", {**START, "model": said})
    assert (answer.status_code, agent.stories) == (404, {})
    hold = await post(agent, OWN, "/v1/holds", {**HOLD, "model": said})
    assert (hold.status_code, agent.held) == (404, {})
