"""A release announced as a CloudEvent: taken once, and what is wrong with one is said."""

import json
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from haldane.testing.gallery import MemoryAgent
from haldane.web.events import BadEvent, OtherEvent, over_http, over_kafka
from haldane.web.server import make_app

DATA = {"model": "credit", "version": 7, "by": "ci", "why": "trained on October"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/ci", "type": "haldane.release.published"}
JSON = {"content-type": "application/cloudevents+json"}
BINARY = {f"ce-{name}": value for name, value in EVENT.items()} | {"content-type": "application/json"}


def structured(data: Any = DATA, **more: Any) -> bytes:
    return json.dumps({**EVENT, "datacontenttype": "application/json", "data": data, **more}).encode()


def test_structured_and_binary_say_the_same() -> None:
    one = over_http(JSON, structured())
    assert one == over_http(BINARY, json.dumps(DATA).encode())
    assert (one.key, one.model, one.version, one.by, one.why) == ("/ci 1", "credit", 7, "ci", "trained on October")


def test_over_kafka_too() -> None:
    headers = {f"ce_{name}": value.encode() for name, value in EVENT.items()} | {"content-type": b"application/json"}
    assert over_kafka(headers, json.dumps(DATA).encode()) == over_http(JSON, structured())


def test_who_and_why_may_be_left_out() -> None:
    one = over_http(JSON, structured({"model": "credit", "version": 7}))
    assert (one.by, one.why) == ("/ci", "published")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"junk", "not a CloudEvent"),
        (b"", "not a CloudEvent"),
        (b"\xff\xfe", "not a CloudEvent"),
        (json.dumps(DATA).encode(), "not a CloudEvent"),
        (structured("text"), "data must be a JSON object"),
        (structured({"model": "credit"}), "data.version must be a version number, got None"),
        (structured({**DATA, "version": "7"}), "data.version must be a version number, got '7'"),
        (structured({**DATA, "version": True}), "data.version"),
        (structured({**DATA, "version": -1}), "data.version"),
        (structured({**DATA, "model": ""}), "data.model must be text that is not empty"),
        (structured({**DATA, "modle": "x"}), "data.modle: unknown field"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, says: str) -> None:
    with pytest.raises(BadEvent) as bad:
        over_http(JSON, body)
    assert says in str(bad.value)


def test_an_event_of_another_type_is_somebody_elses() -> None:
    with pytest.raises(OtherEvent, match=r"haldane\.release\.published"):
        over_http(JSON, structured(type="com.example.trained"))


async def test_over_the_api() -> None:
    app = make_app(MemoryAgent(), registry=CollectorRegistry(), token="t")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as http:

        async def post(body: bytes, token: str = "t") -> httpx.Response:
            return await http.post("/v1/events", content=body, headers={**JSON, "Authorization": f"Bearer {token}"})

        first, again = await post(structured()), await post(structured())
        assert (first.status_code, first.json()) == (202, {"model": "credit", "version": 7, "taken": True})
        assert (again.status_code, again.json()["taken"]) == (202, False)
        assert (await post(structured(), token="no")).status_code == 403
        assert (await post(b"junk")).status_code == 400
        other = await post(structured(type="com.example.trained"))
        assert (other.status_code, "nothing was taken" in other.json()["error"]) == (400, True)
        assert (await post(structured({**DATA, "model": "fraud"}, id="2"))).status_code == 404
