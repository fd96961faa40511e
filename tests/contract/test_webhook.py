"""Notices arrive as CloudEvents 1.0 that the specs' own packages accept, and each answer means one thing."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.receiver import SECRET, Receiver

from haldane.adapters.webhook import open_webhook
from haldane.app.notices import of_condition
from haldane.domain.fleet import Condition
from haldane.ports import Notice, Refused, Unavailable
from haldane.testing.sandboxes import free_port

NEWLINE = "ri\nsk: x"  # a model may be called anything


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as made:
        yield made


def a_notice() -> Notice:
    return of_condition(Condition("failed_load", NEWLINE, 7, ("r0",), "DATA_LOSS: Größe\n", 1_760_000_000.5), None)


def open_to(url: str, **more: str):
    return open_webhook(url, more.get("secret", SECRET), source="http://agent/", now=time.time, timeout_seconds=2.0)


async def test_a_notice_is_an_event_signed_so_that_its_receiver_can_tell(receiver):
    async with open_to(receiver.url) as webhook:
        await webhook.tell(a_notice())
    event = await receiver.soon()
    assert (event.get_specversion(), event.get_type()) == ("1.0", "haldane.condition.began")
    assert (event.get_source(), event.get_subject()) == ("http://agent/", f"models/{NEWLINE}/versions/7")
    assert event.get_time().timestamp() == 1_760_000_000.5
    assert event.get_id() == a_notice().id
    data = event.get_data()
    assert (data["severity"], data["alert"], data["detail"]) == ("page", "HaldaneLoadFailed", "DATA_LOSS: Größe\n")
    assert data["summary_zh"] == f"{NEWLINE} 的版本 7 加载失败"


async def test_another_secret_is_found_out(receiver):
    async with open_to(receiver.url, secret="whsec_" + "YW5vdGhlciBzZWNyZXQsIGFzIGxvbmcgYXMgdGhlIGZpcnN0") as webhook:
        with pytest.raises(Refused, match="status 401"):
            await webhook.tell(a_notice())
    assert receiver.events.empty()


@pytest.mark.parametrize(
    ("status", "error"), [(400, Refused), (410, Refused), (302, Refused), (429, Unavailable), (503, Unavailable)]
)
async def test_what_a_status_means(receiver, status, error):
    receiver.status = status
    async with open_to(receiver.url) as webhook:
        with pytest.raises(error, match=f"status {status}"):
            await webhook.tell(a_notice())


async def test_a_receiver_that_is_down_is_unavailable():
    async with open_to(f"http://127.0.0.1:{free_port()}/") as webhook:
        with pytest.raises(Unavailable, match="ConnectError"):
            await webhook.tell(a_notice())
