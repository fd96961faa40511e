"""Models without TensorFlow: y = k * x under the same lifecycle.

The `saved_model.pb` of a version directory holds JSON instead of a graph:

    {"recipe": "affine", "k": 10.0}

For fleets of many sandboxes: a process with this executor needs neither
TensorFlow's memory nor its start-up time. Belongs here: the toy recipes, how
to write them, how to run them.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from haldane import wire
from haldane.sandbox import tensors
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import Servable, StatusError

FILE = "saved_model.pb"  # so that a directory looks like any other from outside; it holds JSON
_DT_FLOAT = 1

_Signature = tuple[tuple[str, ...], dict[str, str]]  # inputs; output alias -> what is computed
_TIMES: _Signature = (("x",), {"y": "times"})
_PLUS: _Signature = (("x",), {"y": "plus"})

_SIGNATURES: dict[str, dict[str, _Signature]] = {
    "affine": {"serving_default": _TIMES},
    "two_outputs": {"serving_default": (("x",), {"y": "times", "z": "plus"})},
    "two_inputs": {"serving_default": (("a", "b"), {"y": "sum"})},
    "two_signatures": {"serving_default": _TIMES, "plus": _PLUS},
    "no_default_signature": {"plus": _PLUS},
    "no_signatures": {},
    "slow_predict": {"serving_default": _TIMES},
    "slow_load": {"serving_default": _TIMES},
    "missing_variables": {"serving_default": _TIMES},
}


def write(directory: Path, recipe: str, **settings: Any) -> None:
    """Make a toy version directory. Broken recipes (corrupt_pb, empty_dir, ...) are broken here too."""
    directory.mkdir(parents=True)
    if recipe == "empty_dir":
        return
    if recipe in ("corrupt_pb", "truncated_pb", "corrupt_variables", "junk_pb"):
        (directory / FILE).write_bytes(b"\xff" * 20)
        return
    (directory / FILE).write_text(json.dumps({"recipe": recipe, **settings}), "utf-8")


class ToyExecutor:
    """Loads toy version directories; counts load attempts as TensorFlow's runtime does.

    `prepare` is applied to every loaded servable before it is served (batching).
    """

    def __init__(self, metrics: Metrics, prepare: Callable[[Servable, str], Servable] | None = None) -> None:
        self._metrics, self._prepare = metrics, prepare

    def load(self, model: str, path: str) -> Servable:
        """StatusError NOT_FOUND without the file, DATA_LOSS when it is unreadable."""
        file = Path(path) / FILE
        if not file.exists():
            raise StatusError(
                grpc.StatusCode.NOT_FOUND,
                "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
                f"`saved_model.pb`)\nSpecified file path: {path}",
            )
        started = time.monotonic()
        status = "fail"
        try:
            servable: Servable = ToyServable(_settings(file, path))
            status = "success"
            return servable if self._prepare is None else self._prepare(servable, path)
        finally:
            self._metrics.count_load_attempt(path, status, (time.monotonic() - started) * 1e6)


def _settings(file: Path, path: str) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_bytes())
        known = settings["recipe"] in _SIGNATURES
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise StatusError(grpc.StatusCode.DATA_LOSS, f"Can't parse {path}/saved_model.pb as binary proto")
    if settings["recipe"] == "slow_load":
        time.sleep(float(settings.get("seconds", 1)))
    return dict(settings)


class ToyServable:
    """One loaded toy version."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._k = np.float32(settings.get("k", 1.0))
        self._held = [b"\1" * int(settings.get("resident_bytes", 0))]
        self.signatures: Mapping[str, Any] = {
            name: _signature(inputs, outputs) for name, (inputs, outputs) in _SIGNATURES[settings["recipe"]].items()
        }

    def run(
        self, feeds: Mapping[str, Any], fetches: Sequence[str], *, timeout_seconds: float | None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """StatusError DEADLINE_EXCEEDED when the model's own delay is longer than the time given; 0 is no limit."""
        if timeout_seconds is not None and timeout_seconds <= 0:
            timeout_seconds = None
        if self._settings["recipe"] == "missing_variables":
            raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, "Could not find variable k.")
        _work(float(self._settings.get("cpu_seconds", 0)))
        if leak := int(self._settings.get("leak_bytes", 0)):
            self._held.append(b"\1" * leak)
        delay = float(self._settings.get("delay_seconds", 0))
        if self._settings["recipe"] == "slow_predict":
            delay += float(self._settings.get("seconds", 1))
        if delay:
            time.sleep(delay if timeout_seconds is None else max(0.0, min(delay, timeout_seconds)))
        if timeout_seconds is not None and delay > timeout_seconds:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        values = {name.split(":")[0]: _floats(index, feeds[name]) for index, name in enumerate(sorted(feeds))}
        return {fetch: self._compute(fetch.split(":")[0], values) for fetch in fetches}

    def _compute(self, what: str, values: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        if what == "sum":
            a, b = values["toy_a"], values["toy_b"]
            try:
                return a + self._k * b
            except ValueError:
                text = f"Incompatible shapes: {list(a.shape)} vs. {list(b.shape)}".replace(", ", ",")
                raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, text) from None
        x = values["toy_x"]
        return x * self._k if what == "times" else x + self._k

    def unload(self) -> None:
        self._held = []


def _work(cpu_seconds: float) -> None:
    """Use so much of this thread's CPU."""
    until = time.thread_time() + cpu_seconds
    while time.thread_time() < until:
        pass


def _floats(index: int, value: tensors.Array) -> npt.NDArray[np.float32]:
    """An input as it is; StatusError in TensorFlow's words when it is not of type float."""
    number = tensors.type_number(value)
    if number != _DT_FLOAT:
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Expects arg[{index}] to be float but {tensors.TYPE_NAMES[number]} is provided",
        )
    return value


def _signature(inputs: Sequence[str], outputs: Mapping[str, str]) -> Any:
    signature = wire.SignatureDef(method_name="tensorflow/serving/predict")
    infos = [(signature.inputs[name], f"toy_{name}:0") for name in inputs]
    infos += [(signature.outputs[alias], f"{what}:0") for alias, what in outputs.items()]
    for info, name in infos:
        info.name, info.dtype = name, _DT_FLOAT
        info.tensor_shape.dim.add().size = -1
    return signature
