"""The stored form of rollouts and records: apart from the live values, with a schema number.

An older form must still load; a newer one is refused with a clear word, so that
an agent rolled back to an earlier release does not misread what it cannot know.
"""

import json
from dataclasses import asdict, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from haldane.domain.record import Record
from haldane.domain.rollout import Plan, Rollout
from haldane.ports import Malformed

SCHEMA = 1
_ROLLOUT = TypeAdapter(Rollout)
# Came later: the release before reads every rollout in which they are as they were then.
_LATER = ("reverts", "gone", "joining", "joined_at", "step", "step_at", "step_from", "by", "approvals")
_LATER_IN_PLAN = ("traffic_steps", "step_seconds", "step_pairs", "step_budget_seconds", "approvals")


def rollout_to_json(rollout: Rollout) -> str:
    body = {"schema": SCHEMA, **asdict(rollout)}
    _leave_out(body, _LATER, rollout)
    _leave_out(body["plan"], _LATER_IN_PLAN, rollout.plan)
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _leave_out(body: dict[str, Any], names: tuple[str, ...], value: Rollout | Plan) -> None:
    """Drop the fields of that name that have their default."""
    defaults = {field.name: field.default for field in fields(value)}
    for name in names:
        if getattr(value, name) == defaults[name]:
            del body[name]


def rollout_from_json(text: str) -> Rollout:
    """Malformed when it was written by a newer release or is not a stored rollout."""
    try:
        body: dict[str, Any] = json.loads(text)
        schema = body.pop("schema", None)
        if schema != SCHEMA:
            raise Malformed("store", f"a rollout of schema {schema}; this release reads {SCHEMA}")
        if unknown := body.keys() - {field.name for field in fields(Rollout)}:
            raise Malformed("store", f"a rollout with unknown fields {sorted(unknown)}")
        return _ROLLOUT.validate_python(body)
    except (ValueError, ValidationError) as error:
        raise Malformed("store", f"a stored rollout cannot be read: {error}") from error


def record_to_row(record: Record) -> dict[str, Any]:
    return {**asdict(record), "data": json.dumps(record.data, sort_keys=True)}


def record_from_row(row: Any) -> Record:
    return Record(**{**row, "data": json.loads(row["data"])})
