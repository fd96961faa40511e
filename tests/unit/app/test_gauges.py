import math
from dataclasses import replace

from prometheus_client import CollectorRegistry

from haldane.app.gauges import show_rollout, show_ruling, show_transition
from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.domain.rollout import Phase, Transition
from haldane.telemetry import Telemetry
from haldane.testing.builders import a_rollout


def shown():
    registry = CollectorRegistry()
    return Telemetry.on(registry), lambda name, **labels: registry.get_sample_value(name, labels)


def test_exactly_one_phase_and_one_verdict_of_a_model_hold():
    telemetry, value = shown()
    show_rollout(telemetry, a_rollout(Phase.SHADOWING))
    show_rollout(telemetry, a_rollout(Phase.HELD, phase_since=5.0, verdict=Verdict.INCONCLUSIVE))
    phases = {phase for phase in Phase if value("haldane_rollout_phase", model="credit", phase=phase)}
    verdicts = {one for one in Verdict if value("haldane_verdict", model="credit", verdict=one)}
    assert (phases, verdicts) == ({Phase.HELD}, {Verdict.INCONCLUSIVE})


def test_only_a_change_of_phase_counts_as_a_transition():
    telemetry, value = shown()
    before, after = a_rollout(Phase.SHADOWING), a_rollout(Phase.PROMOTING)
    show_transition(telemetry, Transition(before, after, ""))
    show_transition(telemetry, Transition(after, a_rollout(Phase.PROMOTING, promoted=("r0",)), ""))
    assert value("haldane_rollout_transitions_total", model="credit", phase="PROMOTING") == 1


def test_a_number_that_is_not_known_is_shown_as_none_not_as_zero():
    telemetry, _ = shown()
    finding = Finding(
        metric="errors", role=Role.OBJECTIVE, state=State.NO_DATA, unit="share", pairs=0, margin=0.01, log10_harm=0.5
    )
    ruling = Ruling(verdict=Verdict.CONTINUE, findings=(finding,), pairs=0, seconds=0.0, log10_harm=0.0, why="")
    show_ruling(telemetry, a_rollout(), ruling)
    samples = {
        sample.name: sample.value
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.labels == {"model": "credit", "metric": "errors"}
    }
    assert len(samples) == 5  # the numbers; state and unit have more labels
    assert sum(math.isnan(value) for value in samples.values()) == 3
    assert {value for value in samples.values() if not math.isnan(value)} == {0.01, 0.5}


def test_a_sick_stable_is_shown_until_it_is_well_or_nobody_looks_any_more():
    telemetry, value = shown()
    ruling = Ruling(verdict=Verdict.CONTINUE, findings=(), pairs=0, seconds=0.0, log10_harm=0.0, why="")

    def sick():
        return [value(f"haldane_{name}", model="credit") for name in ("stable_failing", "servers_set_aside")]

    show_ruling(telemetry, a_rollout(), replace(ruling, stable_fails=True, set_aside=("r1",)))
    assert sick() == [1, 1]
    show_rollout(telemetry, a_rollout(Phase.SHADOWING))
    assert sick() == [1, 1]
    show_ruling(telemetry, a_rollout(), ruling)
    assert sick() == [0, 0]
    show_ruling(telemetry, a_rollout(), replace(ruling, stable_fails=True))
    show_rollout(telemetry, a_rollout(Phase.HELD))
    assert sick() == [0, 0]


def test_what_the_evidence_says_is_one_of_a_closed_set_and_gone_when_the_next_rollout_begins():
    telemetry, value = shown()
    finding = Finding(metric="heap", role=Role.GUARDRAIL, state=State.HARMFUL, unit="bytes", pairs=0, margin=5e6)
    ruling = Ruling(verdict=Verdict.FAIL, findings=(finding,), pairs=0, seconds=0.0, log10_harm=3.0, why="")
    check = {"model": "credit", "metric": "heap"}

    def says():
        return {state for state in State if value("haldane_check_state", **check, state=state)}

    show_ruling(telemetry, a_rollout(), ruling)
    assert says() == {State.HARMFUL}
    assert value("haldane_check_info", **check, unit="bytes", role="guardrail") == 1
    show_ruling(telemetry, a_rollout(), replace(ruling, findings=(replace(finding, state=State.UNDECIDED),)))
    assert says() == {State.UNDECIDED}
    show_transition(telemetry, Transition(a_rollout(Phase.PENDING), a_rollout(Phase.LOADING), ""))
    assert [name for name in _names(telemetry) if name.startswith("haldane_check")] == []


def _names(telemetry):
    return {sample.name for family in telemetry.registry.collect() for sample in family.samples}
