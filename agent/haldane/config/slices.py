"""Settings of slices: which requests are also judged by themselves, and how."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from haldane.config.base import Section
from haldane.config.quantities import Share
from haldane.domain.evidence import Role
from haldane.judge.margin import Margin, parse_margin
from haldane.judge.rules import METRICS, MetricRule, Slice
from haldane.judge.slices import SLICED, SliceRule, as_text


def _values(given: Any) -> Any:
    """Text as it is, numbers as text; YAML reads a bare NO or yes as true or false, which nobody means."""
    found = []
    for value in given if isinstance(given, list | tuple) else [given]:
        if isinstance(value, bool):
            raise ValueError(f"{value!r}: YAML reads a bare yes, no, on, off, true or false so; put it in quotes")
        text = as_text(value)
        if not text:
            raise ValueError(f"must be texts or numbers such as [DE, FR], got {value!r:.60}")
        found.append(text)
    return found


def _margin_forms(given: Any) -> Any:
    """`off` (which YAML reads as false) leaves the metric out of the slice; a bare number lacks its unit."""
    if not isinstance(given, dict):
        return given
    margins = {name: "off" if value is False else value for name, value in given.items()}
    return {name: str(value) if isinstance(value, int | float) else value for name, value in margins.items()}


class SliceSection(Section):
    """Requests that are also judged by themselves. The short form `country=DE` stands for {field: country, values:
    [DE]}."""

    field: Annotated[str, Field(min_length=1)]
    """A field of the request: a column of a table, a feature of an Example, an input with one value, or a key of
    "fields" in a line of rest_jsonl."""

    values: Annotated[tuple[str, ...], BeforeValidator(_values), Field(min_length=1)]
    """Each is a slice of its own."""

    share: Share | None = None
    """What each value has of all requests, such as "5%", rather too much than too little. Forecasts rest on it, and
    latency is judged in blocks so much shorter."""

    role: Role = Role.GUARDRAIL
    """What its metrics may do. An `objective` must be shown harmless in each of these slices before a promotion."""

    metrics: Annotated[dict[str, str], BeforeValidator(_margin_forms)] = Field(default_factory=dict)
    """Margins by metric, where they differ from the metric's own, or `off`. By default a slice is judged on errors,
    accuracy and loss, as far as these can roll back; any other metric is judged in it when it is given a margin."""

    @field_validator("metrics")
    @classmethod
    def _margins(cls, given: dict[str, str]) -> dict[str, str]:
        for name, margin in given.items():
            if name not in METRICS:
                raise ValueError(f"unknown metric {name!r}; known are {', '.join(METRICS)}")
            if margin != "off":
                parse_margin(margin, name)
        return given

    def rules(self, metrics: tuple[MetricRule, ...]) -> list[SliceRule]:
        """One per value, as the judge takes it."""
        margins: dict[str, Margin | None] = {
            rule.name: None for rule in metrics if rule.name in SLICED and rule.role.rolls_back
        }
        for name, margin in self.metrics.items():
            if margin == "off":
                margins.pop(name, None)
            else:
                margins[name] = parse_margin(margin, name)
        named = (Slice(field=self.field, value=value) for value in self.values)
        return [SliceRule(slice=one, role=self.role, margins=margins, share=self.share or 1.0) for one in named]


def slice_forms(given: Any) -> Any:
    """A list of blocks, or of texts such as "country=DE"."""
    if not isinstance(given, list | tuple):
        raise ValueError(f"must be a list such as [country=DE], got {given!r:.60}")
    return [_slice_form(one) for one in given]


def _slice_form(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    field, equals, value = given.partition("=")
    if not (field.strip() and equals and value.strip()):
        raise ValueError(f'{given!r} names no field and value; write for example "country=DE"')
    return {"field": field.strip(), "values": [value.strip()]}
