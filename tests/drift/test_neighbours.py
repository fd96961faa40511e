"""The examples for Argo Rollouts and Flagger: their fields are those of the CRDs, and what they ask is answered."""

import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from prometheus_client import CollectorRegistry

from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Mode, Phase
from haldane.testing.gallery import MemoryAgent, a_story
from haldane.web.server import make_app

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "neighbours"
TEXT, COUNT = {"type": "string"}, {"type": "integer"}


def block(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def several(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


# What the examples may use of manifests/crds/analysis-template-crd.yaml (argo-rollouts 1.8) and of
# artifacts/flagger/crd.yaml (flagger 1.40); unknown fields are an error here, where a cluster would drop them.
ANALYSIS_TEMPLATE = block(
    ("metrics",),
    args=several(block(("name",), name=TEXT, value=TEXT)),
    metrics=several(
        block(
            ("name", "provider"),
            name=TEXT,
            interval={"type": "string", "pattern": r"^\d+[smh]$"},
            successCondition=TEXT,
            failureCondition=TEXT,
            consecutiveSuccessLimit=COUNT,
            failureLimit=COUNT,
            inconclusiveLimit=COUNT,
            consecutiveErrorLimit=COUNT,
            provider=block(("web",), web=block(("url",), url=TEXT, timeoutSeconds=COUNT, jsonPath=TEXT)),
        )
    ),
)
HOOKS = ["", "confirm-rollout", "pre-rollout", "rollout", "confirm-promotion", "post-rollout", "event", "rollback"]
SPAN = {"type": "string", "pattern": "^[0-9]+(m|s)"}
CANARY = block(
    ("targetRef", "analysis"),
    provider={"enum": ["kubernetes"]},
    targetRef=block(("apiVersion", "kind", "name"), apiVersion=TEXT, kind={"enum": ["Deployment"]}, name=TEXT),
    service=block(("port",), port=COUNT, portName=TEXT),
    analysis=block(
        ("interval", "threshold", "iterations"),
        interval=SPAN,
        threshold=COUNT,
        iterations=COUNT,
        webhooks=several(
            block(
                ("name", "url"),
                name=TEXT,
                type={"enum": HOOKS},
                url=TEXT,
                timeout=SPAN,
                metadata={"type": "object", "additionalProperties": TEXT},
            )
        ),
    ),
)


def documents(name: str) -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((EXAMPLES / name).read_text())}


ARGO, FLAGGER = documents("argo-rollouts.yaml"), documents("flagger.yaml")["Canary"]
STATES = [
    (Phase.HELD, Verdict.PASS, "recommends promoting version 7: shown", "pass"),
    (Phase.ROLLED_BACK, Verdict.FAIL, "harm shown", "fail"),
    (Phase.SHADOWING, Verdict.CONTINUE, "on trial", "neither"),
    (Phase.HELD, Verdict.INCONCLUSIVE, "the budget of 1800 s is spent", "neither"),
]


@pytest.fixture(params=STATES, ids=[state[3] + " " + state[0] for state in STATES])
async def asked(request):
    """A client of an agent, and what a delivery tool should make of its rollout of version 7."""
    phase, verdict, why, expected = request.param
    agent = MemoryAgent()
    agent.add(a_story(phase=phase, verdict=verdict, why=why, new=7, mode=Mode.OBSERVE))
    transport = httpx.ASGITransport(make_app(agent, registry=CollectorRegistry(), token="secret"))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as http:
        yield http, expected


def test_the_fields_are_those_of_the_custom_resources():
    jsonschema.validate(ARGO["AnalysisTemplate"]["spec"], ANALYSIS_TEMPLATE)
    jsonschema.validate(FLAGGER["spec"], CANARY)


@pytest.mark.parametrize(
    ("found", "schema"), [(ARGO["AnalysisTemplate"]["spec"], ANALYSIS_TEMPLATE), (FLAGGER["spec"], CANARY)]
)
def test_the_schemas_would_find_a_mistyped_key(found, schema):
    with pytest.raises(jsonschema.ValidationError, match="intervall"):
        jsonschema.validate({**found, "intervall": "30s"}, schema)


def test_the_rollout_gives_every_argument_the_template_needs():
    [step] = [one["analysis"] for one in ARGO["Rollout"]["spec"]["strategy"]["canary"]["steps"] if "analysis" in one]
    needs = {one["name"] for one in ARGO["AnalysisTemplate"]["spec"]["args"] if "value" not in one}
    assert {one["name"] for one in step["args"]} == needs
    assert [one["templateName"] for one in step["templates"]] == [ARGO["AnalysisTemplate"]["metadata"]["name"]]


async def test_argos_conditions_hold_for_the_answer_they_are_for(asked):
    http, expected = asked
    [metric] = ARGO["AnalysisTemplate"]["spec"]["metrics"]
    given = {"model": "credit", "version": "7", "haldane": "http://agent"}
    url = re.sub(r"\{\{args\.(\w+)\}\}", lambda match: given[match[1]], metric["provider"]["web"]["url"])
    path = re.fullmatch(r"\{\$\.(\w+)\}", metric["provider"]["web"]["jsonPath"])
    assert path is not None
    result = (await http.get(url)).raise_for_status().json()[path[1]]
    conditions = {"pass": metric["successCondition"], "fail": metric["failureCondition"]}
    holds = [name for name, text in conditions.items() if re.fullmatch(r'result == "(\w+)"', text)[1] == result]
    assert holds == ([] if expected == "neither" else [expected])


async def test_flaggers_gates_open_for_the_answer_they_are_for(asked):
    http, expected = asked
    opened = []
    for hook in FLAGGER["spec"]["analysis"]["webhooks"]:
        body = {"name": "credit-risk", "namespace": "serving", "phase": "Waiting", "checksum": "5f"}
        metadata = {**hook["metadata"], "model": "credit"}
        answer = await http.post(httpx.URL(hook["url"]).path, json={**body, "metadata": metadata})
        opened += [hook["type"]] if answer.is_success else []
    assert opened == {"pass": ["confirm-promotion"], "fail": ["rollback"], "neither": []}[expected]
