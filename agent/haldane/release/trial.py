"""A program of its own that loads one SavedModel and runs it: `python -m haldane.release.trial`, input on stdin.

The only module of this room that imports TensorFlow. What it loads is not
trusted yet, so before that it gives away the network, writing large files, and
memory beyond its limit. It tells what happens as lines of JSON; the last one
that came says how far it got.
"""

import base64
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

_Ran = tuple[str, int]  # a signature, and which golden request; -1: made-up input
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000  # <linux/sched.h>
_ROWS = 2
_RECORDED = 16  # golden requests whose answers are kept; each replica is asked all of them before it is labelled
_LARGEST_ANSWER = 256 * 1024  # bytes
_MOST_CALLERS = 16  # more would tell of this machine, and their stacks count as the model's memory
_MOST_INPUTS = 64  # different ones that are called with under load
_LARGEST_FILE = 64 * 1024  # bytes; none at all would stop Python from finding a place for temporary files


def main() -> None:
    asked = json.load(sys.stdin)
    # Whoever waits for us kills us earlier; but that process may have been killed itself, and a graph can run for ever.
    signal.alarm(asked["alarm"])
    tell = speaker()
    limit(asked["memory"])
    if (why := leave_network()) and not asked["network"]:
        tell(step="connected", why=why)
        return
    # Only now: a thread of TensorFlow's would stay in the network that the process has left.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        tell(step="no_tensorflow", why=str(error))
        return
    if unknown := unknown_operations(asked["operations"]):
        tell(step="unknown_operations", operations=unknown)
        return
    tf.get_logger().setLevel("ERROR")
    tell(step="loading")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        session.list_devices()  # TensorFlow's own start is no part of the model's
        before, began = resident_bytes(), time.monotonic()
        graph = tf.compat.v1.saved_model.load(session, [asked["tag"]], asked["folder"])
        tell(step="loaded", seconds=time.monotonic() - began, bytes=max(0, resident_bytes() - before))
        bodies = [base64.b64decode(body) for body in asked["golden"]]
        signatures, ran = graph.signature_def, []
        for line in (*run_golden(session, signatures, bodies), *run_made_up(session, signatures)):
            tell(**line)
            ran += [(line["signature"], line["row"])] if line["step"] == "ran" else []
        if ran:
            tell(**run_many(session, signatures, bodies, ran, seconds=asked["under_load"]))
    tell(step="done")


def resident_bytes() -> int:
    """What this process has in memory now; 0 where the system does not tell (it is in Linux's proc(5), statm)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def limit(memory: int) -> None:
    """At most `memory` bytes of data (private and writable), no file of any size, no core dump."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def leave_network() -> str:
    """Moves into a network namespace without any way out; why that did not work, or ""."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        # The first needs root, the second a kernel that lets everyone make user namespaces.
        if libc.unshare(_NEW_NET) == 0 or libc.unshare(_NEW_USER | _NEW_NET) == 0:
            return ""
    except AttributeError:
        return "this system has no unshare()"
    return os.strerror(ctypes.get_errno())


def speaker() -> Callable[..., None]:
    """What tells a line. Standard output goes to standard error from here on, so that no graph can print one."""
    ours = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(**what: Any) -> None:
        print(json.dumps(what), file=ours, flush=True)

    return tell


def unknown_operations(names: list[str]) -> list[str]:
    from tensorflow.python.framework import op_def_registry

    return [name for name in names if op_def_registry.get(name) is None]


def run_golden(session: Any, signatures: Mapping[str, Any], bodies: list[bytes]) -> Iterator[dict[str, Any]]:
    """Each is a PredictRequest, which must be answered with finite numbers; the first answers are told, too."""
    from haldane import wire
    from haldane.tensors import decode

    for row, body in enumerate(bodies):
        request = wire.PredictRequest.FromString(body)
        name = request.model_spec.signature_name or "serving_default"
        given = ((key, decode(tensor)) for key, tensor in request.inputs.items())
        ran, answer = _run(session, signatures.get(name), given)
        yield {"signature": name, "row": row} | ran
        if answer is not None and row < _RECORDED:
            yield from _recorded(session, signatures[name], body, answer)


def run_made_up(session: Any, signatures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every signature once, on ordinary small numbers, in the order of their names; the answers are told, too."""
    from haldane.tensors import encode, predict_body

    for name in sorted(signatures):
        if name.startswith("__"):
            continue
        inputs = signatures[name].inputs
        ran, answer = _run(session, signatures[name], ((key, made_up(info)) for key, info in inputs.items()))
        yield {"signature": name, "row": -1} | ran
        if answer is not None:
            body = predict_body(name, {key: encode(made_up(info), info.dtype) for key, info in inputs.items()})
            yield from _recorded(session, signatures[name], body, answer)


def run_many(
    session: Any, signatures: Mapping[str, Any], bodies: list[bytes], ran: list[_Ran], *, seconds: float
) -> dict[str, Any]:
    """What has run once, by many callers at once: golden requests, or made-up input where none ran."""
    from haldane.release.underload import under_load

    chosen = [(name, row) for name, row in ran if row >= 0][:_MOST_INPUTS] or ran
    try:
        calls = [_call(session, signatures[name], bodies[row] if row >= 0 else None) for name, row in chosen]
        callers = min(_MOST_CALLERS, len(os.sched_getaffinity(0)))
        return {"step": "under_load"} | asdict(under_load(calls, callers=callers, seconds=seconds))
    except Exception as error:  # whatever the graph does with it, or no memory for another thread
        return {"step": "overloaded", "why": _first_line(error)}


def _call(session: Any, signature: Any, body: bytes | None) -> Callable[[], object]:
    """Runs the signature on that PredictRequest, None: on made-up input."""
    from haldane import wire
    from haldane.tensors import decode

    if body is None:
        arrays = {key: made_up(info) for key, info in signature.inputs.items()}
    else:
        arrays = {key: decode(tensor) for key, tensor in wire.PredictRequest.FromString(body).inputs.items()}
    feeds = {signature.inputs[key].name: value for key, value in arrays.items()}
    return partial(session.run, [info.name for info in signature.outputs.values()], feeds)


def _recorded(session: Any, signature: Any, body: bytes, answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A request with its answer, if that is small and the same a second time: a model may draw at random."""
    from haldane import wire
    from haldane.tensors import UnsupportedType, decode, difference, encode

    def response(outputs: Mapping[str, Any]) -> bytes:
        made = wire.PredictResponse()
        for key, value in outputs.items():
            made.outputs[key].CopyFrom(encode(_array(value), signature.outputs[key].dtype))
        return bytes(made.SerializeToString(deterministic=True))

    try:
        first = response(answer)
        inputs = wire.PredictRequest.FromString(body).inputs
        began = time.monotonic()
        _, again = _run(session, signature, ((key, decode(tensor)) for key, tensor in inputs.items()))
        yield {"step": "again", "seconds": time.monotonic() - began}  # the first run also sets the graph up
        if len(first) > _LARGEST_ANSWER or again is None or difference(first, response(again)):
            return
    except UnsupportedType:
        return
    yield {"step": "recorded", "request": _text(body), "answer": _text(first)}


def _array(value: Any) -> Any:
    """As `tensors` holds it: bfloat16 in its upper half, a scalar string as an array."""
    import numpy as np

    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def made_up(info: Any) -> Any:
    """An array for an input of that type and shape: 2 where the first size is free, 1 where another is."""
    import numpy as np
    import tensorflow as tf

    sizes = [] if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]
    shape = [size if size >= 0 else (1 if axis else _ROWS) for axis, size in enumerate(sizes)]
    kind = tf.dtypes.as_dtype(info.dtype)
    if kind == tf.string:
        return np.full(shape, b"", object)
    # Neither 0 nor large: an index of 1 is in every table, and no ordinary model divides by 0.5 or 1.
    return np.full(shape, 0.5 if kind.is_floating else 1, kind.as_numpy_dtype)


def _run(
    session: Any, signature: Any, given: Iterable[tuple[str, Any]]
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """What came of one run, the step and why, or the outputs that are not finite; and the answer, when it is fine."""
    import numpy as np
    import tensorflow as tf

    if signature is None:
        return {"step": "failed", "why": "there is no such signature"}, None
    try:
        arrays = dict(given)
        if unknown := sorted(set(arrays) - set(signature.inputs)):
            raise ValueError(f"there is no input {', '.join(unknown)}")
        feeds = {signature.inputs[key].name: value for key, value in arrays.items()}
        answer = session.run({key: info.name for key, info in signature.outputs.items()}, feeds)
    except (tf.errors.ResourceExhaustedError, MemoryError):
        return {"step": "exhausted"}, None
    except Exception as error:  # whatever the graph does with it
        return {"step": "failed", "why": _first_line(error)}, None
    bad = [key for key, value in answer.items() if value.dtype.kind in "fc" and not np.isfinite(value).all()]
    return {"step": "not_finite" if bad else "ran", "outputs": sorted(bad)}, None if bad else answer


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


if __name__ == "__main__":
    main()
