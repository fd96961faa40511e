"""Anyone may read; a command needs the token; every refusal says why."""

from dataclasses import replace

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from haldane.adapters.archive import unpacked
from haldane.domain.evidence import Verdict
from haldane.domain.record import first_break, from_line
from haldane.domain.rollout import Phase
from haldane.telemetry import Telemetry
from haldane.testing.gallery import MemoryAgent, a_story, canary_pairs
from haldane.web.labels import MOST_LABELS, MOST_LABELS_BYTES
from haldane.web.requests import MOST_BODY_BYTES
from haldane.web.server import make_app
from haldane.web.view import view

TOKEN = "let-me-in"
ABORT = {"kind": "abort", "by": "ada", "why": "page from the on-call"}


HARMFUL = a_story(batches=list(canary_pairs(1500, wrong=0.08)), phase=Phase.SHADOWING)


@pytest.fixture
def agent() -> MemoryAgent:
    agent = MemoryAgent()
    agent.add(HARMFUL)
    return agent


@pytest.fixture
async def http(agent):
    registry = CollectorRegistry()
    Telemetry.on(registry).agent.mode.labels("enforce").set(1)
    transport = httpx.ASGITransport(make_app(agent, registry=registry, token=TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        yield client


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_status_tells_what_is_seen_and_what_is_not(http):
    found = (await http.get("/v1/status")).json()
    assert found["mode"] == "enforce"
    assert found["seen"]["r1"] is None
    assert found["trouble"] == {"r1": "connection refused"}
    assert found["seen"]["r0"]["models"]["credit"]["labels"] == {"stable": 1, "canary": None}
    assert found["stable"] == {"credit": 1}
    assert [one["id"] for one in found["rollouts"]] == ["credit-2-test"]


async def test_a_rollout_is_told_with_its_newest_ruling(http):
    found = (await http.get("/v1/rollouts/credit-2-test")).json()
    assert found["rollout"]["phase"] == "SHADOWING"
    assert found["ruling"]["verdict"] == "fail"
    assert {finding["metric"] for finding in found["ruling"]["findings"]} == {"errors", "accuracy", "latency"}


async def test_the_whole_trace_and_the_records_can_be_read(http):
    rulings = (await http.get("/v1/rollouts/credit-2-test/rulings")).json()["rulings"]
    assert rulings[0]["pairs"] < rulings[-1]["pairs"]
    records = (await http.get("/v1/rollouts/credit-2-test/records?after=1")).json()["records"]
    assert [record["seq"] for record in records] == [2, 3, 4]


async def test_all_records_come_as_lines_that_hold_together(http):
    answer = await http.get("/v1/records")
    assert answer.headers["content-type"] == "application/x-ndjson"
    records = [from_line(line) for line in answer.text.splitlines()]
    assert [record.seq for record in records] == [1, 2, 3, 4]
    assert first_break(records) is None
    assert len((await http.get("/v1/records?after=1&limit=2")).text.splitlines()) == 2
    assert (await http.get("/v1/records?after=x")).status_code == 422


async def test_the_evidence_is_an_archive_to_judge_again(http, agent, tmp_path):
    agent.entries["credit-2-test"] = list(canary_pairs(200))
    answer = await http.get("/v1/rollouts/credit-2-test/evidence")
    assert answer.headers["content-disposition"] == 'attachment; filename="credit-2-test.npz"'
    (tmp_path / "case.npz").write_bytes(answer.content)
    case = unpacked(tmp_path / "case.npz")
    assert case.rollout == HARMFUL.rollout
    assert [len(entry) for entry in case.entries] == [50, 50, 50, 50]
    assert (await http.get("/v1/rollouts/nope/evidence")).status_code == 404


@pytest.mark.parametrize(("language", "word"), [("en", "FAIL after"), ("zh", "不通过")])
async def test_a_rollout_is_explained_in_sentences(http, language, word):
    found = (await http.get(f"/v1/rollouts/credit-2-test/explanation?language={language}")).json()
    assert found["verdict"] == "fail"
    assert any(word in sentence for sentence in found["sentences"])


@pytest.mark.parametrize(("language", "proof", "doubt"), [("en", "PASS after", "since"), ("zh", "通过：", "此后")])
async def test_a_pass_stays_told_when_later_pairs_raise_a_doubt(http, agent, language, proof, doubt):
    good = a_story(batches=list(canary_pairs(4000)), phase=Phase.SUCCEEDED)
    last = good.rulings[-1]
    assert last.verdict is Verdict.PASS
    doubted = replace(last, verdict=Verdict.CONTINUE, why="held: lately accuracy leaned beyond the margin", pairs=4001)
    agent.stories.clear()
    story = agent.add(replace(good, rulings=[*good.rulings, doubted]))
    found = (await http.get(f"/v1/rollouts/credit-2-test/explanation?language={language}")).json()
    assert found["verdict"] == "pass"
    assert found["sentences"][2].startswith(proof)
    assert doubt in found["sentences"][-1]
    assert view(story).verdict == "pass"


async def test_an_unknown_rollout_is_404_everywhere(http):
    for path in ("", "/rulings", "/records", "/explanation"):
        reply = await http.get(f"/v1/rollouts/nope{path}")
        assert (reply.status_code, "nope" in reply.json()["error"]) == (404, True)
    assert (await http.post("/v1/rollouts/nope/commands", json=ABORT, headers=bearer())).status_code == 404
    assert (await http.get("/rollouts/nope")).status_code == 404


async def test_a_command_needs_the_token(http):
    path = "/v1/rollouts/credit-2-test/commands"
    without = await http.post(path, json=ABORT)
    assert without.status_code == 401
    assert "Bearer" in without.headers["www-authenticate"]
    assert (await http.post(path, json=ABORT, headers=bearer("wrong"))).status_code == 403
    assert (await http.post(path, json=ABORT, headers={"Authorization": f"Basic {TOKEN}"})).status_code == 401
    assert (await http.get("/v1/rollouts/credit-2-test")).json()["rollout"]["phase"] == "SHADOWING"
    done = await http.post(path, json=ABORT, headers=bearer())
    assert done.json() == {"before": "SHADOWING", "after": "ROLLING_BACK", "why": "ada: page from the on-call"}


async def test_what_the_machine_refuses_is_409_with_its_reason(http):
    path = "/v1/rollouts/credit-2-test/commands"
    reply = await http.post(path, json={**ABORT, "kind": "resume"}, headers=bearer())
    assert reply.status_code == 409
    assert "means nothing while SHADOWING" in reply.json()["error"]


async def test_starting_needs_the_token_and_is_refused_while_another_is_live(http, agent):
    body = {"model": "credit", "version": 3, "by": "ada", "why": "retrained"}
    assert (await http.post("/v1/rollouts", json=body)).status_code == 401
    assert (await http.post("/v1/rollouts", json=body, headers=bearer())).status_code == 409
    agent.stories.clear()
    made = await http.post("/v1/rollouts", json=body, headers=bearer())
    assert (made.status_code, made.json()["rollout"]["new"]) == (201, 3)
    assert (await http.post("/v1/rollouts", json={**body, "model": "x"}, headers=bearer())).status_code == 404


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not JSON"),
        (b"[]", "object"),
        (b"{}", "kind: missing"),
        (b'{"kind": "abort", "by": "ada", "why": " "}', "why: must be text"),
        (b'{"kind": "abort", "by": "ada", "why": "x", "force": true}', "force: unknown field"),
        (b'{"kind": "explode", "by": "ada", "why": "x"}', "pause, resume, promote, approve, abort"),
        (b'{"kind": 7, "by": "ada", "why": "x"}', "kind: must be text"),
    ],
)
async def test_a_body_that_cannot_be_used_is_422_and_says_what_would_be_right(http, body, word):
    reply = await http.post("/v1/rollouts/credit-2-test/commands", content=body, headers=bearer())
    assert reply.status_code == 422
    assert word in reply.json()["error"]


@pytest.mark.parametrize("version", [True, -1, "3", 3.5, None])
async def test_a_version_is_a_whole_number(http, version):
    body = {"model": "credit", "version": version, "by": "ada", "why": "x"}
    reply = await http.post("/v1/rollouts", json=body, headers=bearer())
    assert (reply.status_code, "version" in reply.json()["error"]) == (422, True)


async def test_a_huge_body_is_not_read_to_its_end(http):
    reply = await http.post(
        "/v1/rollouts/credit-2-test/commands", content=b" " * (MOST_BODY_BYTES + 1), headers=bearer()
    )
    assert reply.status_code == 413


async def test_odd_query_values_are_422(http):
    for query in ("limit=x", "limit=-1"):
        assert (await http.get(f"/v1/rollouts?{query}")).status_code == 422
    assert (await http.get("/v1/rollouts/credit-2-test/records?after=x")).status_code == 422


async def test_ready_says_why_not(http, agent):
    assert (await http.get("/-/ready")).status_code == 200
    agent.reasons.append("server r0 has not been looked at yet")
    reply = await http.get("/-/ready")
    assert (reply.status_code, reply.text) == (503, "server r0 has not been looked at yet\n")
    assert (await http.get("/-/healthy")).status_code == 200


async def test_metrics_are_in_both_forms_prometheus_asks_for(http):
    plain = await http.get("/metrics")
    names = {family.name for family in text_string_to_metric_families(plain.text)}
    assert "haldane_mode_info" in names
    modern = await http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")


async def test_no_answer_may_load_or_run_anything_else(http):
    for path in ("/", "/v1/status", "/metrics", "/rollouts/credit-2-test"):
        headers = (await http.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


# --- labels -----------------------------------------------------------------------------------------------------------


async def post_labels(http, content, *, model="?model=credit", token=TOKEN):
    return await http.post(f"/v1/labels{model}", content=content, headers=bearer(token))


@pytest.mark.parametrize(
    "body",
    [
        b'{"request": "a", "label": 1}\r\n\n{"request": "b", "label": "cat"}\n{"request": "a", "label": 0}',
        b' [{"request": "a", "label": true}, {"request": "b", "label": "cat"}, {"request": "b", "label": 2}]',
    ],
)
async def test_labels_come_as_lines_or_as_a_list_and_are_counted(http, agent, body):
    assert (await post_labels(http, body)).json() == {"accepted": 2, "duplicate": 1, "unknown": 2}
    again = await post_labels(http, body)
    assert (again.status_code, again.json()) == (202, {"accepted": 0, "duplicate": 3, "unknown": 0})
    assert [label.truth for label in agent.labels.values()] == [1.0, "cat"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"request": "a", "label": 1}\nnonsense', "line 2: not JSON"),
        (b'{"request": "a", "label": 1}\n\n{"request": 7, "label": 1}', "line 3: request must be the request's id"),
        (b'{"request": "", "label": 1}', "line 1: request must be"),
        (b'{"request": "a", "label": null}', "line 1: label must be a number or the name of a class, got None"),
        (b'{"request": "a", "label": Infinity}', "label must be"),
        (b'{"request": "a", "label": 1' + b"0" * 400 + b"}", "label must be"),
        (b'{"request": "a", "label": ""}', "label must be"),
        (b'{"request": "a", "label": [1]}', "label must be"),
        (b'{"request": "a", "label": 1, "extra": 2}', 'must be {"request": ID, "label": RIGHT_ANSWER}'),
        (b'[{"request": "a", "label": 1}, 5]', "item 2: must be"),
        (b"[" * 100_000, "the body: not JSON"),
        (b'{"request": "a", "label": 1}\n{"request": "\xff", "label": 1}', "line 2: not UTF-8"),
    ],
)
async def test_a_bad_label_is_named_by_its_line_and_nothing_is_taken(http, agent, body, says):
    reply = await post_labels(http, body)
    assert (reply.status_code, says in reply.json()["error"]) == (400, True), reply.text
    assert agent.labels == {}


async def test_labels_are_bounded_in_bytes_and_in_number(http, agent):
    assert (await post_labels(http, b" " * (MOST_LABELS_BYTES + 1))).status_code == 413
    many = b'{"request": "a", "label": 1}\n' * (MOST_LABELS + 1)
    reply = await post_labels(http, many)
    assert (reply.status_code, "send at most" in reply.json()["error"], agent.labels) == (413, True, {})


async def test_labels_need_the_token_and_a_model_that_is_watched(http):
    body = b'{"request": "a", "label": 1}'
    assert (await http.post("/v1/labels?model=credit", content=body)).status_code == 401
    assert (await post_labels(http, body, token="guess")).status_code == 403
    assert (await post_labels(http, body, model="")).status_code == 400
    assert (await post_labels(http, body, model="?model=other")).status_code == 404


async def test_half_a_character_is_taken_as_a_question_mark_and_one_that_is_there_takes_no_page_away(http, agent):
    said = b'{"kind": "pause", "by": "ada", "why": "looks odd \\ud83d"}'
    headers = bearer() | {"content-type": "application/json"}
    answer = await http.post("/v1/rollouts/credit-2-test/commands", content=said, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["why"] == "ada: looks odd ?"
    (story,) = agent.stories.values()
    agent.add(replace(story, rollout=replace(story.rollout, why="file \udcff has changed")))
    for path in ("/v1/status", "/v1/rollouts", "/v1/rollouts/credit-2-test", "/"):
        answer = await http.get(path)
        assert answer.status_code == 200, path
        assert "file ? has changed" in answer.text, path


async def test_a_number_of_thousands_of_digits_is_refused(http):
    assert (await http.get("/v1/records?limit=" + "9" * 5000)).status_code == 422
