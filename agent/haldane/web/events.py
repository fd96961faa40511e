"""Releases as they are announced: CloudEvents of type haldane.release.published.

By CloudEvents' own SDK, over HTTP and Kafka, structured and binary. Owns: what
the data of such an event must be. Source: CloudEvents 1.0.2, HTTP and Kafka
protocol bindings.
"""

from collections.abc import Callable, Mapping
from typing import Any

from haldane.domain.fleet import ModelName
from haldane.domain.release import Announcement
from haldane.web.jsonform import whole

PUBLISHED = "haldane.release.published"
MOST_EVENT_BYTES = 64 * 1024
_MOST_CHARS = 1000
_FORM = '{"model": NAME, "version": NUMBER, "by": WHO, "why": WHAT_FOR}'


class BadEvent(ValueError):
    """An event that cannot be taken: what is wrong, and what would be right."""


class OtherEvent(Exception):
    """A sound event of another type: somebody else's."""


def over_http(headers: Mapping[str, str], body: bytes) -> Announcement:
    """BadEvent or OtherEvent when it announces no release; ImportError without the SDK."""
    from cloudevents.core.bindings.http import HTTPMessage, from_http_event

    return _announcement(lambda: from_http_event(HTTPMessage(dict(headers), body)))


def over_kafka(headers: Mapping[str, bytes], value: bytes) -> Announcement:
    """The same of a message."""
    from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

    return _announcement(lambda: from_kafka_event(KafkaMessage(dict(headers), None, value)))


def _announcement(read: Callable[[], Any]) -> Announcement:
    try:
        event = read()
        kind, source, name, data = event.get_type(), event.get_source(), event.get_id(), event.get_data()
    except Exception as error:
        raise BadEvent(f"not a CloudEvent 1.0: {type(error).__name__}: {error}") from None
    if kind != PUBLISHED:
        raise OtherEvent(f"type is {kind!r:.100}; {PUBLISHED!r} announces a release")
    if not isinstance(data, Mapping):
        raise BadEvent(f"data must be a JSON object, {_FORM}")
    if unknown := sorted(set(data) - {"model", "version", "by", "why"}):
        raise BadEvent(f"data.{unknown[0]}: unknown field; data must be {_FORM}")
    version = data.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 2**63:
        raise BadEvent(f"data.version must be a version number, got {version!r:.60}; data must be {_FORM}")
    return Announcement(
        key=whole(f"{source} {name}"),
        model=ModelName(_text(data, "model")),
        version=version,
        by=_text(data, "by", str(source)),
        why=_text(data, "why", "published"),
    )


def _text(data: Mapping[str, Any], key: str, otherwise: str = "") -> str:
    value = data.get(key, otherwise)
    if not isinstance(value, str) or not 0 < len(value.strip()) <= _MOST_CHARS:
        raise BadEvent(f"data.{key} must be text that is not empty, got {value!r:.60}; data must be {_FORM}")
    return whole(value)
