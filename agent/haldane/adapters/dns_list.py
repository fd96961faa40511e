"""Servers from DNS: every address of a name, or every host and port of a service.

dnspython asks: the system's own look-up (getaddrinfo) knows no SRV, cannot be pointed at a server of one's own, and
does not tell "no such name" from "no answer", which decides here whether a list is empty or cannot be read.
"""

from collections.abc import Sequence
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from haldane.adapters.listing import Form
from haldane.domain.fleet import Server
from haldane.ports import Malformed, NoData, Refused, Unavailable

_SECONDS = 5.0  # for a whole look-up, retries among them


class DnsList:
    """A ServerList: the records of that kind ("A", "AAAA", "SRV") that `host` has now.

    `resolver` is (address, port) of the DNS server to ask; the system's own when None. Refused when there is none.
    """

    def __init__(self, name: str, host: str, kind: str, form: Form, *, resolver: tuple[str, int] | None = None) -> None:
        self._name, self._host, self._kind, self._form = name, host, kind, form
        try:
            self._ask = dns.asyncresolver.Resolver(configure=resolver is None)
        except dns.resolver.NoResolverConfiguration as error:
            raise Refused(name, "this machine has no DNS server configured; give resolver: HOST:PORT") from error
        if resolver is not None:
            self._ask.nameservers, self._ask.port = [resolver[0]], resolver[1]

    async def read(self) -> Sequence[Server]:
        try:
            answer = await self._ask.resolve(self._host, self._kind, lifetime=_SECONDS)
        except dns.resolver.NXDOMAIN as error:
            raise NoData(self._name, f"there is no name {self._host}") from error
        except dns.resolver.NoAnswer as error:
            raise NoData(self._name, f"{self._host} has no {self._kind} record") from error
        except dns.exception.Timeout as error:
            raise Unavailable(self._name, f"no DNS server answered within {_SECONDS:g} s") from error
        except dns.exception.DNSException as error:  # what was asked is no name, or the servers fail
            raise Unavailable(self._name, f"{type(error).__name__}: {error}") from error
        return sorted((self._server(record) for record in answer), key=lambda server: server.name)

    def _server(self, record: Any) -> Server:
        if record.rdtype != dns.rdatatype.SRV:
            return self._form.server(record.address, None)
        target = record.target.to_text(omit_final_dot=True)
        if not target or target == ".":  # RFC 2782: the service is decidedly not there
            raise NoData(self._name, f"{self._host} says that there is no such service")
        if not record.port:
            raise Malformed(self._name, f"{target} has port 0")
        return self._form.server(target, record.port)
