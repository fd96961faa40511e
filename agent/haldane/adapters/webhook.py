"""Notices → one HTTP receiver, as CloudEvents 1.0, signed as Standard Webhooks.

CloudEvents by its own SDK and the signature by the spec's own package, because
receivers check both with libraries of theirs. Owns: the form, the signature,
and what an HTTP status means. Leaves to `engine.notices` when and how often.

Sources: CloudEvents 1.0.2, HTTP binding, structured mode; Standard Webhooks
(webhook-id, webhook-timestamp, webhook-signature: v1, HMAC-SHA256).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx

from haldane.adapters.cloudevent import event_of
from haldane.ports import Notice, Refused, Unavailable

if TYPE_CHECKING:
    from standardwebhooks import Webhook as Signer


class Webhook:
    """A Notifier. `source` names this agent in every event."""

    def __init__(
        self, http: httpx.AsyncClient, signer: "Signer", *, url: str, source: str, now: Callable[[], float]
    ) -> None:
        self._http, self._signer, self._url, self._source, self._now = http, signer, url, source, now

    async def tell(self, notice: Notice) -> None:
        """Deliver once; Unavailable when it may be told again, Refused when the receiver never takes it."""
        headers, body = self._message(notice)
        try:
            # Streamed, so that an answer of any length is not read.
            async with self._http.stream("POST", self._url, content=body, headers=headers) as reply:
                status = reply
        except httpx.TransportError as error:
            raise Unavailable("webhook", type(error).__name__) from error
        if status.status_code in (408, 425, 429) or status.is_server_error:
            raise Unavailable("webhook", f"status {status.status_code}")
        if not status.is_success:
            raise Refused("webhook", f"status {status.status_code}")

    def _message(self, notice: Notice) -> tuple[dict[str, str], bytes]:
        from cloudevents.core.bindings.http import to_structured_event

        message = to_structured_event(event_of(notice, self._source))
        sent = datetime.fromtimestamp(int(self._now()), UTC)
        signature = self._signer.sign(notice.id, sent, message.body.decode())
        signed = {
            "webhook-id": notice.id,
            "webhook-timestamp": str(int(sent.timestamp())),
            "webhook-signature": signature,
        }
        return {**message.headers, **signed}, message.body


@asynccontextmanager
async def open_webhook(
    url: str, secret: str, *, source: str, now: Callable[[], float], timeout_seconds: float = 5.0
) -> AsyncIterator[Webhook]:
    """A notifier for that URL; a receiver that is down now is no error yet.

    `secret` as Standard Webhooks writes it, "whsec_" and base64. Refused when the packages are missing.
    """
    try:
        import cloudevents  # noqa: F401 - said now, not at the first notice
        from standardwebhooks import Webhook as Signer
    except ImportError as error:
        raise Refused("webhook", 'needs two small packages: pip install "haldane[notify]"') from error
    async with httpx.AsyncClient(timeout=timeout_seconds, trust_env=False) as http:
        yield Webhook(http, Signer(secret), url=url, source=source, now=now)
