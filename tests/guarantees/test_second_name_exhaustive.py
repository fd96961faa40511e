"""Every reachable state of a rollout and a server on which the canary has a name of its own: nobody waits for it.

As in test_machine_exhaustive.py, with both names of one server in full, and Serving's one reload lock: a name that is
new to the server holds it until one of its versions has settled; no reload is heard before. A reload whose caller gave
up may be applied at any later time, after the rollout's end too; where the new version is good only one that waited for
the lock, since all of them take minutes to go through (they were, and it held).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Generic, NamedTuple, TypeVar

import pytest
from tests.guarantees.test_machine_exhaustive import (
    FORWARD,
    FRAUD,
    LOOKS,
    WITHDRAWING,
    World,
    at_rest,
    name_of,
    next_rollouts,
)

from haldane.domain.fleet import (
    Availability,
    Clients,
    ModelName,
    ModelView,
    Placement,
    ReplicaView,
    ServerConfig,
    ServerName,
    VersionStatus,
)
from haldane.domain.rollout import Phase, Progress, Rollout
from haldane.rollout import invariants
from haldane.rollout.planner import next_step, progress
from haldane.rollout.second import seconds
from haldane.rollout.wanted import compose, second_name
from haldane.testing.builders import MODEL, a_rollout

APART = second_name(MODEL)
NONE: frozenset[int] = frozenset()
# Whether what is loaded has answered its golden requests, and whether the agent knows what the server took last.
LOOKED = tuple(product((True, False), repeat=2))
T = TypeVar("T")
R0 = ServerName("r0")


class Sent(NamedTuple):
    """Of a reload, what concerns both names; `apart` None: not named."""

    versions: tuple[int, ...]
    labels: tuple[tuple[str, int], ...]
    apart: tuple[int, ...] | None


class Half(NamedTuple):
    """One name on the server."""

    policy: tuple[int, ...] | None
    loaded: frozenset[int] = NONE
    loading: frozenset[int] = NONE
    failed: frozenset[int] = NONE

    def told(self, policy: tuple[int, ...] | None) -> "Half":
        again = self.failed - set(self.policy or ())
        return self._replace(policy=policy, failed=self.failed - (again & set(policy or ())))

    def tick(self, broken: frozenset[int]) -> "Half":
        """One poll: loads end, what is asked for is begun, others go once something asked for serves, or nothing is."""
        loaded, failed = self.loaded | (self.loading - broken), self.failed | (self.loading & broken)
        asked = frozenset(self.policy or ())
        kept = loaded & asked if asked & loaded or not asked else loaded
        return self._replace(loaded=kept, loading=asked - kept - failed, failed=failed)

    def view(self, labels: dict[str, int | None], world: World, proven: bool) -> ModelView:
        states = [VersionStatus(version, Availability.AVAILABLE) for version in sorted(self.loaded)]
        states += [VersionStatus(version, Availability.LOADING) for version in sorted(self.loading)]
        states += [VersionStatus(version, Availability.END, "DATA_LOSS") for version in sorted(self.failed)]
        mute = dict.fromkeys(world.cannot_answer & self.loaded if proven else NONE, "it fails every call")
        answered = self.loaded - world.cannot_answer if proven else NONE
        return ModelView(tuple(states), labels, max(self.loaded, default=None), answered, mute)


class Box(NamedTuple):
    """One server by Serving's rules. `jammed`: the second name is new there, and its load holds the reload lock."""

    own: Half
    labels: tuple[tuple[str, int], ...]
    apart: Half = Half(None)
    jammed: bool = False
    late: Sent | None = None

    def reload(self, sent: Sent) -> "Box":
        """Labels are checked before anything loads; a refused reload loads and moves nothing."""
        if not {version for _, version in sent.labels} <= self.own.loaded:
            return self
        new = self.apart.policy is None and sent.apart is not None
        own, apart = self.own.told(sent.versions), self.apart.told(sent.apart)
        return self._replace(own=own, labels=sent.labels, apart=apart, jammed=new)

    def heard(self, sent: Sent) -> "Box":
        """Sent now. While the lock is held it waits, and its caller gives up."""
        if not self.jammed:
            return self.reload(sent)
        return self if self.late is not None else self._replace(late=sent)

    def tick(self, broken: frozenset[int]) -> "Box":
        own, apart = self.own.tick(broken), self.apart.tick(broken)
        return self._replace(own=own, apart=apart, jammed=self.jammed and not (apart.loaded or apart.failed))


class State(NamedTuple):
    """By number, since there are many: of the rollout, and of the server."""

    rollout: int
    allowed: bool  # a PASS was given, or a person promoted
    box: int


class Numbered(Generic[T]):
    """Things by the order in which they came up: a number is compared in no time."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self._things: list[T] = []

    def of(self, thing: T) -> int:
        number = self._numbers.setdefault(thing, len(self._things))
        if number == len(self._things):
            self._things.append(thing)
        return number

    def __getitem__(self, number: int) -> T:
        return self._things[number]

    def __iter__(self) -> Iterator[T]:
        return iter(self._things)


def worlds() -> Iterator[World]:
    for clients in Clients:
        rollout = a_rollout(servers=(R0,), placement=Placement.SECOND_NAME, clients=clients, why="")
        if (
            clients is Clients.UNVERSIONED
        ):  # the good one by labels takes minutes: it was gone through by hand, and held
            yield World(rollout, R0, clients)
        yield World(rollout, R0, clients, cannot_load=frozenset({2}))
        yield World(rollout, R0, clients, cannot_answer=frozenset({2}))


def planned(world: World, rollout: Rollout, box: Box, proven: bool, knows: bool) -> tuple[Sent | None, bool, Progress]:
    """What is sent on this look, whether the server is settled, and its progress; the door's own check is passed.

    `proven`: the golden requests of what is loaded were answered; `knows`: the agent knows what the server took last.
    """
    watched = at_rest(world, rollout)
    labels: dict[str, int | None] = {label: v if v in box.own.loaded else None for label, v in box.labels}
    models = {MODEL: box.own.view(labels, world, proven), APART: box.apart.view({}, world, proven)}
    view = ReplicaView(R0, 0.0, models)
    live = [] if rollout.phase.final else [rollout]
    ended = replace(rollout, reverts=None)  # of a revert, the one that it takes back
    known = seconds(live, lambda _: False, [ended] if rollout.phase.final or rollout.reverts else [])
    wanted = compose(world.base, watched, live, R0)
    found = next_step(wanted, view, watched, taken(world, box) if knows else None, known)
    what, _ = progress(rollout, R0, view, found)
    if not found.due:
        return None, found.settled, what
    invariants.check(found.config, view, watched, {name: one.model for name, one in known.items()})
    assert found.config.entry(FRAUD.name) == FRAUD, "another team's model would change"
    return sent_by(found.config), found.settled, what


def sent_by(config: ServerConfig) -> Sent:
    own, apart = config.entry(MODEL), config.entry(APART)
    assert own is not None and (apart is None or not apart.labels)
    return Sent(own.versions, tuple(own.labels.items()), apart.versions if apart else None)


def taken(world: World, box: Box) -> ServerConfig:
    """What the server holds to, as a config."""
    entry = world.base.entry(MODEL)
    assert entry is not None and box.own.policy is not None
    own = entry.serving(box.own.policy, dict(box.labels))
    config = world.base.with_entry(own)
    if box.apart.policy is None:
        return config
    return ServerConfig((*config.models, replace(own.serving(box.apart.policy, {}), name=ModelName(APART))))


def gives_users_the_new(world: World, sent: Sent) -> bool:
    return dict(sent.labels).get("stable") == 2 if world.clients is Clients.LABEL else 2 in sent.versions


def unharmed(world: World, box: Box) -> None:
    labels = dict(box.labels)
    assert set(labels.values()) <= box.own.loaded, f"a label points at a version that is not AVAILABLE: {box}"
    assert labels.get("stable") not in world.cannot_answer, f"stable points at a version never proven: {box}"
    assert box.own.loaded, f"nothing serves any more: {box}"
    first = set(box.apart.policy or ()) - world.cannot_load
    assert first or not box.jammed, f"every reload waits for a version that cannot be loaded: {box}"


class Space:
    """All states of one world, each checked when it is found."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lates = bool(world.cannot_load | world.cannot_answer)
        self.rollouts, self.boxes = Numbered[Rollout](), Numbered[Box]()
        entry = world.base.entry(MODEL)
        assert entry is not None
        self.boot = Box(Half(entry.versions, frozenset(entry.versions)), tuple(entry.labels.items()))
        self.disturbed, self.acted, self.followers = cache(self._disturbed), cache(self._acted), cache(self._followers)
        self.planned = cache(self._planned)
        start = State(self.rollouts.of(world.rollout), False, self.boxes.of(self.boot))
        self.states = {start}
        waiting = deque([start])
        while waiting:
            fresh = set(self.after(waiting.popleft())) - self.states
            self.states |= fresh
            waiting.extend(fresh)
        for box in self.boxes:
            unharmed(world, box)

    def after(self, state: State) -> Iterator[State]:
        """Every state that can follow, by an event, a look, a fault of the server or a crash of the agent."""
        rollout, allowed, box = state
        for following, allows_it, forward in self.followers(rollout, box):
            assert allowed or allows_it or not forward, "forward without a PASS"
            yield State(following, allowed or allows_it, box)
        for hit in self.disturbed(box):
            yield State(rollout, allowed, hit)
        for hit, gives_new in self.acted(rollout, box):
            assert allowed or not gives_new, f"{self.rollouts[rollout].phase}: users get the new one without a PASS"
            yield State(rollout, allowed, hit)

    def _planned(self, rollout: int, box: int, proven: bool, knows: bool) -> tuple[Sent | None, bool, Progress]:
        return planned(self.world, self.rollouts[rollout], self.boxes[box], proven, knows)

    def _disturbed(self, number: int) -> tuple[int, ...]:
        """What may befall a server at any instant."""
        box = self.boxes[number]
        hits = [box, box.tick(self.world.cannot_load), self.boot]
        if box.late is not None and not box.jammed:
            hits.append(box.reload(box.late)._replace(late=None))
        return tuple(map(self.boxes.of, hits))

    def _acted(self, rollout: int, box: int) -> frozenset[tuple[int, bool]]:
        """Look, then send what is due: taken at once, or applied some day though nobody waits for it."""
        found = set()
        for proven, knows in LOOKED:
            sent, _, _ = self.planned(rollout, box, proven, knows)
            for hit in map(self.boxes.__getitem__, self.disturbed(box)) if sent else ():
                assert sent is not None
                gives_new = gives_users_the_new(self.world, sent)
                found.add((self.boxes.of(hit.heard(sent)), gives_new))
                if hit.late is None and self.lates:
                    found.add((self.boxes.of(hit._replace(late=sent)), gives_new))
        return frozenset(found)

    def _followers(self, number: int, box: int) -> tuple[tuple[int, bool, bool], ...]:
        """What may become of the rollout, whether its event gave the right to go forward, and whether it does."""
        rollout = self.rollouts[number]
        ours = {self.planned(number, box, *how)[2] for how in LOOKED}
        found = set[tuple[Rollout, bool]]().union(
            *(next_rollouts(rollout, R0, what, ()) for what in {Progress.UNSEEN, *ours})
        )
        return tuple(
            (self.rollouts.of(one), allows_it, bool(one.promoted) or one.phase in FORWARD) for one, allows_it in found
        )


def calm(space: Space, rollout: int, number: int) -> tuple[Box, bool, Progress]:
    """The server after so many undisturbed looks; what was on its way lands first, when the lock is free."""
    settled, what, knows = False, Progress.BEHIND, False
    for _ in range(2 * LOOKS):
        box = space.boxes[number]
        if box.late is not None and not box.jammed:
            box, knows = box.reload(box.late)._replace(late=None), False
        sent, settled, what = space.planned(rollout, space.boxes.of(box), True, knows)
        if sent is not None:
            knows = not box.jammed
            box = box.heard(sent)
        number, before = space.boxes.of(box.tick(space.world.cannot_load)), number
        if number == before and sent is None:
            break  # nothing changes any more
    return space.boxes[number], settled, what


@pytest.mark.parametrize("world", list(worlds()), ids=name_of)
def test_no_state_hurts_anyone_or_jams_the_server_and_from_each_it_agrees_when_faults_stop(world: World) -> None:
    space = Space(world)
    phases = {rollout.phase for rollout in space.rollouts}
    broken = world.cannot_load | world.cannot_answer
    assert phases.isdisjoint({Phase.BAKING, Phase.SUCCEEDED}) if broken else phases == set(Phase) - {Phase.RAMPING}
    for numbers in {(state.rollout, state.box) for state in space.states}:
        rollout, box = space.rollouts[numbers[0]], space.boxes[numbers[1]]
        calmed, settled, what = calm(space, *numbers)
        if rollout.phase.final or rollout.phase in WITHDRAWING:
            assert settled, f"{rollout.phase}: {box} never comes to what is wanted"
            stable = rollout.new if rollout.phase is Phase.SUCCEEDED else rollout.old
            labels = (("stable", stable),) if world.clients is Clients.LABEL else ()
            assert (calmed.own.loaded, calmed.labels) == ({stable}, labels), f"{rollout.phase}: {calmed}"
            assert (calmed.apart.policy, calmed.apart.loaded) == (None, NONE), f"{rollout.phase}: {calmed}"
        else:
            assert what in (Progress.SETTLED, Progress.FAILED), f"{rollout.phase}: {box} stays {what}"
