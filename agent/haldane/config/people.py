"""Settings of who may do what."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyNetwork, model_validator

from haldane.config.base import Section
from haldane.domain.people import Person, Right


class ProxySection(Section):
    """The proxy before the agent that asks clients for their certificates and says whose it was."""

    addresses: Annotated[tuple[IPvAnyNetwork, ...], Field(min_length=1)]
    """Its addresses, as the agent sees them, or networks that hold nothing else: whoever calls from there may say who
    they are. From anywhere else the header is refused."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "x-client-name"
    """The header in which it gives the certificate, or its name. It must set it on every request, or take it away."""

    gives: Literal["name", "certificate"] = "name"
    """What the header holds: the certificate's subject, to be compared as it stands; or the `certificate` itself, as
    PEM (percent-encoded) or base64 of DER, so that people may be known by its alternative names, too. That needs
    `pip install "haldane[certificates]"`."""

    @property
    def whole(self) -> bool:
        """The header holds the whole certificate."""
        return self.gives == "certificate"


class PersonSection(Section):
    """Somebody, or some program, with a token or a certificate of their own. The audit log then has this name, whatever
    they call themselves."""

    name: Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=100)]
    """As it stands in the audit log."""

    token_file: Path | None = None
    """File that holds the token: 20 characters or more, of nobody else."""

    token_env: str | None = None
    """Environment variable that holds it."""

    certificate: Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=500)] | None = None
    """The name in their certificate, to the letter: its subject, such as "CN=ada,O=risk", or with `proxy.gives:
    certificate` one of its alternative names: "URI:spiffe://corp.example/ns/risk/sa/ci", "DNS:ci.corp.example",
    "email:ada@corp.example". Instead of a token; needs the top-level `proxy`."""

    rights: Annotated[tuple[Right, ...], Field(min_length=1)]
    """`start` rollouts, `announce` releases, `operate` (pause, resume, abort), `approve` what has passed, `promote` on
    their own word, `label` (hand in right answers), `hold` (keep versions from being deleted, and end that)."""

    models: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Of which models: names, or patterns such as finance/*."""

    @model_validator(mode="after")
    def _is_known_by_one(self) -> Self:
        if sum(one is not None for one in (self.token_file, self.token_env, self.certificate)) != 1:
            raise ValueError(f"{self.name} needs token_file, token_env or certificate, one of them")
        return self


def person_of(section: PersonSection) -> Person:
    """The same as the API knows it."""
    return Person(section.name, frozenset(section.rights), section.models)
