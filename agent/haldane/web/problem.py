"""Why an answer of the API is not 2xx."""

from http import HTTPStatus


class Problem(Exception):
    """Status and one sentence."""

    def __init__(self, status: HTTPStatus, error: str) -> None:
        super().__init__(error)
        self.status = status


class Stranger(Problem):
    """Whoever calls is nobody that may; `reason` says so in a few fixed words, for the record."""

    def __init__(self, status: HTTPStatus, error: str, reason: str) -> None:
        super().__init__(status, error)
        self.reason = reason


class Unknown(LookupError):
    """No such rollout or model; the message names it and what there is instead."""
