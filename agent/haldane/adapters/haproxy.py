"""Shares of traffic through HAProxy's runtime API: server weights, set and read back.

Owns: turning a share into whole weights and weights seen into a share. One
backend holds the canary servers and the others. Source: HAProxy management
guide, section 9.3 ("set server", "show servers state", "show stat").
"""

import asyncio
import csv
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from haldane.ports import Malformed, Refused, Unavailable

MOST_WEIGHT = 256
FULL_WEIGHT = 100  # of each canary server when it alone takes the calls: only ratios count
TOLERANCE = 0.1  # of the share: whole weights reach 1 % of three servers as 1.01 %, say
_MOST_BYTES = 8 << 20  # a backend of 4095 servers takes about 1 MB
_RUNNING = 2  # srv_op_state; 0 stopped, 1 starting (its weight still grows), 3 stopping
_OUT = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20  # srv_admin_state: in maintenance or drained, for whatever reason
# Algorithms that take a weight at run time; the others hash or count with a table made at the start.
_DYNAMIC = ("roundrobin", "leastconn", "random")


@dataclass(frozen=True, slots=True)
class Weight:
    """One server of the backend as it was seen."""

    now: int
    configured: int
    takes_calls: bool


class HAProxy:
    """A Router over one backend.

    `socket`: a path, or HOST:PORT. `servers`: those of the fleet now, by the
    names they have there too, each with whether it is a canary server.
    """

    def __init__(
        self,
        socket: str,
        backend: str,
        *,
        servers: Callable[[], Mapping[str, bool]],
        name: str = "haproxy",
        timeout_seconds: float = 2.0,
    ) -> None:
        self._socket, self._backend = socket, backend
        self._servers = servers
        self._name, self._timeout = name, timeout_seconds

    async def share(self) -> float:
        """The part of the calls that the canary servers get now, 0 to 1, over servers that take calls.

        Unavailable: no answer, or no server of the backend takes calls.
        Malformed: not this API. Refused: no such backend, or one that sends
        calls to servers we know nothing of.
        """
        seen = await self._look()
        self._check_known({name for name, one in seen.items() if one.takes_calls and one.now})
        live = {name: one.now for name, one in seen.items() if one.takes_calls}
        total = sum(live.values())
        if not total:
            raise Unavailable(self._name, f"no server of backend {self._backend} takes calls")
        return sum(live[name] for name in self._canary & live.keys()) / total

    @property
    def _canary(self) -> frozenset[str]:
        return frozenset(name for name, canary in self._servers().items() if canary)

    def _check_known(self, names: Collection[str]) -> None:
        if strange := sorted(set(names) - self._servers().keys()):
            says = f"backend {self._backend} has server {strange[0]}, which is not among our servers"
            raise Refused(self._name, says)

    async def set_share(self, share: float) -> None:
        """Give every server the weight for that share. It proves nothing: read it back.

        Refused: a share that whole weights do not reach, or HAProxy says no.
        """
        seen = await self._look()
        await self._set(self._weights(share, seen))

    async def check(self, shares: Sequence[float]) -> None:
        """Refused when one of these shares could not be set, now or later; no call goes another way for it."""
        seen = await self._look()
        here = f"backend {self._backend}"
        if missing := sorted(self._servers().keys() - seen.keys()):
            raise Refused(self._name, f"{here} has no server {missing[0]}; it has {', '.join(sorted(seen))}")
        self._check_known(seen)
        algorithm = await self._algorithm()
        if algorithm not in _DYNAMIC:
            raise Refused(self._name, f"{here}: balance {algorithm} takes no weights at run time; use roundrobin")
        for share in shares:
            self._weights(share, seen)
        await self._set({name: seen[name].now for name in self._canary})  # as they are: may we set weights at all?

    def _weights(self, share: float, seen: Mapping[str, Weight]) -> dict[str, int]:
        ours = self._canary
        canary = [name for name in seen if name in ours]
        configured = {name: one.configured for name, one in seen.items() if name not in ours}
        try:
            return weights(share, canary, configured)
        except ValueError as error:
            raise Refused(self._name, f"backend {self._backend}: {error}") from None

    async def _set(self, wanted: Mapping[str, int]) -> None:
        """In one line, so that the old weights hold until all new ones are there; those that fall to 0 first."""
        order = sorted(wanted, key=lambda name: (wanted[name] > 0, name))
        said = await self._ask("; ".join(f"set server {self._backend}/{name} weight {wanted[name]}" for name in order))
        if complaint := " ".join(said.split()):  # silence is consent
            raise Refused(self._name, complaint)

    async def _look(self) -> dict[str, Weight]:
        lines = (await self._ask(f"show servers state {self._backend}")).splitlines()
        if lines and "find backend" in lines[0]:
            raise Refused(self._name, f"it has no backend {self._backend}")
        if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):
            raise Malformed(self._name, "not an answer of the runtime API; is the socket right?")
        columns = lines[1][2:].split()
        rows = [dict(zip(columns, line.split(), strict=False)) for line in lines[2:] if line.strip()]
        try:
            return {row["srv_name"]: _weight(row) for row in rows}
        except (KeyError, ValueError) as error:
            raise Malformed(self._name, f"show servers state: {error}") from error

    async def _algorithm(self) -> str:
        table = await self._ask(f"show stat {self._backend} 2 -1")  # 2: the backend's own line
        rows = list(csv.DictReader(io.StringIO(table.removeprefix("# "))))
        found = [row.get("algo") or "" for row in rows if row.get("svname") == "BACKEND"]
        if not found:
            raise Malformed(self._name, f"show stat {self._backend}: no line of the backend")
        return found[0]

    async def _ask(self, command: str) -> str:
        """Everything it says to one line of commands; it closes the connection then."""
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await self._connect()
                try:
                    writer.write(f"{command}\n".encode())
                    await writer.drain()
                    return await self._read(reader)
                finally:
                    writer.close()
        except TimeoutError as error:
            raise Unavailable(self._name, f"no answer within {self._timeout:g} s") from error
        except OSError as error:
            raise Unavailable(self._name, error.strerror or type(error).__name__) from error

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._socket.startswith("/"):
            return await asyncio.open_unix_connection(self._socket)
        host, _, port = self._socket.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port))

    async def _read(self, reader: asyncio.StreamReader) -> str:
        answer = bytearray()
        while chunk := await reader.read(1 << 16):
            answer += chunk
            if len(answer) > _MOST_BYTES:
                raise Malformed(self._name, "the answer is far too long")
        if not answer:  # a command without an answer ends in an empty line
            raise Unavailable(self._name, "it closed the connection without an answer")
        return answer.decode(errors="replace")


def _weight(row: Mapping[str, str]) -> Weight:
    takes = int(row["srv_op_state"]) == _RUNNING and not int(row["srv_admin_state"]) & _OUT
    return Weight(int(row["srv_uweight"]), int(row["srv_iweight"]), takes)


def weights(share: float, canary: Sequence[str], configured: Mapping[str, int]) -> dict[str, int]:
    """The whole weights, 0 to 256, that give the canary servers that share of the calls.

    `configured`: the weights of the other servers at rest, whose ratios are kept.
    ValueError when the share is not reached to within a tenth of itself.
    """
    if share <= 0:
        return {**dict.fromkeys(canary, 0), **configured}
    if share >= 1:
        return {**dict.fromkeys(canary, FULL_WEIGHT), **dict.fromkeys(configured, 0)}
    total = sum(configured.values())
    best: tuple[float, dict[str, int]] | None = None
    for weight in range(MOST_WEIGHT, 0, -1) if total and canary else ():
        scale = weight * len(canary) * (1 - share) / (share * total)
        others = {name: round(one * scale) for name, one in configured.items()}
        if any((one > 0) != (configured[name] > 0) or one > MOST_WEIGHT for name, one in others.items()):
            continue
        ours = weight * len(canary)
        error = abs(ours / (ours + sum(others.values())) - share)
        if best is None or error < best[0]:
            best = error, {**dict.fromkeys(canary, weight), **others}
    if best is None or best[0] > TOLERANCE * share:
        raise ValueError(
            f"whole weights up to {MOST_WEIGHT} do not give {share:.2%} to {len(canary)} of"
            f" {len(canary) + len(configured)} servers; leave that step out"
        )
    return best[1]
