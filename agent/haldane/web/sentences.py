"""A rollout in sentences: where it stands and why, then the judge's own explanation."""

from haldane.domain.rollout import Phase
from haldane.judge.explain import explain
from haldane.judge.rules import Rules
from haldane.web.story import Story

_STANDS = {
    Phase.PENDING: "waits to begin",
    Phase.LOADING: "is being loaded",
    Phase.SHADOWING: "is on trial: shadow pairs are sent and judged; users still get version {old}",
    Phase.PROMOTING: "is being promoted, server by server",
    Phase.BAKING: "is stable on every server; harm is still watched for",
    Phase.HELD: "is held until a person resumes, promotes or aborts it",
    Phase.ROLLING_BACK: "is being withdrawn",
    Phase.SUCCEEDED: "was promoted",
    Phase.ROLLED_BACK: "was withdrawn; version {old} is stable",
    Phase.STUCK: "could not be withdrawn everywhere: a person is needed",
}


def standing(story: Story) -> str:
    """Where the rollout stands, in one sentence."""
    rollout = story.rollout
    return f"Version {rollout.new} of {rollout.model} {_STANDS[rollout.phase].format(old=rollout.old)}."


def explained(story: Story, language: str = "en") -> list[str]:
    """Why the rollout ended or stands as it does; the first two sentences are the machine's own, in English."""
    told = [standing(story), story.rollout.why]
    if not story.rulings:
        return [*told, "没有数据：尚未进行任何判定。" if language == "zh" else "No data: nothing was judged."]
    return [*told, *explain(story.rulings[-1], Rules.from_json(story.rollout.analysis), language)]
