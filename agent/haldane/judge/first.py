"""A first version: with no baseline to compare with, absolute limits on its own side decide.

Both sides of a pair then ask the one version there is; the second answer adds
nothing and is not looked at.
"""

from dataclasses import replace

from haldane.domain.evidence import Role
from haldane.domain.traffic import Batch, Status
from haldane.judge.limit import LimitRule
from haldane.judge.rules import Rules

NOTE = "no baseline: this is the model's first version, so absolute limits alone were judged"


def without_baseline(rules: Rules) -> Rules:
    """The rules of a first version: each limit must be shown to be kept; ValueError when there is none.

    Errors without a limit get the absolute part of their margin as one, as against a stable that never fails.
    """
    limits = [replace(one, role=Role.OBJECTIVE) if one.role is Role.GUARDRAIL else one for one in rules.limits]
    errors = next((rule for rule in rules.metrics if rule.name == "errors"), None)
    if errors and errors.margin.absolute and not any(one.measures == "errors" for one in limits):
        share = errors.margin.absolute
        limits.append(LimitRule(measures="errors", share=share, role=errors.role, weight=errors.weight))
    if not any(one.role is Role.OBJECTIVE for one in limits):
        raise ValueError(
            "a first version is judged on absolute limits alone, and there is none: give for example"
            ' analysis: {metrics: {errors: {limit: "1%"}, latency: {limit: {p99: 250ms}}}}'
        )
    # Of gauges those that have a limit: what is relative to stable falls away.
    gauges = tuple(replace(one, margin=0.0) for one in rules.gauges if one.limit is not None)
    return replace(rules, metrics=(), slices=(), gauges=gauges, limits=tuple(limits), late_labels=False, baseline=False)


def alone(batch: Batch) -> Batch:
    """The batch with a flawless stable, so that only canary's side speaks."""
    own = batch.copy()
    own["stable_status"], own["stable_seconds"] = int(Status.OK), 1.0
    for name in ("stable_wrong", "stable_loss", "disagrees"):
        own[name] = float("nan")
    return own
