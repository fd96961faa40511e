"""Who is asking, by the token they show; and what they may do.

Reading is open. Everything else takes a token: the agent's own, whose holder
may do all and is who they say, or a person's, who then goes by that name.
"""

import hashlib
from collections.abc import Iterable
from http import HTTPStatus

from starlette.requests import Request

from haldane.domain.people import Person, Right, anybody
from haldane.web.problem import Problem


class Keys:
    """Tokens and whose they are. Compared by their hash, so that the time it takes says nothing of them."""

    def __init__(self, own: str, people: Iterable[tuple[str, Person]] = ()) -> None:
        self._own = _hash(own)
        self._people = {_hash(token): person for token, person in people}

    def who(self, request: Request, says: str = "") -> Person:
        """Problem 401 without a token, 403 with one that nobody has. `says`: the name given in the request."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise Problem(HTTPStatus.UNAUTHORIZED, "this needs a token: Authorization: Bearer TOKEN")
        shown = _hash(given.strip())
        if shown == self._own:
            return anybody(says)
        if (person := self._people.get(shown)) is None:
            raise Problem(HTTPStatus.FORBIDDEN, "that is not a token of this agent")
        return person


def refusal(person: Person, right: Right, model: str) -> str:
    """Why that is denied, in a sentence."""
    rights = ", ".join(sorted(person.rights))
    of = f"; they have {rights} of {', '.join(person.models)}"
    return f"{person.name} may not: it takes the right `{right}` of {model}{of}"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
