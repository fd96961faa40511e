"""libcurl's transfers to one server, carried on by the event loop.

Owns: when libcurl is called, and who is told that a transfer has ended. What is
transferred, and what its end means, is `serving.legs`.

pycurl has a driver of its own (`pycurl.AsyncCurlMulti`); it makes a future for
every transfer and calls libcurl for each alone, which costs half as much again
as the transfer. Here transfers that are begun in one turn of the loop go out together.

Source: libcurl's multi_socket interface (curl.se/libcurl/c/libcurl-multi.html).
"""

import asyncio
import time
from typing import Protocol

import pycurl

# Streams at once on the connection, as far as it is for us to say: the server's own limit holds.
_STREAMS = 1 << 16
_BROKEN = _CLOSED = 2  # CURLE_FAILED_INIT: libcurl cannot go on
_CLOSED_HERE = "connection closed here"


class Transfer(Protocol):
    """A handle that was set up, and who wants to know its end."""

    curl: pycurl.Curl

    def ended(self, now: float, code: int, words: str) -> None:
        """At `now` (perf_counter): wholly received where `code`, a CURLcode, is 0. Must not raise."""


class Transfers:
    """All of them go over one connection at a time; those for which it has no stream wait for one."""

    def __init__(self, *, by_name: bool, silent_seconds: float) -> None:
        """A connection is given up when for `silent_seconds` transfers have timed out, and none has ended otherwise.

        `by_name`: the server's name must be looked up.
        """
        self._by_name = by_name
        self._loop = asyncio.get_running_loop()
        self._silent_seconds = silent_seconds
        self._silent_since: float | None = None
        self._running: dict[pycurl.Curl, Transfer] = {}
        self._begun: dict[pycurl.Curl, Transfer] = {}  # libcurl has not heard of them yet
        self._turn: asyncio.Handle | None = None  # the call of libcurl at the loop's next turn
        self._timer: asyncio.TimerHandle | None = None
        self._watched: dict[int, int] = {}  # sockets: what libcurl waits for there
        self._closed = False
        self._multi = self._connection()

    def _connection(self) -> pycurl.CurlMulti:
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
        multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, _STREAMS)
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        return multi

    def start(self, transfer: Transfer) -> None:
        """It leaves with the loop's next turn; after `close` it ends there, as those did that ran."""
        if self._closed:
            self._loop.call_soon(transfer.ended, time.perf_counter(), _CLOSED, _CLOSED_HERE)
            return
        self._begun[transfer.curl] = transfer
        if self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)

    def stop(self, transfer: Transfer) -> None:
        """Nobody waits for it any more; a stream that is open is reset. `ended` is not called."""
        if self._begun.pop(transfer.curl, None) is None and self._running.pop(transfer.curl, None) is not None:
            self._multi.remove_handle(transfer.curl)

    def close(self) -> None:
        """Ends all that runs, and the connection, for good: who shares this may not know yet, and start one more."""
        self._closed = True
        self._give_up()

    def _give_up(self) -> None:
        """Ends all that runs, and the connection."""
        waiting = [*self._begun.values(), *self._running.values()]
        for transfer in waiting:
            self.stop(transfer)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._on_timer(-1)
        for fd in list(self._watched):
            self._watch(fd, 0)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, _nobody_waits)
        if self._by_name:  # which waits for a name that is being looked up, with a DNS server that is gone 10 s
            self._loop.run_in_executor(None, self._multi.close)
        else:
            self._multi.close()
        now = time.perf_counter()
        for transfer in waiting:
            transfer.ended(now, _CLOSED, _CLOSED_HERE)

    # --- what libcurl asks for --------------------------------------------------------------------------------

    def _on_timer(self, milliseconds: int) -> None:
        """It wants to be called after so long, at the next turn (0), or not (-1)."""
        if milliseconds == 0:
            if self._turn is None:
                self._turn = self._loop.call_soon(self._take_turn)
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds > 0:
            self._timer = self._loop.call_later(milliseconds / 1000, self._drive, pycurl.SOCKET_TIMEOUT, 0)

    def _on_socket(self, what: int, fd: int, *_: object) -> None:
        self._watch(fd, 0 if what == pycurl.POLL_REMOVE else what)

    def _watch(self, fd: int, wanted: int) -> None:
        had = self._watched.get(fd, 0)
        if wanted & pycurl.POLL_IN and not had & pycurl.POLL_IN:
            self._loop.add_reader(fd, self._drive, fd, pycurl.CSELECT_IN)
        elif had & pycurl.POLL_IN and not wanted & pycurl.POLL_IN:
            self._loop.remove_reader(fd)
        if wanted & pycurl.POLL_OUT and not had & pycurl.POLL_OUT:
            self._loop.add_writer(fd, self._drive, fd, pycurl.CSELECT_OUT)
        elif had & pycurl.POLL_OUT and not wanted & pycurl.POLL_OUT:
            self._loop.remove_writer(fd)
        if wanted:
            self._watched[fd] = wanted
        else:
            self._watched.pop(fd, None)

    # --- what it is told ---------------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        add = self._multi.add_handle
        for curl in self._begun:
            add(curl)
        self._running.update(self._begun)
        self._begun.clear()
        self._turn = None
        self._drive(pycurl.SOCKET_TIMEOUT, 0)

    def _drive(self, fd: int, what: int) -> None:
        try:
            self._multi.socket_action(fd, what)
        except pycurl.error as error:  # nothing else would end them
            for curl in list(self._running):
                self._end(curl, time.perf_counter(), _BROKEN, str(error))
            return
        _, whole, failed = self._multi.info_read()
        if whole or failed:
            now = time.perf_counter()
            for curl in whole:
                self._end(curl, now, 0, "")
            for curl, code, words in failed:
                self._end(curl, now, code, words)
            self._listen(now, silent=not whole and all(code == pycurl.E_OPERATION_TIMEDOUT for _, code, _ in failed))

    def _listen(self, now: float, *, silent: bool) -> None:
        if not silent:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > self._silent_seconds:
            self._silent_since = None
            self._give_up()
            self._multi = self._connection()

    def _end(self, curl: pycurl.Curl, now: float, code: int, words: str) -> None:
        self._multi.remove_handle(curl)
        self._running.pop(curl).ended(now, code, words)


def _nobody_waits(*_: object) -> None:
    """For the sockets of a connection that is being closed."""
