"""Who is told, and what a notice says: of a condition, of a rollout's record."""

import hashlib
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog

from haldane.adapters.alertmanager import open_alertmanager
from haldane.adapters.kafka import client_settings
from haldane.adapters.outlet import open_notice_topic
from haldane.adapters.webhook import open_webhook
from haldane.app.jsonfile import JsonFile
from haldane.app.parts import Parts
from haldane.config import Config
from haldane.domain.fleet import Condition
from haldane.domain.record import Record
from haldane.engine.notices import ConditionNotices, Pace, RecordNotices
from haldane.judge.alerts import alert_of, runbook, summary
from haldane.ports import AlertSink, Notice, Notifier
from haldane.web.chinese import in_chinese

log = structlog.get_logger()

_KINDS = {"rollout_started": "haldane.rollout.started", "phase_changed": "haldane.rollout.moved"}
_TOLD = ("from", "to", "old", "new", "mode", "by", "why", "command", "promoted")


def of_condition(condition: Condition, ended_at: float | None) -> Notice:
    """A condition that began, or with `ended_at` (seconds) one that is over. The same state has the same id."""
    alert, severity = alert_of(condition.name)
    state = "began" if ended_at is None else "ended"
    subject = _subject(condition.model, condition.version) or ", ".join(condition.servers)
    return Notice(
        id=_id(condition.name, condition.model, condition.version, condition.since, state),
        type=f"haldane.condition.{state}",
        subject=subject,
        at=condition.since if ended_at is None else ended_at,
        data={
            "condition": condition.name,
            "alert": alert,
            "severity": severity,
            "state": state,
            "model": condition.model,
            "version": condition.version,
            "servers": list(condition.servers),
            "summary": summary(condition),
            "summary_zh": summary(condition, "zh"),
            "detail": condition.detail,
            "since": condition.since,
            "runbook": runbook(condition.name),
        },
    )


def of_record(record: Record) -> Notice | None:
    """A rollout that started or moved; None for records that tell of neither."""
    if record.kind not in _KINDS:
        return None
    why = str(record.data.get("why", ""))
    told = {key: record.data[key] for key in _TOLD if key in record.data}
    ruling = record.data.get("ruling") or {}
    return Notice(
        id=_id("record", record.seq, record.hash),
        type=_KINDS[record.kind],
        subject=f"rollouts/{record.rollout}",
        at=record.at,
        data={
            "rollout": record.rollout,
            "model": record.model,
            **told,
            "why_zh": in_chinese(why),
            "verdict": ruling.get("verdict"),
            "seq": record.seq,
        },
    )


def _subject(model: str, version: int | None) -> str:
    if not model:
        return ""
    return f"models/{model}" + ("" if version is None else f"/versions/{version}")


def _id(*parts: object) -> str:
    """Letters and digits only, whatever a model is called: it stands in a header."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass
class Told:
    """Who is told: sinks of conditions, and of the audit log."""

    sinks: dict[str, AlertSink] = field(default_factory=dict)
    logs: list[RecordNotices] = field(default_factory=list)


async def open_told(config: Config, stack: AsyncExitStack, parts: Parts) -> Told:
    """Everybody the config says should be told; closed with the stack. Refused when a package is missing."""
    told, link, now = Told(), f"http://{config.listen}/", parts.clock.now
    if config.alertmanager is not None:
        sink = await stack.enter_async_context(open_alertmanager(str(config.alertmanager), now=now, link=link))
        told.sinks["alertmanager"] = sink
    if config.webhook is not None and config.webhook_secret is not None:
        section, secret = config.webhook, config.webhook_secret.get_secret_value()
        seconds = section.timeout.total_seconds()
        opening = open_webhook(section.url, secret, source=link, now=now, timeout_seconds=seconds)
        _tell_all(told, "webhook", await stack.enter_async_context(opening), config, parts, Pace())
    if (topic := config.notices_topic) is not None:
        settings = client_settings(topic.settings_file, topic.topic)
        out = open_notice_topic(topic.topic, brokers=topic.brokers, settings=settings, source=link)
        # Whoever reads a topic wants all of it, in order: it is told until it is taken.
        _tell_all(told, "topic", await stack.enter_async_context(out), config, parts, Pace(tries=None))
    return told


def _tell_all(told: Told, name: str, notifier: Notifier, config: Config, parts: Parts, pace: Pace) -> None:
    """Conditions and the audit log to that notifier, each with a journal of its own."""
    told.sinks[name] = ConditionNotices(
        notifier,
        notice=of_condition,
        journal=JsonFile(config.state_dir / f"{name}-conditions.json"),
        now=parts.clock.now,
        may_tell=parts.lease.held,
    )
    told.logs.append(
        RecordNotices(
            lambda after: parts.store.records(after=after),
            notifier,
            name=name,
            notice=of_record,
            journal=JsonFile(config.state_dir / f"{name}-records.json"),
            may_tell=parts.lease.held,
            telemetry=parts.telemetry,
            pace=pace,
        )
    )
