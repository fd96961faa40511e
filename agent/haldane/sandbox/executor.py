"""The TensorFlow executor: loads SavedModels and runs their signatures.

Loads as TF Serving does (same checks, same runtime, same texts). Leaves the
lifecycle, retries included, to `manager`, and requests to `inference`.

Source: servables/tensorflow/saved_model_bundle_factory.cc and
saved_model_bundle_source_adapter.cc, core/simple_loader.h.
"""

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from haldane import wire
from haldane.sandbox import tensorflow_c, tensors
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import Servable, StatusError

_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_TIMEOUT_FIELD = b"\x10"  # RunOptions.timeout_in_ms
_MetaGraphDef = wire.message("tensorflow.MetaGraphDef")


def preload() -> None:
    """Loads the runtime without starting a thread, so that the caller may fork afterwards."""
    tensorflow_c.library()


class SessionServable:
    """One loaded SavedModel: a session and the signatures of its meta graph."""

    def __init__(self, session: int, graph: int, signatures: Mapping[str, Any], metrics: Metrics | None) -> None:
        self._lib = tensorflow_c.library()
        self._session, self._graph, self._metrics = session, graph, metrics
        self.signatures = signatures
        self._outputs: dict[str, tensorflow_c.Output] = {}

    def run(
        self, feeds: Mapping[str, Any], fetches: Sequence[str], *, timeout_seconds: float | None
    ) -> dict[str, tensors.Array]:
        """Run the session once; StatusError with the runtime's code and text."""
        lib = self._lib
        names = sorted(feeds)
        inputs = (tensorflow_c.Output * len(names))(*[self._output(name) for name in names])
        outputs = (tensorflow_c.Output * len(fetches))(*[self._output(name) for name in fetches])
        results = (ctypes.c_void_p * len(fetches))()
        values = (ctypes.c_void_p * len(names))(*[tensorflow_c.to_tensor(lib, feeds[name]) for name in names])
        options = self._options(timeout_seconds)
        status = lib.NewStatus()
        started = time.perf_counter()
        try:
            lib.SessionRun(
                self._session,
                options,
                inputs,
                values,
                len(names),
                outputs,
                results,
                len(fetches),
                None,
                0,
                None,
                status,
            )
            if self._metrics is not None:
                self._metrics.count_session_run((time.perf_counter() - started) * 1e6)
            tensorflow_c.check(lib, status)
            return {name: tensorflow_c.from_tensor(lib, results[i] or 0) for i, name in enumerate(fetches)}
        finally:
            lib.DeleteStatus(status)
            if options is not None:
                lib.DeleteBuffer(options)
            for tensor in (*values, *results):
                if tensor:
                    lib.DeleteTensor(tensor)

    def unload(self) -> None:
        """Frees the session; nobody may run it any more."""
        lib, status = self._lib, self._lib.NewStatus()
        lib.CloseSession(self._session, status)
        lib.DeleteSession(self._session, status)
        lib.DeleteGraph(self._graph)
        lib.DeleteStatus(status)

    def _options(self, timeout_seconds: float | None) -> Any:
        if timeout_seconds is None or timeout_seconds <= 0:
            return None
        data = _TIMEOUT_FIELD + tensors.varint(min(int(timeout_seconds * 1000), 2**62))
        return self._lib.NewBufferFromString(data, len(data))

    def _output(self, name: str) -> tensorflow_c.Output:
        found = self._outputs.get(name)
        if found is None:
            found = self._outputs[name] = self._look_up(name)
        return found

    def _look_up(self, name: str) -> tensorflow_c.Output:
        """The graph's output of that name; refusals as the session would word them."""
        lib = self._lib
        operation, _, index = name.partition(":")
        number = int(index) if index.isdigit() else 0
        pointer = lib.GraphOperationByName(self._graph, operation.encode())
        if not pointer:
            raise StatusError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Tensor {operation}:{number}, specified in either feed_devices or fetch_devices was not found in "
                "the Graph",
            )
        outputs = lib.OperationNumOutputs(pointer)
        if number >= outputs:
            kind = lib.OperationOpType(pointer).decode()
            raise StatusError(
                grpc.StatusCode.OUT_OF_RANGE,
                f"Node '{operation}' (type: '{kind}', num of outputs: {outputs}) does not have output {number}",
            )
        return tensorflow_c.Output(pointer, number)


class TensorFlowExecutor:
    """Loads version directories into sessions.

    `prepare` is applied to every loaded servable before it is served (batching
    wraps it there); `warm_up(servable, path)` then replays its warm-up file and
    raises StatusError to fail the load.
    """

    def __init__(
        self,
        *,
        metrics: Metrics | None = None,
        tags: Sequence[str] = ("serve",),
        session_config: bytes = b"",
        prepare: Callable[[Servable, str], Servable] | None = None,
        warm_up: Callable[[Servable, str], None] | None = None,
    ) -> None:
        self._metrics, self._tags, self._session_config = metrics, tuple(tags), session_config
        self._prepare, self._warm_up = prepare, warm_up

    def load(self, model: str, path: str) -> Servable:
        """Load one version directory, warm-up included; StatusError with the code and text Serving gives."""
        if not any((Path(path) / name).exists() for name in _MODEL_FILES):
            raise StatusError(
                grpc.StatusCode.NOT_FOUND,
                "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
                f"`saved_model.pb`)\nSpecified file path: {path}",
            )
        servable: Servable = self._load_counted(path)
        try:
            if self._prepare is not None:
                servable = self._prepare(servable, path)
            if self._warm_up is not None:
                self._warm_up(servable, path)
        except BaseException:
            servable.unload()
            raise
        return servable

    def _load_counted(self, path: str) -> SessionServable:
        started, outcome = time.perf_counter(), "fail"
        try:
            servable = self._load_session(path)
            outcome = "success"
            return servable
        finally:
            if self._metrics is not None:
                self._metrics.count_load_attempt(path, outcome, (time.perf_counter() - started) * 1e6)

    def _load_session(self, path: str) -> SessionServable:
        lib = tensorflow_c.library()
        status, graph, meta = lib.NewStatus(), lib.NewGraph(), lib.NewBuffer()
        options = lib.NewSessionOptions()
        tags = (ctypes.c_char_p * len(self._tags))(*[tag.encode() for tag in self._tags])
        session = None
        try:
            if self._session_config:
                lib.SetConfig(options, self._session_config, len(self._session_config), status)
                tensorflow_c.check(lib, status)
            session = lib.LoadSessionFromSavedModel(
                options, None, str(path).encode(), tags, len(self._tags), graph, meta, status
            )
            tensorflow_c.check(lib, status)
            data = ctypes.string_at(meta.contents.data, meta.contents.length)
            return SessionServable(session, graph, _signatures(data), self._metrics)
        finally:
            if not session:
                lib.DeleteGraph(graph)
            lib.DeleteSessionOptions(options)
            lib.DeleteBuffer(meta)
            lib.DeleteStatus(status)


def _signatures(meta_graph: bytes) -> dict[str, Any]:
    """The signatures of a serialized MetaGraphDef, copied out so that the graph itself can be freed."""
    parsed = _MetaGraphDef.FromString(meta_graph).signature_def
    return {name: wire.SignatureDef.FromString(signature.SerializeToString()) for name, signature in parsed.items()}
