"""Every reachable state of a rollout and a server, not a sample: nobody is hurt, and the fleet agrees when faults stop.

A server's moves depend on the other servers only through the rollout. So one server is modelled in full, in every seat
of fleets of one to three, and the others, and a gateway before them, may be in any progress at any time; that covers
every joint history and more. The gateway is modelled in full in test_ramp_exhaustive.py.
The clock is reduced to "before the deadline" and "after it". Between a look and what is sent on it the server may
restart, move on, or take an earlier reload whose caller had given up; the agent may crash before the commit, between
commit and reload, and after the reload. At most one reload at a time is out late; looks themselves are taken as
atomic. In fleets that change, our server may leave at any time, come back, or be new.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from typing import NamedTuple

import pytest

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import (
    Availability,
    Clients,
    ModelName,
    ModelView,
    Policy,
    ReplicaView,
    ServerConfig,
    ServerName,
    VersionStatus,
)
from haldane.domain.rollout import Command, CommandKind, Event, Judged, Looked, Phase, Plan, Progress, Rollout
from haldane.rollout import invariants
from haldane.rollout.machine import step
from haldane.rollout.planner import next_step, progress
from haldane.rollout.revert import revert
from haldane.rollout.wanted import Watched, compose
from haldane.testing.builders import MODEL, a_config, a_rollout, an_entry

BEFORE, AFTER = 1.0, 1e6  # every deadline of a phase that began at 0 lies between them
SEATS = ("r0", "r1", "r2")
OTHERS = ModelName("fraud")
FRAUD = an_entry(OTHERS, policy=Policy.LATEST, versions=(), labels={"live": 3}, other=b"\x01")
FORWARD = (Phase.PROMOTING, Phase.BAKING, Phase.SUCCEEDED)
WITHDRAWING = (Phase.ROLLING_BACK, Phase.STUCK, Phase.ROLLED_BACK)
STEPS = (0.1, 1.0)
FEW, MANY = 0, 10**6  # pairs: no step has enough of the ones, every step of the others
LOOKS = 12  # enough for the longest way back: load, prove, label, unload


class Sent(NamedTuple):
    """Of a reload, what concerns our model."""

    versions: tuple[int, ...]
    labels: tuple[tuple[str, int], ...]


class Box(NamedTuple):
    """One server by Serving's rules, and what the agent has proven on it."""

    policy: tuple[int, ...]
    labels: tuple[tuple[str, int], ...]
    loaded: frozenset[int]
    loading: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    proven: frozenset[int] = frozenset()
    late: Sent | None = None  # a reload whose caller gave up and that has not been applied yet

    def reload(self, sent: Sent) -> "Box":
        """Labels are checked before anything loads; a refused reload loads and moves nothing."""
        if not {version for _, version in sent.labels} <= self.loaded:
            return self
        again = self.failed & (set(sent.versions) - set(self.policy))
        return self._replace(policy=sent.versions, labels=sent.labels, failed=self.failed - again)

    def tick(self, broken: frozenset[int]) -> "Box":
        """One poll: loads end, what is asked for is begun, and others go only once something asked for serves."""
        loaded, failed = self.loaded | (self.loading - broken), self.failed | (self.loading & broken)
        asked = frozenset(self.policy)
        kept = loaded & asked or loaded
        return self._replace(loaded=kept, loading=asked - kept - failed, failed=failed, proven=self.proven & kept)


class World(NamedTuple):
    """One way a rollout may be: how clients ask, the seat of our server, what is wrong with the new version there."""

    rollout: Rollout
    seat: ServerName
    clients: Clients
    cannot_load: frozenset[int] = frozenset()
    cannot_answer: frozenset[int] = frozenset()
    fleet: tuple[ServerName, ...] = ()  # who may come and go meanwhile

    @property
    def base(self) -> ServerConfig:
        labels = {"stable": 1} if self.clients is Clients.LABEL and not self.rollout.first else {}
        return a_config(an_entry(labels=labels), FRAUD)


@cache
def boot(world: World) -> Box:
    """The server as it starts, from the config of its file."""
    entry = world.base.entry(MODEL)
    assert entry is not None
    up = frozenset(entry.versions) - world.cannot_load
    return Box(entry.versions, tuple(entry.labels.items()), up, failed=frozenset(entry.versions) - up)


class State(NamedTuple):
    rollout: Rollout  # as stored: a crashed agent starts from it
    allowed: bool  # a PASS was given, or a person promoted
    box: Box


def worlds() -> Iterator[World]:
    for size, at_once in ((1, 1), (2, 1), (3, 1), (3, 2)):
        for seat in SEATS[:size]:
            names = tuple(ServerName(name) for name in SEATS[:size])
            plan = Plan(at_once=at_once)
            labelled = a_rollout(servers=names, plan=plan)
            spare = replace(labelled, clients=Clients.UNVERSIONED, dedicated=names[-1:])
            two = frozenset({2})
            for rollout, clients in ((labelled, Clients.LABEL), (spare, Clients.UNVERSIONED)):
                yield World(rollout, ServerName(seat), clients)
                yield World(rollout, ServerName(seat), clients, cannot_load=two)
                yield World(rollout, ServerName(seat), clients, cannot_answer=two)
            yield World(replace(labelled, old=1, new=1), ServerName(seat), Clients.LABEL)
            if size > 1 and at_once == 1:
                yield from in_steps(replace(spare, plan=replace(plan, traffic_steps=STEPS)), ServerName(seat))
    yield from changing()


def changing() -> Iterator[World]:
    """Fleets of two, in one of which our server is there from the start; it comes and goes."""
    first, newcomer = (ServerName(name) for name in SEATS[:2])
    alone, both = a_rollout(servers=(first,)), a_rollout(servers=(first, newcomer))
    fleet = (newcomer,)
    yield World(alone, newcomer, Clients.LABEL, fleet=fleet)
    yield World(alone, newcomer, Clients.LABEL, cannot_load=frozenset({2}), fleet=fleet)
    spare = replace(both, dedicated=(newcomer,), clients=Clients.UNVERSIONED)
    yield World(spare, newcomer, Clients.UNVERSIONED, fleet=fleet)


def in_steps(rollout: Rollout, seat: ServerName) -> Iterator[World]:
    """By steps of traffic to the dedicated server, for both ways in which clients ask."""
    for clients in Clients:
        yield World(replace(rollout, clients=clients), seat, clients)
        if len(rollout.servers) == 2:
            yield World(replace(rollout, clients=clients), seat, clients, cannot_load=frozenset({2}))
            yield World(replace(rollout, clients=clients), seat, clients, cannot_answer=frozenset({2}))


def at_rest(world: World, rollout: Rollout) -> dict[ModelName, Watched]:
    """What the desk knows of the model once this rollout is stored."""
    settled = rollout.settles
    released = not world.rollout.first or settled is not None
    stable = settled if settled is not None else rollout.new if rollout.reverts else rollout.old
    return {MODEL: Watched(stable, world.clients, released=released)}


def view_of(world: World, box: Box) -> ReplicaView:
    statuses = [VersionStatus(version, Availability.AVAILABLE) for version in sorted(box.loaded)]
    statuses += [VersionStatus(version, Availability.LOADING) for version in sorted(box.loading)]
    statuses += [VersionStatus(version, Availability.END, "DATA_LOSS") for version in sorted(box.failed - box.loading)]
    model = ModelView(
        versions=tuple(statuses),
        labels={label: version if version in box.loaded else None for label, version in box.labels},
        unversioned=max(box.loaded, default=None),
        proven=box.proven,
        unproven_because=dict.fromkeys(world.cannot_answer & box.loaded, "it fails every call"),
    )
    return ReplicaView(world.seat, 0.0, {MODEL: model})


def look(world: World, box: Box) -> Box:
    """A look sends the golden requests that are due."""
    return box._replace(proven=box.proven | (box.loaded - world.cannot_answer))


@cache
def planned(world: World, rollout: Rollout, seen: Box, taken: Sent | None) -> tuple[Sent | None, bool, Progress]:
    """What is sent on this look, whether the server is settled, and its progress; the door's own check is passed."""
    watched, view = at_rest(world, rollout), view_of(world, seen)
    live = [] if rollout.phase.final else [rollout]
    wanted = compose(world.base, watched, live, world.seat)
    accepted = None
    if taken is not None:
        entry = wanted.entry(MODEL)
        assert entry is not None
        accepted = wanted.with_entry(entry.serving(taken.versions, dict(taken.labels)))
    found = next_step(wanted, view, watched, accepted)
    what, _ = progress(rollout, world.seat, view, found)
    if not found.due:
        return None, found.settled, what
    invariants.check(found.config, view, watched)
    assert found.config.entry(OTHERS) == FRAUD, "another team's model would change"
    entry = found.config.entry(MODEL)
    assert entry is not None
    new = rollout.new
    if entry.labels.get("stable") == new != at_rest(world, world.rollout)[MODEL].stable:
        assert new in seen.proven or ("stable", new) in seen.labels, f"stable would move to {new}, not proven: {seen}"
    return Sent(entry.versions, tuple(entry.labels.items())), found.settled, what


# --- the machine ------------------------------------------------------------------------------------------------------


def events(rollout: Rollout, seat: ServerName, ours: Progress, fleet: tuple[ServerName, ...] = ()) -> Iterator[Event]:
    """Whatever may be told while our server is at `ours`: the others, a gateway too, are anywhere, and come and go."""
    servers, steps = rollout.present, bool(rollout.plan.traffic_steps)
    gateway = (Progress.SETTLED, Progress.UNSEEN) if steps else (Progress.SETTLED,)
    for at in (BEFORE, AFTER):
        for vector in product(*((ours,) if name == seat else Progress for name in servers)):
            progress = dict(zip(servers, vector, strict=True))
            yield from (Looked(at, progress, gateway=what) for what in gateway)
            for name in fleet if len(set(vector)) < 2 else ():
                came, left = (name,) if name not in servers else (), frozenset({name}) & set(servers)
                own = came if name in rollout.dedicated else ()
                yield Looked(at, progress, joined=came, dedicated=own, gone=left)
        yield from (
            Judged(at, verdict, "", pairs) for verdict in Verdict for pairs in ((FEW, MANY) if steps else (FEW,))
        )
        yield from (Command(at, kind, "ada", "") for kind in CommandKind)


def moved(rollout: Rollout, event: Event) -> Rollout:
    """The rollout after the event, without what changes nothing of what follows: the clock, words, counters."""
    following = step(rollout, event).after
    seen = None if following.step_at is None else 0.0
    begun = None if following.step_from is None else FEW
    return replace(following, phase_since=0.0, joined_at=0.0, why="", extensions=0, step_at=seen, step_from=begun)


def allows(rollout: Rollout, event: Event) -> bool:
    """Does this event give the right to go forward?"""
    passed = isinstance(event, Judged) and event.verdict is Verdict.PASS
    asked = isinstance(event, Command) and event.kind is CommandKind.PROMOTE and not step(rollout, event).refused
    return (passed and (rollout.phase.judging or rollout.phase is Phase.HELD)) or asked


def harmful(rollout: Rollout, event: Event) -> bool:
    """Does this event show harm: to pairs, or, once users may have the new version, a server that cannot serve it?"""
    if isinstance(event, Judged):
        return event.verdict is Verdict.FAIL
    given = event.progress if isinstance(event, Looked) and not (event.joined or event.gone) else {}
    users = rollout.phase is not Phase.HELD or rollout.held_from is not Phase.SHADOWING
    return users and rollout.held_from is not Phase.LOADING and Progress.FAILED in given.values()


@cache
def next_rollouts(
    rollout: Rollout, seat: ServerName, ours: Progress, fleet: tuple[ServerName, ...]
) -> frozenset[tuple[Rollout, bool]]:
    """Every rollout that can follow, and whether its event allowed going forward; what none may do is checked."""
    if rollout.phase is Phase.SUCCEEDED and not rollout.first and rollout.reverts is None:
        back = replace(revert(rollout, at=0.0, why=""), phase_since=0.0)
        return frozenset({(back, False)})
    found = set()
    for event in events(rollout, seat, ours, fleet):
        following = moved(rollout, event)
        ahead = bool(set(following.promoted) - set(rollout.promoted) - set(following.dedicated))
        ahead = ahead or following.phase.final
        ahead = ahead or following.step > rollout.step
        if rollout.phase in (*FORWARD[:2], Phase.RAMPING, Phase.SHADOWING, Phase.HELD) and harmful(rollout, event):
            assert following.phase in WITHDRAWING, f"{rollout.phase} from {rollout.held_from}: harm changed nothing"
        if rollout.phase in WITHDRAWING:
            assert following.phase in WITHDRAWING, f"{rollout.phase} went forward to {following.phase}"
        if isinstance(event, Looked) and ahead and following != rollout:
            told = {name: event.progress.get(name) for name in following.present}
            settled = all(what is Progress.SETTLED for what in (*told.values(), event.gateway))
            catches_up = rollout.phase is following.phase is Phase.BAKING or rollout.held_from is Phase.BAKING
            assert settled or catches_up, f"{rollout.phase} went on while a server or the gateway was not settled"
            assert told or following.phase in WITHDRAWING, "went on without a single server"
        found.add((following, allows(rollout, event)))
    return frozenset(found)


# --- the rollout and the server together ------------------------------------------------------------------------------


def disturbed(world: World, box: Box) -> Iterator[Box]:
    """What may befall a server at any instant."""
    yield box
    yield box.tick(world.cannot_load)
    yield boot(world)
    if box.late is not None:
        yield box.reload(box.late)._replace(late=None)


def acted(world: World, rollout: Rollout, box: Box) -> Iterator[tuple[Box, Sent]]:
    """Look, then send what is due: taken at once, lost, or applied some day though nobody waits for it."""
    for seen in {box, look(world, box)}:  # the golden requests may have got no answer
        for taken in (None, Sent(box.policy, box.labels)):
            sent, _, _ = planned(world, rollout, seen, taken)
            if sent is None:
                continue
            for hit in disturbed(world, seen):
                yield hit.reload(sent), sent
                yield hit if hit.late is not None else hit._replace(late=sent), sent


def after(world: World, state: State) -> Iterator[State]:
    """Every state that can follow, by an event, a look, a fault of the server or a crash of the agent."""
    rollout, allowed, box = state
    for following, allows_it in followers(world, rollout, box):
        may = allowed or allows_it
        assert may or not (following.promoted or following.phase in FORWARD), "forward without a PASS"
        yield State(following, may, box)
    for hit in disturbed(world, box):
        yield State(rollout, allowed, hit)
    yield State(rollout, allowed, look(world, box))
    yield State(rollout, allowed, box._replace(proven=frozenset()))  # the agent crashed: it knows only what is stored
    for hit, sent in acted(world, rollout, box):
        assert allowed or not gives_users_the_new(world, sent), f"{rollout.phase}: {sent} without a PASS"
        yield State(rollout, allowed, hit)


@cache
def followers(world: World, rollout: Rollout, box: Box) -> frozenset[tuple[Rollout, bool]]:
    """What the machine may make of a rollout while our server is as it is, or cannot be seen."""
    ours = {planned(world, rollout, box, taken)[2] for taken in (None, Sent(box.policy, box.labels))}
    return frozenset().union(
        *(next_rollouts(rollout, world.seat, what, world.fleet) for what in {Progress.UNSEEN, *ours})
    )


def gives_users_the_new(world: World, sent: Sent) -> bool:
    new = world.rollout.new
    if world.clients is Clients.LABEL:
        return dict(sent.labels).get("stable") == new and (world.rollout.first or new != 1)
    return new in sent.versions and world.seat not in world.rollout.dedicated


def unharmed(world: World, box: Box) -> None:
    labels = dict(box.labels)
    assert set(labels.values()) <= box.loaded, f"a label points at a version that is not AVAILABLE: {box}"
    assert labels.get("stable") not in world.cannot_answer, f"stable points at a version never proven: {box}"
    assert box.loaded or world.cannot_load >= set(box.policy), f"nothing serves any more: {box}"


def reachable(world: World) -> set[State]:
    """All states there are, each checked when it is found."""
    start = State(replace(world.rollout, why=""), False, boot(world))
    found, waiting = {start}, deque([start])
    while waiting:
        for state in after(world, waiting.popleft()):
            if state not in found:
                unharmed(world, state.box)
                found.add(state)
                waiting.append(state)
    return found


def calm(world: World, rollout: Rollout, box: Box) -> tuple[Box, bool, Progress]:
    """The server after so many undisturbed looks, whether it holds what is wanted, and its progress."""
    if box.late is not None:
        box = box.reload(box.late)._replace(late=None)
    settled, what, taken = False, Progress.BEHIND, None
    for _ in range(LOOKS):
        box = look(world, box)
        sent, settled, what = planned(world, rollout, box, taken)
        if sent is not None:
            box, taken = box.reload(sent), sent
        box = box.tick(world.cannot_load)
    return box, settled, what


def agrees(world: World, rollout: Rollout, box: Box) -> None:
    """The server has what it had before, or after a success only the new version; said without the planner."""
    ahead = rollout.phase is Phase.SUCCEEDED
    stable = rollout.new if ahead else rollout.old
    named = world.clients is Clients.LABEL and (ahead or not rollout.first)
    assert (box.loaded, box.labels) == ({stable}, (("stable", stable),) if named else ()), f"{rollout.phase}: {box}"


def name_of(world: World) -> str:
    wrong = "unloadable" if world.cannot_load else "mute" if world.cannot_answer else "good"
    first = "first-" if world.rollout.first else ""
    first += "steps-" if world.rollout.plan.traffic_steps else ""
    size = f"{len(world.rollout.servers)}{'-changing' if world.fleet else ''}"
    return f"{first}{world.clients}-{world.seat}of{size}-by{world.rollout.plan.at_once}-{wrong}"


@pytest.mark.parametrize("world", list(worlds()), ids=name_of)
def test_no_state_hurts_anyone_and_from_each_the_fleet_agrees_when_faults_stop(world: World) -> None:
    states = reachable(world)
    phases = {state.rollout.phase for state in states}
    broken = world.cannot_load | world.cannot_answer
    # The others go on without a server that left, or came late.
    never = set() if world.fleet else {Phase.BAKING, Phase.SUCCEEDED}
    every = set(Phase) if world.rollout.plan.traffic_steps else set(Phase) - {Phase.RAMPING}
    assert phases.isdisjoint(never) if broken else phases == every
    for rollout, box in {(state.rollout, state.box) for state in states}:
        if world.seat not in rollout.present and not rollout.phase.final:
            continue  # nothing is asked of it before it is on the list again, and then it joins
        if broken and rollout.phase is Phase.SUCCEEDED:
            continue  # it came after the promotion and cannot follow: it serves what it has, and that is told
        calmed, settled, what = calm(world, rollout, box)
        if rollout.phase.final or rollout.phase in WITHDRAWING:
            assert settled, f"{rollout.phase}: {box} never comes to what is wanted"
            agrees(world, rollout, calmed)
        else:
            assert what in (Progress.SETTLED, Progress.FAILED), f"{rollout.phase}: {box} stays {what}"
    for rollout in {state.rollout for state in states}:
        ends_or_waits(rollout)


def ends_or_waits(rollout: Rollout) -> None:
    """With every server settled it ends, or waits for the judge, a person or a server; it never goes round."""
    looked = Looked(AFTER, dict.fromkeys(rollout.present, Progress.SETTLED))
    for _ in range(len(Phase) + len(rollout.servers)):
        rollout = moved(rollout, looked)
    waits = rollout.phase in (Phase.SHADOWING, Phase.RAMPING, Phase.HELD)
    assert rollout.phase.final or waits or not rollout.present
