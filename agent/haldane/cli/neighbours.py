"""`check config --online`, beyond the servers: topics, boot configs, the model registry. Looks only."""

from collections.abc import Iterator

from haldane.adapters.kafka import open_feed
from haldane.adapters.registry import open_registry
from haldane.app.boot import open_sink
from haldane.app.sources import topic_terms
from haldane.config import Config
from haldane.config.boot import BootSection
from haldane.config.traffic import BrokersSection, LabelTopicSection
from haldane.domain.fleet import ModelName
from haldane.ports import PortError
from haldane.rollout.wanted import stable_of
from haldane.serving.modelconfig import parse_leniently

Finding = tuple[bool, str]  # fine or not, and a sentence


async def neighbours(config: Config) -> list[Finding]:
    """What was found of each; the topic of a model's traffic is asked for with its traffic."""
    found = [await _topic(what, section) for what, section in _topics(config)]
    found += [await _boots_with(section, config) for section in config.boot_configs]
    if config.mlflow is not None:
        token = config.mlflow_token.get_secret_value() if config.mlflow_token else None
        seconds = config.mlflow.timeout.total_seconds()
        async with open_registry(config.mlflow.url, token=token, timeout_seconds=seconds) as registry:
            for name, model in config.models.items():
                if model.registered is None:
                    continue
                try:
                    aliases = await registry.aliases(model.registered)
                except PortError as error:
                    found.append((False, f"{name}: registered as {model.registered}: {error}"))
                    continue
                told = ", ".join(f"{alias} is {version}" for alias, version in sorted(aliases.items()))
                found.append((True, f"{name}: registered as {model.registered}, {told or 'without an alias'}"))
    return found


async def _boots_with(section: BootSection, config: Config) -> Finding:
    """Whether it can be read, and says of each model which version users get."""
    try:
        listed = parse_leniently(await open_sink(section).read(), source=section.title)
    except PortError as error:
        return False, f"boot_configs: {error}"
    except ValueError as error:  # no model config
        return False, f"boot_configs: {error}"
    entries = {name: listed.entry(ModelName(name)) for name in config.models}
    if lost := [name for name, entry in entries.items() if entry is None]:
        return False, f"boot_configs: {section.title}: it does not have {', '.join(lost)}"
    stable = {name: stable_of(entry) for name, entry in entries.items() if entry is not None}
    if open_ := [name for name, version in stable.items() if version is None]:
        return (
            False,
            f"boot_configs: {section.title}: it does not say which one version users get of {', '.join(open_)}",
        )
    return True, f"boot_configs: {section.title}: {', '.join(f'{name} {at}' for name, at in stable.items())}"


def _topics(config: Config) -> Iterator[tuple[str, BrokersSection]]:
    for name, model in config.models.items():
        if model.releases is not None and model.releases.kafka is not None:
            yield f"{name}: releases", model.releases.kafka
        if model.labels is not None and model.labels.kafka is not None:
            yield f"{name}: labels", model.labels.kafka
    if config.notices_topic is not None:
        yield "notices", config.notices_topic


async def _topic(what: str, section: BrokersSection) -> Finding:
    """Whether it is there; nothing is read, and no place in it is moved."""
    asked = LabelTopicSection(brokers=section.brokers, topic=section.topic, settings_file=section.settings_file)
    try:
        async with open_feed(topic_terms(asked, "haldane-check")):
            return True, f"{what}: topic {section.topic} is there"
    except PortError as error:
        return False, f"{what}: {error}"
