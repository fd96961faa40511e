"""An agent for the gallery: rollouts in memory, commanded by the real machine, judged by the real judge."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from haldane.adapters.archive import packed
from haldane.domain.entries import Entry
from haldane.domain.evidence import Ruling
from haldane.domain.fleet import Condition, ModelName, Server, ServerName
from haldane.domain.labels import Label, Receipt
from haldane.domain.people import Person, Right
from haldane.domain.record import Record, chain
from haldane.domain.release import Announcement, Hold
from haldane.domain.rollout import Command, CommandKind, Mode, Phase, Rollout, RolloutId, Transition
from haldane.domain.traffic import Batch
from haldane.judge.analysis import trace
from haldane.judge.replay import CaseFile, recorded_rulings
from haldane.judge.rules import Rules
from haldane.ports import Refused
from haldane.rollout.machine import step
from haldane.testing.builders import MODEL, a_rollout, a_view
from haldane.testing.pairs import metric, pairs, rules
from haldane.web.problem import Unknown
from haldane.web.story import AgentStatus, Story

START = 1_760_000_000.0
RULES = rules(metric("errors", "1pp"), metric("accuracy", "1pp"), metric("latency", "+15%"))


def canary_pairs(n: int, *, wrong: float = 0.02, slower: float = 1.0, seed: int = 1) -> Iterator[Batch]:
    """Noisy pairs in batches of 50, of which the canary is wrong this often and this many times slower."""
    rng = np.random.default_rng(seed)
    for first in range(0, n, 50):
        hard = rng.random(50) < 0.02
        stable_seconds = rng.lognormal(-4.6, 0.25, 50)
        yield pairs(
            50,
            first=first,
            at=0.05 * (first + np.arange(50)),
            row=first + np.arange(50),
            stable_wrong=hard,
            canary_wrong=hard | (rng.random(50) < wrong - 0.02),
            stable_seconds=stable_seconds,
            canary_seconds=stable_seconds * slower * rng.lognormal(0.0, 0.15, 50),
        )


def records_of(rollout: Rollout, *moves: tuple[float, Phase, str]) -> list[Record]:
    """The audit records of a rollout with those changes of phase: seconds since it started, phase, why."""
    labels = {server: {"stable": rollout.old, "canary": None} for server in rollout.servers}
    data = {"by": "ada", "why": "retrained", "old": rollout.old, "new": rollout.new, "labels": labels}
    found = [chain(None, at=START, kind="rollout_started", rollout=rollout.id, model=rollout.model, data=data)]
    before = Phase.PENDING
    for seconds, phase, why in moves:
        data = {"from": before, "to": phase, "why": why, "labels": labels}
        found.append(
            chain(
                found[-1], at=START + seconds, kind="phase_changed", rollout=rollout.id, model=rollout.model, data=data
            )
        )
        before = phase
    return found


def a_story(*, batches: Sequence[Batch] = (), judged_by: Rules = RULES, title: str = "", **rollout: object) -> Story:
    """The story of a rollout of `credit` from 1 to 2 with the rulings those batches give."""
    rulings = trace(judged_by, batches)
    fields = {"analysis": judged_by.to_json(), "started_at": START, **rollout}
    if rulings:
        fields = {"verdict": rulings[-1].verdict, "why": rulings[-1].why, **fields}
    found = a_rollout(**fields)  # type: ignore[arg-type]
    ended = batches[-1]["at"].max() if len(batches) else 0.0
    before: dict[str, dict[str, int | None]] = {server: {"stable": 1, "canary": None} for server in found.servers}
    moves = [(0.5, Phase.LOADING, "version 2 is to be loaded"), (2.0, Phase.SHADOWING, "version 2 is loaded")]
    stable = found.new if found.phase is Phase.SUCCEEDED else found.old
    after: dict[str, dict[str, int | None]] = {server: {"stable": stable, "canary": None} for server in found.servers}
    return Story(
        rollout=found,
        rulings=rulings,
        records=records_of(found, *moves, (float(ended) + 2.0, found.phase, found.why)),
        labels_before=before,
        labels_after=after,
        title=title,
    )


@dataclass
class MemoryAgent:
    """Implements `web.api.Agent` without servers or a store."""

    stories: dict[RolloutId, Story] = field(default_factory=dict)
    entries: dict[RolloutId, Sequence[Entry]] = field(default_factory=dict)  # evidence logs
    reasons: list[str] = field(default_factory=list)
    conditions: tuple[Condition, ...] = ()
    labels: dict[int, Label] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    dropped_for: dict[tuple[str, int], str] = field(default_factory=dict)
    refused: list[tuple[str, Right, str]] = field(default_factory=list)
    held: dict[int, Hold] = field(default_factory=dict)
    namespace: str = ""  # of its one model
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def add(self, story: Story) -> Story:
        self.stories[story.rollout.id] = story
        return story

    def local(self, said: str) -> str:
        name = said.rpartition("/")[2]
        return name if self.namespace and said == self.full(name) else said

    def full(self, model: str) -> str:
        return f"{self.namespace}/{model}" if self.namespace and model == MODEL else model

    def unready(self) -> Sequence[str]:
        return self.reasons

    def status(self) -> AgentStatus:
        r0, r1 = ServerName("r0"), ServerName("r1")
        return AgentStatus(
            at=START,
            version="0.0",
            mode=Mode.ENFORCE,
            servers=(Server(r0, "127.0.0.1:1"), Server(r1, "127.0.0.1:2", dedicated_canary=True)),
            seen={r0: a_view(1, labels={"stable": 1, "canary": None}, failed=(5,), at=START), r1: None},
            stable={MODEL: 1},
            namespaces={MODEL: self.namespace} if self.namespace else {},
            rollouts=tuple(one.rollout for one in self.stories.values() if not one.rollout.phase.final),
            conditions=self.conditions,
            trouble={"r1": "connection refused"},
            holds=tuple(self.held.values()),
        )

    async def start(self, model: str, version: int, *, by: str, why: str) -> Rollout:
        if model != MODEL:
            raise Unknown(f"model {model!r} is not in the config; it has {MODEL}")
        if any(not story.rollout.phase.final for story in self.stories.values()):
            raise Refused(model, "another rollout of this model is live")
        name = RolloutId(f"{model}-{version}-{next(self._numbers)}")
        made = a_rollout(id=name, model=ModelName(model), new=version, why=f"{by}: {why}", analysis=RULES.to_json())
        self.add(Story(rollout=made))
        return made

    async def command(
        self, rollout: RolloutId, kind: CommandKind, *, by: str, why: str, known: bool = False
    ) -> Transition:
        story = await self.story(rollout)
        done = step(story.rollout, Command(START, kind, by, why, known))
        self.stories[rollout] = replace(story, rollout=done.after)
        return done

    async def denied(self, person: Person, right: Right, model: str) -> None:
        self.refused.append((person.name, right, model))

    async def announce(self, one: Announcement) -> bool:
        if one.model != MODEL:
            raise Unknown(f"model {one.model!r} is not in the config; it has {MODEL}")
        fresh = one.key not in self.announced
        self.announced.add(one.key)
        return fresh

    async def holds(self) -> Sequence[Hold]:
        return list(self.held.values())

    async def hold(self, model: str, version: int, *, by: str, why: str, until: float | None) -> Hold:
        if model != MODEL:
            raise Unknown(f"model {model!r} is not in the config; it has {MODEL}")
        one = Hold(model=MODEL, version=version, by=by, why=why, since=START, until=until)
        self.held[version] = one
        return one

    async def end_hold(self, model: str, version: int, *, by: str, why: str) -> None:
        if self.held.pop(version, None) is None:
            raise Refused(model, f"version {version} is not held")

    def dropped(self, model: str, version: int) -> str:
        return self.dropped_for.get((model, version), "")

    async def put_labels(self, model: str, labels: Sequence[Label]) -> Receipt:
        if model != MODEL:
            raise Unknown(f"model {model!r} is not in the config; it has {MODEL}")
        before = len(self.labels)
        for label in labels:
            self.labels.setdefault(label.request, label)
        fresh = len(self.labels) - before
        return Receipt(accepted=fresh, duplicate=len(labels) - fresh, unknown=fresh)

    async def rollouts(self, limit: int = 100) -> Sequence[Rollout]:
        return [story.rollout for story in reversed(self.stories.values())][:limit]

    async def rollout(self, rollout: RolloutId) -> Rollout:
        return (await self.story(rollout)).rollout

    async def records(self, rollout: RolloutId | None, *, after: int = 0, limit: int = 1000) -> Sequence[Record]:
        found = [one for story in self.stories.values() for one in story.records if rollout in (None, one.rollout)]
        return [one for one in found if one.seq > after][:limit]

    async def rulings(self, rollout: RolloutId) -> Sequence[Ruling]:
        return (await self.story(rollout)).rulings

    async def archive(self, rollout: RolloutId) -> Iterator[bytes]:
        story = await self.story(rollout)
        recorded = recorded_rulings(story.records)
        return packed(CaseFile(rollout=story.rollout, recorded=recorded, entries=self.entries.get(rollout, ())))

    async def story(self, rollout: RolloutId) -> Story:
        if rollout not in self.stories:
            raise Unknown(f"there is no rollout {rollout!r}")
        return self.stories[rollout]
