"""A model config file changed in place: which versions and labels a model has, and not a letter else.

Comments, the order of models, other teams' models and fields we do not know stay as they were written. What comes out
is read again before it is handed on: it says what was asked for, and of everything else what it said before.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from google.protobuf import text_format

from haldane import wire
from haldane.domain.fleet import ModelEntry, ServerConfig
from haldane.serving import configtext, modelconfig
from haldane.serving.configtext import Field

_Edit = tuple[int, int, str]  # text[start:end] becomes that
_REST_OF_LINE = re.compile(r"[ \t]*[,;]?[ \t]*(#[^\n]*)?(?=\n|$)")


def edited(text: str, models: Iterable[ModelEntry], *, source: str = "model config") -> str:
    """The text with the policy and labels of these models; the same text when it says so already.

    ConfigTextError when it cannot be read, lacks one of the models, has it at another base path or twice, or is
    written in a way that cannot be changed safely.
    """
    before = modelconfig.parse_leniently(text, source=source)
    places = configtext.entries(text)
    edits: list[_Edit] = []
    for wanted in models:
        at = [index for index, entry in enumerate(before.models) if entry.name == wanted.name]
        if len(at) != 1:
            times = "does not have it" if not at else f"lists it {len(at)} times"
            raise modelconfig.ConfigTextError(f"{source}: model {wanted.name}: the file {times}")
        now, place = before.models[at[0]], places[at[0]]
        if now.base_path.rstrip("/") != wanted.base_path.rstrip("/"):
            says = f"its base_path is {now.base_path} here, and {wanted.base_path} in the agent's config"
            line = place.line_of("base_path")
            raise modelconfig.ConfigTextError(f"{source}:{line}: model {wanted.name}: {says}")
        edits += _edits(text, place, now, wanted)
    for start, end, words in sorted(edits, reverse=True):
        text = text[:start] + words + text[end:]
    _check(before, models, text, source)
    return text


def _edits(text: str, place: Field, now: ModelEntry, wanted: ModelEntry) -> Iterator[_Edit]:
    kept = [one for one in place.all("version_labels") if _key(one) in wanted.labels]
    policy = place.first("model_version_policy")
    fresh = []
    if (now.policy, now.versions) != (wanted.policy, wanted.versions):
        if policy is None:
            fresh.append(_words(wanted, policy=True))
        else:
            yield policy.start, policy.end, _words(wanted, policy=True)
    for one in place.all("version_labels"):
        key = _key(one)
        if one not in kept:
            yield *_whole_line(text, one), ""
        elif now.labels[key] != wanted.labels[key]:
            yield one.start, one.end, _words(wanted, label=key)
    written = {_key(one) for one in kept}
    fresh += [_words(wanted, label=label) for label in wanted.labels if label not in written]
    if fresh:
        anchor = max([*kept, *([policy] if policy else [])] or place.fields, key=lambda field: field.end)
        yield _insert(text, place, anchor, fresh)


def _key(label: Field) -> str:
    key = label.first("key")
    return key.value if key else ""


def _words(wanted: ModelEntry, *, policy: bool = False, label: str | None = None) -> str:
    """One field as text."""
    proto = wire.ModelConfig()
    if policy:
        proto.model_version_policy.specific.versions.extend(wanted.versions)
    if label is not None:
        proto.version_labels[label] = wanted.labels[label]
    return str(text_format.MessageToString(proto, as_one_line=True, descriptor_pool=wire.POOL)).strip()


def _whole_line(text: str, field: Field) -> tuple[int, int]:
    """The field, and with it its line where nothing else stands on it; a comment is something else."""
    start = text.rfind("\n", 0, field.start) + 1
    rest = _REST_OF_LINE.match(text, field.end)
    if text[start : field.start].strip() or rest is None or rest[1]:
        return field.start, field.end
    return start, min(rest.end() + 1, len(text))


def _insert(text: str, place: Field, anchor: Field, words: list[str]) -> _Edit:
    """After a field: on lines of their own, unless the whole model stands on one."""
    if "\n" not in text[place.start : place.end]:
        return anchor.end, anchor.end, "".join(f" {one}" for one in words)
    line = text.rfind("\n", 0, anchor.start) + 1
    indent = text[line : anchor.start] if not text[line : anchor.start].strip() else "    "
    rest = _REST_OF_LINE.match(text, anchor.end)
    at = rest.end() if rest else anchor.end
    return at, at, "".join(f"\n{indent}{one}" for one in words)


def _check(before: ServerConfig, models: Iterable[ModelEntry], text: str, source: str) -> None:
    expected = before
    for wanted in models:
        now = before.entry(wanted.name)
        assert now is not None
        expected = expected.with_entry(replace(now.serving(wanted.versions, wanted.labels), num_versions=1))
    try:
        same = modelconfig.parse_leniently(text) == expected
    except modelconfig.ConfigTextError:
        same = False
    if not same:
        raise modelconfig.ConfigTextError(f"{source}: it is written in a way that cannot be changed safely")
