"""The planner against Serving's own rules, in every order of events that hypothesis finds."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane.domain.fleet import Availability, Clients, ModelView, Policy, ReplicaView, ServerConfig, VersionStatus
from haldane.domain.rollout import Phase, Progress, Rollout
from haldane.rollout import invariants
from haldane.rollout.planner import next_step, progress
from haldane.rollout.wanted import Watched, compose, stable_of
from haldane.testing.builders import MODEL, a_config, a_rollout, a_view, an_entry

LABEL = {MODEL: Watched(stable=1, clients=Clients.LABEL)}
UNVERSIONED = {MODEL: Watched(stable=1, clients=Clients.UNVERSIONED)}


def step_for(rollout: Rollout | None, view: ReplicaView, watched: dict[str, Watched] = LABEL):  # type: ignore[assignment]
    wanted = compose(a_config(), watched, [rollout] if rollout else [], "r0")
    return next_step(wanted, view, watched)


def sent(step) -> tuple[tuple[int, ...], dict[str, int]]:
    entry = step.config.entry(MODEL)
    return entry.versions, dict(entry.labels)


def test_a_server_at_rest_that_holds_what_is_wanted_is_left_alone() -> None:
    step = step_for(None, a_view(1, labels={"stable": 1}))
    assert (step.due, step.settled) == (False, True)


def test_load_and_label_never_go_in_one_request() -> None:
    loading = step_for(a_rollout(Phase.LOADING), a_view(1, labels={"stable": 1}))
    assert loading.due and sent(loading) == ((1, 2), {"stable": 1})


def test_an_available_version_waits_for_its_golden_request_before_it_is_labelled() -> None:
    step = step_for(a_rollout(Phase.LOADING), a_view(1, 2, labels={"stable": 1}, proven=(1,)))
    assert not step.due and not step.settled


def test_without_a_golden_request_only_what_is_stable_anyway_is_labelled() -> None:
    watched = {MODEL: Watched(stable=1, clients=Clients.LABEL, provable=False)}
    rest = step_for(None, a_view(1, proven=()), watched)
    assert rest.due and sent(rest)[1] == {"stable": 1}
    canary = step_for(a_rollout(Phase.LOADING), a_view(1, 2, labels={"stable": 1}, proven=()), watched)
    assert not canary.due


def test_a_proven_version_is_labelled() -> None:
    step = step_for(a_rollout(Phase.LOADING), a_view(1, 2, labels={"stable": 1}))
    assert step.due and sent(step) == ((1, 2), {"stable": 1, "canary": 2})


def test_promotion_moves_labels_and_keeps_the_old_version_loaded() -> None:
    rollout = a_rollout(Phase.PROMOTING, promoted=("r0",))
    step = step_for(rollout, a_view(1, 2, labels={"stable": 1, "canary": 2}))
    assert sent(step) == ((1, 2), {"stable": 2, "canary": 2})


def test_a_server_whose_turn_has_not_come_keeps_the_old_stable() -> None:
    rollout = a_rollout(Phase.PROMOTING, promoted=("r1",))
    step = step_for(rollout, a_view(1, 2, labels={"stable": 1, "canary": 2}))
    assert step.settled


def test_rollback_is_one_reload_that_needs_no_load() -> None:
    step = step_for(a_rollout(Phase.ROLLING_BACK), a_view(1, 2, labels={"stable": 2, "canary": 2}))
    assert sent(step) == ((1,), {"stable": 1})


def test_rollback_keeps_what_serves_while_the_old_version_is_not_there() -> None:
    step = step_for(a_rollout(Phase.ROLLING_BACK), a_view(2, labels={"stable": 2}))
    assert sent(step) == ((1, 2), {"stable": 2})


def test_a_restarted_server_gets_its_labels_back() -> None:
    rollout = a_rollout(Phase.BAKING, promoted=("r0", "r1"))
    assert sent(step_for(rollout, a_view(1))) == ((1, 2), {"stable": 1})
    assert sent(step_for(rollout, a_view(1, 2))) == ((1, 2), {"stable": 2, "canary": 2})


def test_a_label_somebody_else_set_on_our_model_is_taken_back() -> None:
    step = step_for(None, a_view(1, labels={"stable": 1, "canary": 1}))
    assert step.due and sent(step)[1] == {"stable": 1}


def test_labels_of_other_teams_and_their_versions_stay() -> None:
    base = a_config(an_entry(versions=(1, 7), labels={"stable": 1, "legacy": 7}))
    config = compose(base, LABEL, [a_rollout(Phase.ROLLING_BACK)], "r0")
    entry = config.entry(MODEL)
    assert entry and entry.versions == (1, 7) and entry.labels == {"legacy": 7, "stable": 1}


def test_other_models_are_never_touched() -> None:
    other = an_entry("fraud", policy=Policy.LATEST, versions=(), labels={}, other=b"\x01")
    config = compose(a_config(an_entry(), other), LABEL, [a_rollout(Phase.LOADING)], "r0")
    assert config.entry("fraud") is other


def test_a_held_rollout_wants_what_it_wanted_when_it_was_held() -> None:
    held = a_rollout(Phase.HELD, held_from=Phase.PROMOTING, promoted=("r0",))
    assert compose(a_config(), LABEL, [held], "r0") == compose(
        a_config(), LABEL, [replace(held, phase=Phase.PROMOTING, held_from=None)], "r0"
    )


def test_a_server_outside_the_rollout_is_not_touched_by_it() -> None:
    assert compose(a_config(), LABEL, [a_rollout(Phase.LOADING)], "r9") == a_config()


def test_unversioned_clients_never_share_a_server_with_an_unjudged_version() -> None:
    rollout = a_rollout(Phase.SHADOWING, clients=Clients.UNVERSIONED, dedicated=("r1",))
    entries = {s: compose(a_config(), UNVERSIONED, [rollout], s).entry(MODEL) for s in ("r0", "r1")}
    assert {s: entry.versions for s, entry in entries.items() if entry} == {"r0": (1,), "r1": (1, 2)}
    assert not any(entry.labels for entry in entries.values() if entry)


def test_unversioned_promotion_is_settled_only_when_the_new_version_answers() -> None:
    rollout = a_rollout(Phase.PROMOTING, clients=Clients.UNVERSIONED, dedicated=("r1",), promoted=("r0",))
    view = a_view(1, 2)
    behind = replace(view.models[MODEL], unversioned=1)
    for model_view, then in ((view.models[MODEL], Progress.SETTLED), (behind, Progress.BEHIND)):
        seen = replace(view, models={MODEL: model_view})
        assert progress(rollout, "r0", seen, step_for(rollout, seen, UNVERSIONED))[0] is then


@pytest.mark.parametrize(
    ("view", "then"),
    [
        (None, Progress.UNSEEN),
        (a_view(1, labels={"stable": 1}), Progress.BEHIND),
        (a_view(1, failed=(2,), labels={"stable": 1}), Progress.FAILED),
        (a_view(1, 2, labels={"stable": 1}, proven=(1,)), Progress.BEHIND),
        (a_view(1, 2, labels={"stable": 1}), Progress.BEHIND),
        (a_view(1, 2, labels={"stable": 1, "canary": 2}), Progress.SETTLED),
    ],
)
def test_progress_while_loading(view: ReplicaView | None, then: Progress) -> None:
    rollout = a_rollout(Phase.LOADING)
    assert progress(rollout, "r0", view, step_for(rollout, view) if view else None)[0] is then


def test_a_version_that_is_available_but_cannot_answer_has_failed() -> None:
    view = a_view(1, 2, labels={"stable": 1}, proven=(1,))
    broken = replace(view.models[MODEL], unproven_because={2: "FAILED_PRECONDITION"})
    seen = replace(view, models={MODEL: broken})
    rollout = a_rollout(Phase.LOADING)
    assert progress(rollout, "r0", seen, step_for(rollout, seen))[0] is Progress.FAILED


def test_nobody_waits_for_a_load_that_the_server_was_told_to_give_up() -> None:
    loading = VersionStatus(2, Availability.LOADING)
    seen = a_view(1, labels={"stable": 1})
    model = seen.models[MODEL]
    view = replace(seen, models={MODEL: replace(model, versions=(*model.versions, loading))})
    wanted = compose(a_config(), LABEL, [a_rollout(Phase.ROLLING_BACK)], "r0")
    first = next_step(wanted, view, LABEL)
    after = next_step(wanted, view, LABEL, first.config)
    assert (first.due, first.settled, after.due, after.settled) == (True, False, False, True)


@pytest.mark.parametrize(
    "config",
    [
        ServerConfig(()),
        a_config(an_entry(labels={"stable": 2})),
        a_config(an_entry(platform="")),
        a_config(an_entry(versions=(9,), labels={})),
        a_config(an_entry("fraud")),
    ],
)
def test_a_config_that_could_hurt_is_never_sent(config: ServerConfig) -> None:
    with pytest.raises(invariants.InvariantBroken):
        invariants.check(config, a_view(1, labels={"stable": 1}), LABEL)


def test_the_stable_version_is_read_from_the_base_config_or_not_guessed() -> None:
    assert stable_of(an_entry()) == 1
    assert stable_of(an_entry(labels={})) == 1
    assert stable_of(an_entry(labels={}, versions=(1, 2))) is None
    assert stable_of(an_entry(labels={}, policy=Policy.LATEST)) is None


@dataclass
class Rules:
    """One server by Serving's rules: labels checked before loads, OK means accepted, restart forgets."""

    on_disk: frozenset[int] = frozenset({1, 2})
    loaded: set[int] = field(default_factory=lambda: {1})
    loading: set[int] = field(default_factory=set)
    labels: dict[str, int] = field(default_factory=lambda: {"stable": 1})
    policy: tuple[int, ...] = (1,)
    gone: set[int] = field(default_factory=set)

    def view(self) -> ReplicaView:
        statuses = [VersionStatus(v, Availability.AVAILABLE) for v in sorted(self.loaded)]
        statuses += [VersionStatus(v, Availability.LOADING) for v in sorted(self.loading)]
        statuses += [VersionStatus(v, Availability.END) for v in sorted(self.gone - self.loaded - self.loading)]
        labels = {name: v if v in self.loaded else None for name, v in self.labels.items()}
        model = ModelView(tuple(statuses), labels, max(self.loaded, default=None), frozenset(self.loaded))
        return ReplicaView("r0", 0.0, {MODEL: model})  # type: ignore[arg-type]

    def reload(self, config: ServerConfig) -> None:
        entry = config.entry(MODEL)
        assert entry is not None
        for label, version in entry.labels.items():
            assert version in self.loaded, f"refused: {label} -> {version} is not available"
        self.labels, self.policy = dict(entry.labels), entry.versions

    def tick(self) -> None:
        """One poll: start what is asked for, finish loads, then unload what is not asked for."""
        self.loaded |= self.loading
        self.loading = {v for v in self.policy if v in self.on_disk and v not in self.loaded}
        if any(v in self.loaded for v in self.policy) or not self.policy:
            self.gone |= {v for v in self.loaded if v not in self.policy}
            self.loaded -= self.gone - set(self.policy)

    def restart(self) -> None:
        self.__init__()  # type: ignore[misc]


WISHES = (
    None,
    a_rollout(Phase.LOADING),
    a_rollout(Phase.PROMOTING, promoted=("r0",)),
    a_rollout(Phase.ROLLING_BACK),
    a_rollout(Phase.HELD, held_from=Phase.SHADOWING),
)
moves = st.lists(
    st.one_of(st.sampled_from(["look", "tick", "restart", "lost"]), st.integers(0, len(WISHES) - 1)), max_size=40
)


@settings(max_examples=400, deadline=None)
@given(moves, st.integers(0, len(WISHES) - 1))
def test_whatever_happens_users_are_served_and_the_server_gets_where_it_should(
    history: list[str | int], last: int
) -> None:
    server, wish = Rules(), WISHES[0]

    def look(*, lost: bool = False) -> None:
        step = next_step(compose(a_config(), LABEL, [wish] if wish else [], "r0"), server.view(), LABEL)
        if step.due:
            invariants.check(step.config, server.view(), LABEL)
            if not lost:
                server.reload(step.config)

    for move in [*history, last, *(["look", "tick"] * 8)]:
        if isinstance(move, int):
            wish = WISHES[move]
        elif move in ("look", "lost"):
            look(lost=move == "lost")
        else:
            getattr(server, move)()
        assert server.labels.get("stable") in server.loaded, "a request for stable would have failed"
    step = next_step(compose(a_config(), LABEL, [wish] if wish else [], "r0"), server.view(), LABEL)
    assert step.settled
