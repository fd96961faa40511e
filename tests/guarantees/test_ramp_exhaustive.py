"""Every reachable state of a rollout and the gateway before it: no user is sent on without a proof, and all come back.

As in test_machine_exhaustive.py, with the gateway in full and every server in any progress at any time. Between a look
and what is set on it the gateway may restart (it comes back at rest) or take an earlier order whose caller had given
up; the agent may crash before the commit, between commit and order, and after the order.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from typing import NamedTuple

import pytest
from tests.guarantees.test_machine_exhaustive import AFTER, BEFORE, FEW, MANY, STEPS, WITHDRAWING, allows, moved

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Placement, ServerName
from haldane.domain.rollout import Command, CommandKind, Event, Judged, Looked, Phase, Plan, Progress, Rollout
from haldane.rollout import invariants
from haldane.rollout.machine import step
from haldane.rollout.ramp import GatewayView, gateway_progress, taken, wanted_of, wanted_share
from haldane.testing.builders import a_rollout

ANYWHERE = (Progress.SETTLED, Progress.BEHIND, Progress.UNSEEN)
OPEN = (Phase.RAMPING, Phase.PROMOTING)  # users may be sent on; a hold of these keeps their share


class State(NamedTuple):
    rollout: Rollout
    allowed: bool  # a PASS was given, or a person promoted
    share: float = 0.0  # what the gateway does
    late: float | None = None  # an order whose caller gave up and that has not been taken yet


def a_ramp(servers: int) -> Rollout:
    names = tuple(ServerName(f"r{i}") for i in range(servers))
    plan = Plan(traffic_steps=STEPS)
    return a_rollout(servers=names, dedicated=names[-1:], plan=plan, placement=Placement.OWN_REPLICAS, why="")


def events(rollout: Rollout, gateway: Progress) -> Iterator[Event]:
    for at in (BEFORE, AFTER):
        for vector in product(Progress, repeat=len(rollout.servers)):
            yield Looked(at, dict(zip(rollout.servers, vector, strict=True)), gateway=gateway)
        yield from (Judged(at, verdict, "", pairs) for verdict in Verdict for pairs in (FEW, MANY))
        yield from (Command(at, kind, "ada", "") for kind in CommandKind)


@cache
def followers(rollout: Rollout, gateway: Progress) -> frozenset[tuple[Rollout, bool]]:
    """Every rollout that can follow, and whether its event gave the right to go forward; how it went on is checked."""
    found = set()
    for event in events(rollout, gateway):
        following = moved(rollout, event)
        went_on_with_evidence(rollout, event, following)
        found.add((following, allows(rollout, event)))
    return frozenset(found)


def went_on_with_evidence(rollout: Rollout, event: Event, following: Rollout) -> None:
    by_person = isinstance(event, Command)
    if following.step > rollout.step:
        assert following.step == rollout.step + 1, "a step was left out"
        if rollout.step:
            assert isinstance(event, Judged), f"a step was taken on {event}"
    if rollout.phase is Phase.RAMPING and following.phase is Phase.PROMOTING and not by_person:
        assert rollout.step == len(STEPS), "not all steps were taken"
    went_on = following.step > rollout.step or (rollout.phase, following.phase) == (Phase.RAMPING, Phase.PROMOTING)
    if went_on and isinstance(event, Judged):
        seen = rollout.step_at is not None and rollout.step_from is not None
        assert seen and event.pairs == MANY and event.at == AFTER, "a step had no evidence of its own"
        assert event.verdict is not Verdict.FAIL
        assert event.verdict is Verdict.PASS or rollout.verdict is not Verdict.PASS, "went on in doubt"
    if following.phase.final and not rollout.phase.final:
        assert isinstance(event, Looked) and event.gateway is Progress.SETTLED, "over before the gateway is at rest"


def after(state: State) -> Iterator[State]:
    rollout, allowed, share, late = state
    told = {Progress.UNSEEN, gateway_progress(rollout, {"g": GatewayView(share)})[0]}
    for gateway in told:
        for following, allows_it in followers(rollout, gateway):
            yield State(following, allowed or allows_it, share, late)
    for hit in disturbed(state):
        yield hit
        yield from ordered(hit)


def disturbed(state: State) -> Iterator[State]:
    """What may befall the gateway between a look and an order."""
    yield state
    yield state._replace(share=0.0)
    if state.late is not None:
        yield state._replace(share=state.late, late=None)


def ordered(state: State) -> Iterator[State]:
    """What the agent sets: taken at once, lost, or taken some day."""
    wanted = wanted_of([] if state.rollout.phase.final else [state.rollout])
    if wanted is None or taken(wanted, state.share):
        return
    invariants.check_share(wanted, [state.rollout])
    assert state.allowed or wanted == 0.0, f"{state.rollout.phase}: users were sent on without a PASS"
    yield state._replace(share=wanted)
    if state.late is None:
        yield state._replace(late=wanted)


def reachable(rollout: Rollout) -> set[State]:
    start = State(rollout, allowed=False)
    found, waiting = {start}, deque([start])
    while waiting:
        for state in after(waiting.popleft()):
            if state not in found:
                unharmed(state)
                found.add(state)
                waiting.append(state)
    return found


def unharmed(state: State) -> None:
    rollout = state.rollout
    phase = rollout.held_from if rollout.phase is Phase.HELD else rollout.phase
    assert state.allowed or state.share == 0.0, f"{rollout.phase}: users were sent on without a PASS"
    assert wanted_share(rollout) == 0.0 or phase in OPEN, f"{rollout.phase} wants a share"
    if rollout.phase in WITHDRAWING:
        assert wanted_share(rollout) == 0.0
        assert not rollout.promoted


def calmed(state: State) -> tuple[float, Progress]:
    """The gateway when faults stop, and its progress."""
    share = state.share if state.late is None else state.late
    wanted = wanted_of([state.rollout])
    if wanted is not None and not taken(wanted, share):
        share = wanted
    return share, gateway_progress(state.rollout, {"g": GatewayView(share)})[0]


@pytest.mark.parametrize("servers", [2, 3])
def test_no_user_is_sent_on_without_a_proof_and_every_way_back_ends_at_rest(servers: int) -> None:
    states = reachable(a_ramp(servers))
    assert {state.rollout.phase for state in states} == set(Phase)
    assert {state.share for state in states} == {0.0, *STEPS}
    for state in states:
        if state.rollout.phase.final:
            continue  # left alone; a late order may only move users between servers that have the same version
        share, what = calmed(state)
        assert what is Progress.SETTLED, f"{state}: the gateway never takes what is wanted"
        if state.rollout.phase in WITHDRAWING:
            assert share == 0.0


def test_harm_at_any_step_wants_the_users_back_at_once() -> None:
    for at in range(len(STEPS) + 1):
        ramping = replace(a_ramp(2), phase=Phase.RAMPING, step=at, verdict=Verdict.PASS)
        back = step(ramping, Judged(BEFORE, Verdict.FAIL, "harm")).after
        assert (back.phase, wanted_share(back), back.promoted) == (Phase.ROLLING_BACK, 0.0, ())


@pytest.mark.parametrize("kind", [CommandKind.ABORT])
def test_a_person_brings_the_users_back_from_any_phase(kind: CommandKind) -> None:
    for state in reachable(a_ramp(2)):
        if state.rollout.phase.final:
            continue
        assert wanted_share(step(state.rollout, Command(BEFORE, kind, "ada", "")).after) == 0.0
