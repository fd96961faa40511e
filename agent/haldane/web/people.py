"""Who is asking, by the token they show or the certificate a proxy saw; and what they may do.

Reading is open. Everything else takes a token: the agent's own, whose holder
may do all and is who they say, or a person's, who then goes by that name. Or it
comes through a proxy with mutual TLS, which says in a header whose certificate
it saw: the agent speaks no TLS itself, and ASGI tells no application of one.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.requests import Request

from haldane.domain.people import Person, Right, anybody
from haldane.web.problem import Stranger


@dataclass(frozen=True, slots=True)
class Certified:
    """People by a name in their certificate, the header that has it, and from where that is believed.

    `names`: those that a header's value gives; ValueError when it cannot be read.
    """

    people: Mapping[str, Person]
    header: str
    addresses: tuple[IPv4Network | IPv6Network, ...]
    names: Callable[[str], Sequence[str]] = lambda value: (value,)

    def who(self, request: Request) -> Person | None:
        """Whose certificate the proxy saw; None without one. Problem 403 for a name that nobody has, or not from it."""
        values = request.headers.getlist(self.header)
        if not values:
            return None
        if not self._believed(request):
            why = f"{self.header} is believed from the proxy alone, which this is not"
            raise Stranger(HTTPStatus.FORBIDDEN, why, "not the proxy")
        if "origin" in request.headers:  # a browser shows its certificate to whatever page makes it call us
            why = "no page has anything to order here; use the command line"
            raise Stranger(HTTPStatus.FORBIDDEN, why, "a page")
        if len(values) > 1:
            raise _no_certificate(f"nobody here has the certificate {', '.join(values)!r:.200}")
        try:
            names = self.names(values[0])
        except ValueError:
            raise _no_certificate(f"{self.header} holds no certificate that can be read") from None
        found = {self.people[name].name: self.people[name] for name in names if name in self.people}
        if len(found) > 1:
            raise _no_certificate(f"the certificate is that of {' and of '.join(found)}")
        if not found:
            raise _no_certificate(f"nobody here has the certificate {', '.join(names)!r:.500}")
        return next(iter(found.values()))

    def _believed(self, request: Request) -> bool:
        if request.client is None:
            return False
        address = ip_address(request.client.host)
        if isinstance(address, IPv6Address) and address.ipv4_mapped:  # a socket on [::] sees IPv4 like that
            address = address.ipv4_mapped
        return any(address in network for network in self.addresses)


def _no_certificate(why: str) -> Stranger:
    return Stranger(HTTPStatus.FORBIDDEN, why, "unknown certificate")


class Keys:
    """Tokens and whose they are. Compared by their hash, so that the time it takes says nothing of them.

    `refused` is told of every call by nobody who may: its address, method and path, and why.
    """

    def __init__(
        self,
        own: str,
        people: Iterable[tuple[str, Person]] = (),
        *,
        certified: Certified | None = None,
        refused: Callable[[str, str, str], None] = lambda address, path, reason: None,
    ) -> None:
        self._own = _hash(own)
        self._people = {_hash(token): person for token, person in people}
        self._certified = certified
        self._refused = refused

    def who(self, request: Request, says: str = "") -> Person:
        """Problem 401 without a token, 403 with one that nobody has. `says`: the name given in the request."""
        try:
            return self._who(request, says)
        except Stranger as stranger:
            address = request.client.host if request.client else "unknown"
            self._refused(address, f"{request.method} {_path(request)}", stranger.reason)
            raise

    def _who(self, request: Request, says: str) -> Person:
        certified = self._certified.who(request) if self._certified else None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            if certified is not None:
                return certified
            why = "this needs a token: Authorization: Bearer TOKEN"
            raise Stranger(HTTPStatus.UNAUTHORIZED, why, "no token")
        shown = _hash(given.strip())
        if shown == self._own:
            return anybody(says)
        if (person := self._people.get(shown)) is None:
            raise Stranger(HTTPStatus.FORBIDDEN, "that is not a token of this agent", "unknown token")
        return person


def refusal(person: Person, right: Right, model: str) -> str:
    """Why that is denied, in a sentence."""
    rights = ", ".join(sorted(person.rights))
    of = f"; they have {rights} of {', '.join(person.models)}"
    return f"{person.name} may not: it takes the right `{right}` of {model}{of}"


def _path(request: Request) -> str:
    """As the route has it, {rollout} for whatever the caller put there: so there are a few only."""
    given = {value: f"{{{name}}}" for name, value in request.path_params.items()}
    return "/".join(given.get(part, part) for part in request.url.path.split("/"))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
