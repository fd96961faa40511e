"""A visitor of the agent: what the demo asks of its HTTP API, with answers as domain values."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter

from haldane.demo.acts import MODEL, Labels
from haldane.domain.evidence import Ruling
from haldane.domain.record import Record
from haldane.domain.rollout import Rollout

T = TypeVar("T")

read_rollout = TypeAdapter(Rollout).validate_python
read_ruling: Callable[[Any], Ruling | None] = TypeAdapter(Ruling | None).validate_python
read_rulings = TypeAdapter(list[Ruling]).validate_python
read_records = TypeAdapter(list[Record]).validate_python


class Turned(RuntimeError):
    """The agent said no, or nothing; the message holds its words."""


class Visitor:
    """Talks to one agent. Every call has a deadline of a few seconds."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=5.0, headers={"Authorization": f"Bearer {token}"})

    def close(self) -> None:
        self._http.close()

    def start(self, version: int, why: str) -> Rollout:
        body = {"model": MODEL, "version": version, "by": "demo", "why": why}
        return read_rollout(self._ask("POST", "/v1/rollouts", json=body)["rollout"])

    def command(self, rollout: str, kind: str, why: str) -> None:
        self._ask("POST", f"/v1/rollouts/{rollout}/commands", json={"kind": kind, "by": "demo", "why": why})

    def rollout(self, rollout: str) -> tuple[Rollout, Ruling | None]:
        answer = self._ask("GET", f"/v1/rollouts/{rollout}")
        return read_rollout(answer["rollout"]), read_ruling(answer["ruling"])

    def rulings(self, rollout: str) -> list[Ruling]:
        return read_rulings(self._ask("GET", f"/v1/rollouts/{rollout}/rulings")["rulings"])

    def records(self, rollout: str, *, after: int = 0) -> list[Record]:
        """Its records with a seq beyond `after`, oldest first."""
        return read_records(self._ask("GET", f"/v1/rollouts/{rollout}/records?after={after}")["records"])

    def labels(self) -> Labels:
        """What each label of the model means on each server that could be seen."""
        seen = self._ask("GET", "/v1/status")["seen"]
        return {name: dict(view["models"][MODEL]["labels"]) for name, view in seen.items() if _holds_model(view)}

    def ready(self) -> bool:
        try:
            return self._http.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            reply = self._http.request(method, path, **more)
        except httpx.TransportError as error:
            raise Turned(f"{method} {path}: {type(error).__name__}") from error
        if not reply.is_success:
            raise Turned(f"{method} {path}: {reply.status_code} {reply.text.strip()[:300]}")
        return reply.json()


def _holds_model(view: Any) -> bool:
    return bool(view and MODEL in view.get("models", {}))


def looks(every_seconds: float, at_most_seconds: float) -> Iterator[float]:
    """Seconds gone by, again and again at that pace, until the time is up."""
    started = time.monotonic()
    while (gone := time.monotonic() - started) < at_most_seconds:
        yield gone
        time.sleep(every_seconds)


def wait_until(holds: Callable[[], T | None], at_most_seconds: float, what: str) -> T:
    """The first true answer of `holds`; TimeoutError that says what was waited for."""
    for _ in looks(0.1, at_most_seconds):
        if answer := holds():
            return answer
    raise TimeoutError(f"{what}: not within {at_most_seconds:.0f} seconds")
