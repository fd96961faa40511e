"""Time limits and pace of a rollout, as the file gives them."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from haldane.config.base import Section
from haldane.config.gateways import DEFAULT_STEPS, Steps
from haldane.config.quantities import Duration, DurationOrZero
from haldane.domain.rollout import Plan


class PlanSection(Section):
    """Time limits and pace of a rollout."""

    load: Duration = timedelta(minutes=10)
    """For the new version to be loaded and to answer on every server."""

    bake: DurationOrZero = timedelta(minutes=5)
    """How long harm is still watched for after the last server was promoted, with the old version kept loaded."""

    change: Duration = timedelta(minutes=2)
    """For a server to settle after a label was moved or a rollback sent."""

    at_once: Annotated[int, Field(ge=1)] = 1
    """Servers promoted at the same time."""

    approvals: Annotated[int, Field(ge=0, le=10)] = 0
    """How many `people` must approve what has passed before it is promoted; who started the rollout does not count."""

    traffic_steps: Steps | None = None
    """Shares of users' calls that gateways send to the canary's servers (placement: own_replicas) after a PASS, one
    after the other, before any other server is changed. ["1%", "5%", "10%", "25%", "50%", "100%"] where `gateways` are
    given; [] for no steps."""

    step: Duration = timedelta(minutes=2)
    """Least time at each step."""

    step_pairs: Annotated[int, Field(ge=1)] = 200
    """Least pairs judged at each step."""

    step_budget: Duration = timedelta(minutes=30)
    """How long to wait at a step for its evidence; then the rollout is held."""

    def plan(self) -> Plan:
        """The same as the rollout keeps it."""
        return Plan(
            load_seconds=self.load.total_seconds(),
            bake_seconds=self.bake.total_seconds(),
            change_seconds=self.change.total_seconds(),
            at_once=self.at_once,
            approvals=self.approvals,
            traffic_steps=DEFAULT_STEPS if self.traffic_steps is None else self.traffic_steps,
            step_seconds=self.step.total_seconds(),
            step_pairs=self.step_pairs,
            step_budget_seconds=self.step_budget.total_seconds(),
        )
