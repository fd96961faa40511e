"""Settings of who may do what."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from haldane.config.base import Section
from haldane.domain.people import Person, Right


class PersonSection(Section):
    """Somebody, or some program, with a token of their own. The audit log then has this name, whatever they call
    themselves."""

    name: Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=100)]
    """As it stands in the audit log."""

    token_file: Path | None = None
    """File that holds the token: 20 characters or more, of nobody else."""

    token_env: str | None = None
    """Environment variable that holds it."""

    rights: Annotated[tuple[Right, ...], Field(min_length=1)]
    """`start` rollouts, `announce` releases, `operate` (pause, resume, abort), `approve` what has passed, `promote` on
    their own word, `label` (hand in right answers), `hold` (keep versions from being deleted, and end that)."""

    models: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Of which models: names, or patterns such as finance/*."""

    @model_validator(mode="after")
    def _has_one_token(self) -> Self:
        if (self.token_file is None) == (self.token_env is None):
            raise ValueError(f"{self.name} needs token_file or token_env, one of them")
        return self


def person_of(section: PersonSection) -> Person:
    """The same as the API knows it."""
    return Person(section.name, frozenset(section.rights), section.models)
