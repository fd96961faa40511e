"""A rollout in sentences: what happened and why, before the judge's own explanation."""

from haldane.web.story import Story


def explained(story: Story, language: str = "en") -> list[str]:
    """Why the rollout ended or stands as it does."""
    return [story.rollout.why, *story.sentences]
