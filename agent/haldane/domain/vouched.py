"""What is known of a version's files: are they those that were published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from haldane.domain.release import Profile
from haldane.domain.traffic import Request


class Standing(StrEnum):
    """How a version's files compare with their manifest."""

    VERIFIED = "verified"  # every byte is as published
    UNVERIFIED = "unverified"  # it cannot be told: no manifest, or the files cannot be read from here
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Vouched:
    """The comparison, with what it rests on in words; `digest` is the SHA-256 (hex) of the manifest, "" without one."""

    standing: Standing
    why: str
    digest: str = ""
    golden: tuple[Request, ...] = ()  # each with the answer that is recorded of it
    profile: Profile | None = None  # what it took when it was validated
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what its publisher said of it; JSON values
