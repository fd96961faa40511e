"""Faults on request: what a rehearsal can make go wrong with one sandbox.

A fault is a JSON object posted to the admin endpoint (see docs/sandbox.md).
Belongs here: which faults exist and what they do to loads, answers and reloads.
The HTTP side is `admin`.
"""

import math
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from haldane.sandbox.servable import Executor, Servable, StatusError
from haldane.sandbox.storage import version_number

ANSWERS = ("delay", "fail", "corrupt")
KINDS = (*ANSWERS, "slow_load", "reload", "drop_connections", "crash")
_GRACE_SECONDS = 0.1  # for the answer to the request that asks for a crash
_WAYS = ("nan", "zero", "scale", "reverse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, from its posting until it is deleted."""

    kind: str
    model: str | None = None  # None: every model
    version: int | None = None  # None: every version
    seconds: float = 0.0
    factor: float = 1.0
    share: float = 1.0  # of answers, 0 to 1
    code: str = "INTERNAL"
    message: str = "fault on request"
    how: str = ""

    def touches(self, kind: str, model: str, version: int | None) -> bool:
        return self.kind == kind and self.model in (None, model) and self.version in (None, version)


def read(fields: Mapping[str, Any]) -> Fault:
    """A Fault from its JSON object; ValueError that names the field which is wrong."""
    known = set(Fault.__dataclass_fields__)
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if fields.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    fault = Fault(**{**_defaults(fields["kind"]), **fields})
    _check_types(fault)
    if fault.code not in grpc.StatusCode.__members__:
        raise ValueError(f"code must be a gRPC status code's name, got {fault.code!r}")
    if not 0 <= fault.share <= 1:
        raise ValueError("share must lie between 0 and 1")
    if fault.seconds < 0 or fault.factor < 0:
        raise ValueError("seconds and factor must not be negative")
    allowed = {"corrupt": _WAYS, "reload": ("refuse", "hang"), "crash": ("SIGKILL", "SIGABRT", "SIGSEGV")}
    if fault.how not in allowed.get(fault.kind, (fault.how,)):
        raise ValueError(f"how must be one of {', '.join(allowed[fault.kind])}")
    return fault


def _check_types(fault: Fault) -> None:
    for name in ("seconds", "factor", "share"):
        value = getattr(fault, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a number")
    for name in ("code", "message", "how"):
        if not isinstance(getattr(fault, name), str):
            raise ValueError(f"{name} must be a string")
    if fault.version is not None and (isinstance(fault.version, bool) or not isinstance(fault.version, int)):
        raise ValueError("version must be an integer")
    if fault.model is not None and not isinstance(fault.model, str):
        raise ValueError("model must be a string")


def _defaults(kind: str) -> dict[str, Any]:
    how = {"corrupt": "nan", "reload": "refuse", "crash": "SIGKILL"}.get(kind, "")
    return {"how": how, **({"code": "UNAVAILABLE"} if kind == "reload" else {})}


class Faults:
    """The faults in force, by number; safe from any thread."""

    def __init__(self, port: int = 0, seed: int | None = None) -> None:
        self._changed = threading.Condition()
        self._active: dict[int, Fault] = {}
        self._next = 1
        self._port = port
        self._random = random.Random(seed)

    # -- administration
    def add(self, fault: Fault) -> int:
        """Put a fault in force; its number. A crash or a drop without duration happens now and leaves no entry."""
        if fault.kind == "crash":
            threading.Timer(max(fault.seconds, _GRACE_SECONDS), _crash, [fault.how]).start()
            return 0
        with self._changed:
            number, self._next = self._next, self._next + 1
            if fault.kind != "drop_connections":
                self._active[number] = fault
        if fault.kind == "drop_connections":
            drop_connections(self._port)
            if fault.seconds:
                threading.Thread(target=self._keep_dropping, args=(fault.seconds,), daemon=True).start()
        return number

    def remove(self, number: int | None) -> bool:
        """End one fault, or all with None; whether there was one. Hanging reloads go on."""
        with self._changed:
            found = bool(self._active) if number is None else number in self._active
            if number is None:
                self._active.clear()
            else:
                self._active.pop(number, None)
            self._changed.notify_all()
        return found

    def listing(self) -> list[dict[str, Any]]:
        """Every fault in force, as JSON objects with their numbers."""
        with self._changed:
            return [{"id": number, **asdict(fault)} for number, fault in sorted(self._active.items())]

    def _keep_dropping(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            drop_connections(self._port)
            time.sleep(0.05)

    # -- what goes wrong
    def _touching(self, kind: str, model: str, version: int | None) -> Iterator[Fault]:
        with self._changed:
            active = list(self._active.values())
            chances = [self._random.random() for _ in active]
        for fault, chance in zip(active, chances, strict=True):
            if fault.touches(kind, model, version) and chance < fault.share:
                yield fault

    def before_load(self, model: str, version: int | None) -> None:
        """Take as long as the slow_load faults say."""
        for fault in self._touching("slow_load", model, version):
            time.sleep(fault.seconds)

    def on_reload(self) -> None:
        """StatusError when reloads are refused; returns late, or when the fault is deleted, when they hang."""
        for number, fault in list(self._active.items()):
            if fault.kind != "reload":
                continue
            if fault.how == "refuse":
                raise StatusError(grpc.StatusCode[fault.code], fault.message)
            with self._changed:
                self._wait_until_removed(number, fault.seconds or None)

    def _wait_until_removed(self, number: int, seconds: float | None) -> None:
        self._changed.wait_for(lambda: number not in self._active, seconds)

    def run(self, servable: Servable, model: str, version: int | None, *arguments: Any, **options: Any) -> Any:
        """Run a servable's graph with whatever is wrong with that version's answers."""
        for fault in self._touching("fail", model, version):
            raise StatusError(grpc.StatusCode[fault.code], fault.message)
        started = time.monotonic()
        outputs = servable.run(*arguments, **options)
        took = time.monotonic() - started
        for fault in self._touching("delay", model, version):
            time.sleep(fault.seconds + took * max(0.0, fault.factor - 1))
        for fault in self._touching("corrupt", model, version):
            outputs = {name: _corrupted(value, fault) for name, value in outputs.items()}
        return outputs


def _corrupted(value: Any, fault: Fault) -> Any:
    array = np.asarray(value)
    if fault.how == "reverse":
        return np.ascontiguousarray(array[::-1]) if array.ndim else array
    if array.dtype.kind not in "fiu":
        return np.zeros_like(array) if array.dtype.kind in "bc" else array
    if fault.how == "scale":
        return (array * fault.factor).astype(array.dtype)
    if fault.how == "nan" and array.dtype.kind == "f":
        return np.full_like(array, np.nan)
    return np.zeros_like(array)


def _crash(how: str) -> None:
    os.kill(os.getpid(), getattr(signal, how))


def drop_connections(port: int) -> int:
    """Reset every TCP connection to a local port of this process; how many. Linux only."""
    dropped = 0
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                if connection.getsockname()[1] == port and connection.getpeername():
                    connection.shutdown(socket.SHUT_RDWR)
                    dropped += 1
        except (OSError, IndexError, TypeError, ValueError):
            continue  # gone meanwhile, not connected, or a unix socket
    return dropped


class FaultyExecutor:
    """An executor whose loads and answers suffer the faults in force."""

    def __init__(self, executor: Executor, faults: Faults) -> None:
        self._executor, self._faults = executor, faults

    def load(self, model: str, path: str) -> Servable:
        version = version_number(Path(path).name)
        self._faults.before_load(model, version)
        return _FaultyServable(self._executor.load(model, path), self._faults, model, version)


class _FaultyServable:
    def __init__(self, servable: Servable, faults: Faults, model: str, version: int | None) -> None:
        self._servable, self._faults, self._model, self._version = servable, faults, model, version
        self.signatures: Mapping[str, Any] = servable.signatures

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str], *, timeout_seconds: float | None) -> dict[str, Any]:
        result: dict[str, Any] = self._faults.run(
            self._servable, self._model, self._version, feeds, fetches, timeout_seconds=timeout_seconds
        )
        return result

    def unload(self) -> None:
        self._servable.unload()
