"""The pages a person reads: pure functions from a story to self-contained HTML."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from haldane.domain.fleet import Condition
from haldane.domain.rollout import Rollout
from haldane.judge.alerts import alert_of, runbook, summary
from haldane.web.story import AgentStatus, Story
from haldane.web.view import banner_of, long_time, utc, verdict_of, view

_LOOKS = {"page": "bad", "ticket": "wait", "info": "run"}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("haldane.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"utc": utc, "long_time": long_time}
    return made


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


def page(story: Story) -> str:
    """The report of one rollout."""
    return _render("report.html", one=view(story))


def combined(stories: Sequence[Story], *, title: str) -> str:
    """One page for several rollouts: a table of them, then a section each."""
    return _render("combined.html", title=title, views=[view(story) for story in stories])


def index_page(status: AgentStatus, rollouts: Sequence[Rollout]) -> str:
    """The fleet and its rollouts."""
    rows = [(rollout, *banner_of(rollout), verdict_of(rollout)) for rollout in rollouts]
    wrong = [_told(condition) for condition in status.conditions]
    return _render("index.html", status=status, rollouts=rows, wrong=wrong)


def _told(condition: Condition) -> dict[str, Any]:
    """A condition as its alert tells it."""
    alert, severity = alert_of(condition.name)
    return {
        "condition": condition,
        "alert": alert,
        "look": _LOOKS[severity],
        "says": summary(condition),
        "says_zh": summary(condition, "zh"),
        "runbook": runbook(condition.name),
    }


def missing_page(what: str) -> str:
    """Says that there is no such thing."""
    return _render("missing.html", what=what)
