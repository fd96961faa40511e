"""Rollouts and rulings on our own metrics page."""

import math

from haldane.domain.evidence import Ruling, State, Verdict
from haldane.domain.fleet import ModelName
from haldane.domain.rollout import Phase, Rollout, Transition
from haldane.telemetry import Telemetry


def show_rollout(telemetry: Telemetry, rollout: Rollout) -> None:
    """The phase, when it began, and the verdict of the model's newest rollout."""
    for phase in Phase:
        telemetry.rollout.phase.labels(rollout.model, phase).set(phase is rollout.phase)
    for verdict in Verdict:
        telemetry.rollout.verdict.labels(rollout.model, verdict).set(verdict is rollout.verdict)
    telemetry.rollout.phase_started.labels(rollout.model).set(rollout.phase_since)
    if not rollout.judged:  # nobody looks any more
        telemetry.rollout.stable_failing.labels(rollout.model).set(0)
        telemetry.rollout.servers_set_aside.labels(rollout.model).set(0)


def show_transition(telemetry: Telemetry, transition: Transition) -> None:
    if transition.before.phase is Phase.PENDING:
        _forget_checks(telemetry, transition.after.model)  # of the rollout before, whose rules may have been others
    if transition.before.phase is not transition.after.phase:
        telemetry.rollout.transitions.labels(transition.after.model, transition.after.phase).inc()
    show_rollout(telemetry, transition.after)


def show_ruling(telemetry: Telemetry, rollout: Rollout, ruling: Ruling) -> None:
    """State, estimate, interval, margin and evidence per metric; NaN where there is none."""
    for finding in ruling.findings:
        check = rollout.model, finding.metric
        telemetry.check.info.labels(*check, finding.unit, finding.role).set(1)
        for state in State:
            telemetry.check.state.labels(*check, state).set(state is finding.state)
        for gauge, value in (
            (telemetry.check.estimate, finding.estimate),
            (telemetry.check.lower, finding.lower),
            (telemetry.check.upper, finding.upper),
            (telemetry.check.margin, finding.margin),
            (telemetry.check.evidence, finding.log10_harm),
        ):
            gauge.labels(*check).set(math.nan if value is None else value)
    telemetry.rollout.stable_failing.labels(rollout.model).set(ruling.stable_fails)
    telemetry.rollout.servers_set_aside.labels(rollout.model).set(len(ruling.set_aside))


def _forget_checks(telemetry: Telemetry, model: ModelName) -> None:
    for gauge in (
        telemetry.check.info,
        telemetry.check.state,
        telemetry.check.estimate,
        telemetry.check.lower,
        telemetry.check.upper,
        telemetry.check.margin,
        telemetry.check.evidence,
    ):
        gauge.remove_by_labels({"model": model})
