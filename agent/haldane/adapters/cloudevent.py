"""A notice as a CloudEvent 1.0, by CloudEvents' own SDK (extra `notify`); the webhook and the topic send the same."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from haldane.ports import Notice

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent


def event_of(notice: Notice, source: str) -> "CloudEvent":
    """`source` names this agent. ImportError without the SDK."""
    from cloudevents.core.v1.event import CloudEvent

    attributes = {
        "id": notice.id,
        "source": source,
        "type": notice.type,
        "subject": notice.subject,
        "time": datetime.fromtimestamp(notice.at, UTC),
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes, dict(notice.data))
