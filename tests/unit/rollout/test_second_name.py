"""A canary under a name of its own: introduced with what serves already, moved, taken away; nobody is kept waiting."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.domain.fleet import (
    Availability,
    Clients,
    ModelName,
    ModelView,
    Placement,
    ReplicaView,
    ServerConfig,
    VersionStatus,
)
from haldane.domain.rollout import Looked, Mode, Phase, Progress, Rollout
from haldane.rollout import invariants
from haldane.rollout.machine import step
from haldane.rollout.planner import Step, next_step, progress, unproven
from haldane.rollout.second import refusal, seconds
from haldane.rollout.wanted import Watched, compose, has_second_name, named_apart
from haldane.testing.builders import MODEL, a_config, a_rollout, an_entry

APART = ModelName("credit_canary")
FRAUD = an_entry("fraud", versions=(3,), labels={"stable": 3})
BASE = a_config(an_entry(), FRAUD)
TRIAL = Placement.SECOND_NAME


def a_trial(phase: Phase, **fields: object) -> Rollout:
    return a_rollout(phase, placement=TRIAL, **fields)


def seen_as(
    *available: int, loading: tuple[int, ...] = (), ended: tuple[int, ...] = (), failed: tuple[int, ...] = ()
) -> ModelView:
    states = [VersionStatus(v, Availability.AVAILABLE) for v in available]
    states += [VersionStatus(v, Availability.LOADING) for v in loading]
    states += [VersionStatus(v, Availability.END) for v in ended]
    states += [VersionStatus(v, Availability.END, "DATA_LOSS", "cannot parse") for v in failed]
    return ModelView(tuple(states), {}, max(available, default=None), frozenset(available))


def a_look(own: ModelView, apart: ModelView | None = None, stable: int = 1) -> ReplicaView:
    own = replace(own, labels={"stable": stable})
    return ReplicaView("r0", 0.0, {MODEL: own, **({} if apart is None else {APART: apart})})  # type: ignore[arg-type]


def plan(
    rollout: Rollout, view: ReplicaView, *others: Rollout, unread: bool = False, accepted: ServerConfig | None = None
) -> Step:
    watched = {MODEL: Watched(1, rollout.clients)}
    live = () if rollout.phase.final else (rollout, *others)
    known = seconds(live, lambda _: unread, (rollout,) if rollout.phase.final else ())
    found = next_step(compose(BASE, watched, live, "r0"), view, watched, accepted, known)  # type: ignore[arg-type]
    if found.due:
        invariants.check(found.config, view, watched, {name: one.model for name, one in known.items()})
    assert found.config.entry(FRAUD.name) == FRAUD, "another team's model would change"
    return found


def sent(step: Step, name: ModelName = APART) -> tuple[int, ...] | None:
    entry = step.config.entry(name)
    return entry.versions if entry else None


def test_the_name_is_introduced_with_the_version_that_serves_already() -> None:
    step = plan(a_trial(Phase.LOADING), a_look(seen_as(1)))
    assert step.due and sent(step) == (1,)
    entry = step.config.entry(APART)
    assert entry and entry.base_path == "/models/credit" and not entry.labels


def test_nothing_more_is_sent_while_the_name_is_being_introduced() -> None:
    step = plan(a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(loading=(1,))))
    assert not step.due and not step.settled


def test_then_it_is_moved_to_the_new_version_and_the_first_copy_goes_when_that_serves() -> None:
    step = plan(a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(1)))
    assert step.due and sent(step) == (1, 2)
    waiting = plan(a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(1, loading=(2,))), accepted=step.config)
    assert not waiting.due and not waiting.settled
    step = plan(a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(1, 2)))
    assert step.due and sent(step) == (2,)
    assert plan(a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(2, ended=(1,)))).settled


def test_the_models_own_entry_has_no_canary_until_its_server_is_promoted() -> None:
    for clients, labels in ((Clients.LABEL, {"stable": 1}), (Clients.UNVERSIONED, {})):
        watched = {MODEL: Watched(1, clients)}
        rollout = a_trial(Phase.PROMOTING, promoted=("r1",), clients=clients)
        before, after = (compose(BASE, watched, [rollout], name).entry(MODEL) for name in ("r0", "r1"))  # type: ignore[arg-type]
        assert before and after
        assert (before.versions, before.labels) == ((1,), labels)
        assert after.versions == (1, 2) and after.labels == ({"stable": 2} if labels else {})


@pytest.mark.parametrize(
    ("phase", "there"),
    [
        (Phase.PENDING, False),
        (Phase.LOADING, True),
        (Phase.SHADOWING, True),
        (Phase.PROMOTING, True),
        (Phase.BAKING, False),
        (Phase.ROLLING_BACK, False),
        (Phase.STUCK, False),
    ],
)
def test_the_name_is_there_from_loading_until_every_server_is_promoted(phase: Phase, there: bool) -> None:
    assert named_apart(a_trial(phase)) is there
    assert named_apart(a_trial(Phase.HELD, held_from=phase)) is there


def test_it_is_taken_away_and_waited_for_however_far_it_had_come() -> None:
    for apart in (seen_as(1), seen_as(loading=(1,)), seen_as(1, loading=(2,)), seen_as(2)):
        back = a_trial(Phase.ROLLING_BACK)
        step = plan(back, a_look(seen_as(1), apart))
        assert step.due and sent(step) is None
        assert progress(back, "r0", a_look(seen_as(1), apart), step)[0] is Progress.BEHIND
    gone = a_look(seen_as(1), seen_as(ended=(1, 2)))
    assert progress(back, "r0", gone, plan(back, gone)) == (Progress.SETTLED, "as wanted")


def test_a_load_that_the_server_was_told_to_give_up_is_not_waited_for() -> None:
    back, view = a_trial(Phase.ROLLING_BACK), a_look(seen_as(1), seen_as(loading=(2,)))
    assert plan(back, view).due
    assert plan(back, view, accepted=BASE).settled


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.ROLLED_BACK])
def test_what_a_late_reload_brings_back_after_the_end_is_taken_away_and_what_is_not_ours_is_not(phase: Phase) -> None:
    step = plan(a_trial(phase), a_look(seen_as(1), seen_as(1, 2)), accepted=BASE)
    assert step.due and sent(step) is None
    assert plan(a_trial(phase), a_look(seen_as(1), seen_as(7))).settled


def test_a_version_that_fails_under_its_own_name_has_failed() -> None:
    trial, view = a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(1, failed=(2,)))
    what, why = progress(trial, "r0", view, plan(trial, view))
    assert what is Progress.FAILED and why.startswith("as credit_canary: version 2 failed to load")


def test_a_server_is_settled_only_when_the_version_answers_under_its_own_name() -> None:
    trial, view = a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(2))
    assert progress(trial, "r0", view, plan(trial, view))[0] is Progress.SETTLED
    view = unproven(view, MODEL, 2)
    what, why = progress(trial, "r0", view, plan(trial, view))
    assert (what, why) == (Progress.BEHIND, "version 2 is not proven as credit_canary yet")


def test_it_is_not_introduced_before_the_files_are_compared_or_while_another_rollout_is_live() -> None:
    view = a_look(seen_as(1))
    unread = plan(a_trial(Phase.LOADING), view, unread=True)
    assert not unread.due and not unread.settled and "compared" in unread.why
    other = a_rollout(Phase.SHADOWING, id="fraud-4", model="fraud")
    beside = plan(a_trial(Phase.SHADOWING), view, other)
    assert not beside.due and not beside.settled and "fraud-4 is live there too" in beside.why
    watching = replace(other, mode=Mode.OBSERVE)
    assert plan(a_trial(Phase.LOADING), view, watching).due, "that one changes nothing"


def test_once_introduced_it_is_moved_whoever_else_is_live() -> None:
    other = a_rollout(Phase.SHADOWING, id="fraud-4", model="fraud")
    assert sent(plan(a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(1)), other)) == (1, 2)


def test_it_is_not_introduced_where_stable_does_not_serve_or_the_last_one_has_not_gone_yet() -> None:
    trial = a_trial(Phase.LOADING)
    assert sent(plan(trial, a_look(seen_as(loading=(1,))))) is None
    leaving = ModelView((VersionStatus(2, Availability.UNLOADING),))
    assert not plan(trial, a_look(seen_as(1), leaving)).due


def test_that_the_first_copy_failed_to_load_once_keeps_it_from_nothing() -> None:
    step = plan(a_trial(Phase.LOADING), a_look(seen_as(1), seen_as(failed=(1,))))
    assert step.due and sent(step) == (1,)


def test_a_name_that_somebody_took_away_is_introduced_again() -> None:
    step = plan(a_trial(Phase.SHADOWING), a_look(seen_as(1), seen_as(ended=(1, 2))))
    assert step.due and sent(step) == (1,)


@pytest.mark.parametrize(
    "fields", [{"mode": Mode.OBSERVE}, {"reverts": "credit-2"}, {"old": 2}, {"placement": Placement.SAME_ENTRY}]
)
def test_who_changes_nothing_goes_back_or_has_no_stable_beside_it_has_no_second_name(
    fields: dict[str, object],
) -> None:
    assert not has_second_name(replace(a_trial(Phase.LOADING), **fields))  # type: ignore[arg-type]


def test_the_door_lets_no_new_name_through_that_could_hold_the_servers_lock() -> None:
    config = compose(BASE, {MODEL: Watched(1, Clients.LABEL)}, [a_trial(Phase.LOADING)], "r0")  # type: ignore[arg-type]
    with pytest.raises(invariants.InvariantBroken, match="credit_canary would be introduced"):
        invariants.check(config, a_look(seen_as(1)), {}, {APART: MODEL})
    elsewhere = config.with_entry(replace(config.entry(APART), base_path="/other", versions=(1,)))  # type: ignore[type-var]
    with pytest.raises(invariants.InvariantBroken, match="read from /other"):
        invariants.check(elsewhere, a_look(seen_as(1)), {}, {APART: MODEL})


def test_one_that_introduces_a_name_starts_alone_and_others_wait_until_it_has() -> None:
    beside = a_rollout(Phase.BAKING, id="fraud-4", model="fraud")
    assert "fraud-4 is BAKING" in refusal(TRIAL, [beside])
    assert not refusal(TRIAL, [replace(beside, mode=Mode.OBSERVE)])
    assert "when that one is SHADOWING" in refusal(Placement.SAME_ENTRY, [a_trial(Phase.LOADING)])
    assert not refusal(Placement.SAME_ENTRY, [a_trial(Phase.SHADOWING), beside])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "loaded, proven and labelled"),
        ({"placement": TRIAL}, "loaded and proven"),
        ({"clients": Clients.UNVERSIONED}, "loaded and proven"),
    ],
)
def test_it_is_called_labelled_only_where_it_has_a_label(fields: dict[str, Any], says: str) -> None:
    looked = Looked(1.0, dict.fromkeys(("r0", "r1"), Progress.SETTLED))
    assert step(a_rollout(Phase.LOADING, **fields), looked).why == f"version 2 is {says} on every server"


# --- in every order of events -------------------------------------------------------------------------------------


@dataclass
class Rules:
    """One server by Serving's rules, for two names; `jammed` while a name that is new there has not settled."""

    entries: dict[ModelName, tuple[int, ...]] = field(default_factory=lambda: {MODEL: (1,)})
    labels: dict[str, int] = field(default_factory=lambda: {"stable": 1})
    loaded: dict[ModelName, set[int]] = field(default_factory=lambda: {MODEL: {1}, APART: set()})
    loading: dict[ModelName, set[int]] = field(default_factory=lambda: {MODEL: set(), APART: set()})
    broken: bool = False

    @property
    def jammed(self) -> bool:
        return APART in self.entries and not self.known and not self.loaded[APART]

    known: bool = False  # the second name has settled once since it was named

    def view(self) -> ReplicaView:
        def of(name: ModelName) -> ModelView:
            failed = (2,) if self.broken and 2 in self.entries.get(name, ()) and not self.loading[name] & {2} else ()
            return seen_as(*sorted(self.loaded[name]), loading=tuple(self.loading[name]), failed=failed)

        own = replace(of(MODEL), labels=dict(self.labels))
        return ReplicaView("r0", 0.0, {MODEL: own, APART: of(APART)})  # type: ignore[arg-type]

    def reload(self, config: ServerConfig) -> None:
        own, apart = config.entry(MODEL), config.entry(APART)
        assert own and set(own.labels.values()) <= self.loaded[MODEL], "the server would refuse this"
        self.labels, self.entries[MODEL] = dict(own.labels), own.versions
        if apart is None:
            self.entries.pop(APART, None)
            self.known = False
        else:
            assert APART in self.entries or apart.versions == (1,), "its load would hold the lock"
            self.entries[APART] = apart.versions

    def tick(self) -> None:
        for name in (MODEL, APART):
            asked = set(self.entries.get(name, ()))
            self.loaded[name] |= {v for v in self.loading[name] if not (self.broken and v == 2)}
            self.loading[name] = asked - self.loaded[name] - ({2} if self.broken else set())
            if asked & self.loaded[name] or not asked:
                self.loaded[name] &= asked
        self.known = self.known or bool(self.loaded[APART])

    def restart(self) -> None:
        self.__init__(broken=self.broken)  # type: ignore[misc]


WISHES = (
    a_trial(Phase.LOADING),
    a_trial(Phase.SHADOWING),
    a_trial(Phase.PROMOTING, promoted=("r0",)),
    a_trial(Phase.BAKING, promoted=("r0", "r1")),
    a_trial(Phase.ROLLING_BACK),
    a_trial(Phase.HELD, held_from=Phase.PROMOTING, promoted=("r0",)),
)
moves = st.lists(
    st.one_of(st.sampled_from(["look", "tick", "restart", "lost"]), st.integers(0, len(WISHES) - 1)), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(moves, st.integers(0, len(WISHES) - 1), st.sampled_from(list(Clients)), st.booleans())
def test_whatever_happens_users_are_served_no_new_name_jams_and_the_server_gets_where_it_should(
    history: list[str | int], last: int, clients: Clients, broken: bool
) -> None:
    server = Rules(broken=broken, labels={"stable": 1} if clients is Clients.LABEL else {})
    wish = replace(WISHES[0], clients=clients)

    def look(*, lost: bool = False) -> Step:
        step = plan(wish, server.view())
        if step.due and not lost:
            server.reload(step.config)
        return step

    for move in [*history, last, *(["look", "tick"] * 8)]:
        if isinstance(move, int):
            wish = replace(WISHES[move], clients=clients)
        elif move in ("look", "lost"):
            look(lost=move == "lost")
        else:
            getattr(server, move)()
        if clients is Clients.UNVERSIONED:
            server.labels = {}
        assert server.loaded[MODEL], "users would not be served"
        assert set(server.labels.values()) <= server.loaded[MODEL], "a request for stable would have failed"
        assert not (server.jammed and server.entries[APART] != (1,)), "the lock is held by a version nobody knows"
    step = look()
    if not broken:
        assert step.settled
    elif wish.phase is Phase.ROLLING_BACK:
        assert step.settled and APART not in server.entries
