"""Settings of releases that start by themselves, because they were announced."""

from datetime import timedelta

from haldane.config.base import Section
from haldane.config.quantities import Duration
from haldane.config.traffic import LabelTopicSection
from haldane.domain.release import Newer


class ReleaseTopicSection(LabelTopicSection):
    """A Kafka topic of CloudEvents of type haldane.release.published."""

    dead_letters: str | None = None
    """Topic that messages go to which cannot be read; without it they are logged and counted only."""


class ReleasesSection(Section):
    """Releases of this model that start a rollout by themselves. POST /v1/events announces one; so may the storage,
    and a topic."""

    watch: bool = False
    """Start a rollout for a new version in the model's base path, once it is complete and two listings (list_every)
    found the same. Only where this process can read the path."""

    kafka: ReleaseTopicSection | None = None
    """A topic that announces them."""

    newer: Newer = Newer.QUEUE
    """When another version is on trial: `queue` waits for its end, `supersede` aborts it unless it has begun to
    promote, `refuse` puts the refusal on record."""

    patience: Duration = timedelta(minutes=30)
    """How long to try again when a rollout cannot start (a server is away, the files are not complete)."""
