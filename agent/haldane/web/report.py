"""The pages a person reads: pure functions from a story to self-contained HTML."""

import html
from collections.abc import Sequence

from haldane.domain.rollout import Rollout
from haldane.web.story import AgentStatus, Story


def page(story: Story) -> str:
    """The report of one rollout."""
    return f"<!doctype html><title>{html.escape(story.rollout.id)}</title>"


def index_page(status: AgentStatus, rollouts: Sequence[Rollout]) -> str:
    """The fleet and its rollouts."""
    return "<!doctype html><title>Haldane</title>"


def missing_page(what: str) -> str:
    """Says that there is no such thing."""
    return f"<!doctype html><title>Not found</title><p>{html.escape(what)}"


def combined(stories: Sequence[Story], *, title: str) -> str:
    """One page for several rollouts: a table of them, then a section each."""
    return "".join(page(story) for story in stories)
