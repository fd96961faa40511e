"""Settings of gateways: where a share of users' calls is set, and by which name."""

import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from haldane.config.base import Section
from haldane.config.quantities import Duration, HttpUrl, address_of

DEFAULT_STEPS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def _socket(value: str) -> str:
    """The path of a UNIX socket, or HOST:PORT."""
    return value if Path(value).is_absolute() else address_of(value, also="an absolute path")


def _step(value: Any) -> Any:
    """ "10%" as 0.1; unlike other shares a step may be all of the traffic."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    if match is None or not 0.0 < float(match[1]) <= 100.0:
        raise ValueError(f'must be a share of the traffic above 0 and up to 100 %, such as "10%"; got {value!r}')
    return float(match[1]) / 100


def _rising(steps: tuple[float, ...]) -> tuple[float, ...]:
    if any(after <= before for before, after in pairwise(steps)):
        raise ValueError("each step must be larger than the one before")
    return steps


Steps = Annotated[tuple[Annotated[float, BeforeValidator(_step)], ...], AfterValidator(_rising)]


class GatewaySection(Section):
    """One gateway between users and servers; give haproxy or envoy. Several must all carry the same share."""

    name: Annotated[str, Field(pattern=r"^[^\s/]*$", max_length=200)] = ""
    """How it is called in status, metrics and records; `haproxy` or `envoy` when not given."""

    haproxy: Annotated[str, AfterValidator(_socket)] | None = None
    """Its runtime API (stats socket, level admin): an absolute path, or HOST:PORT."""

    backend: str = ""
    """HAProxy's backend that holds every one of `servers`, by the same names and no others."""

    envoy: HttpUrl | None = None
    """Its admin page, e.g. http://127.0.0.1:9901."""

    runtime_key: str = ""
    """The runtime_key of the runtime_fraction on Envoy's route to the canary's servers."""

    timeout: Duration = timedelta(seconds=2)
    """For each answer of it."""

    @property
    def called(self) -> str:
        return self.name or ("haproxy" if self.haproxy else "envoy")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.haproxy is None) == (self.envoy is None):
            raise ValueError("give exactly one of haproxy and envoy")
        if bool(self.backend) != (self.haproxy is not None):
            raise ValueError("haproxy and backend go together")
        if bool(self.runtime_key) != (self.envoy is not None):
            raise ValueError("envoy and runtime_key go together")
        # Both go into lines of commands, where a blank or a semicolon would begin another.
        if not re.fullmatch(r"[\w.:-]*", self.backend) or not re.fullmatch(r"[\w.:-]*", self.runtime_key):
            raise ValueError("backend and runtime_key hold letters, digits and . : _ - only")
        return self
