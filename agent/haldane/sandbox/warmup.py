"""Warm-up: replays the requests a model brings along, before it serves.

Owns the TFRecord file `assets.extra/tf_serving_warmup_requests`; the requests
run through the same code as live ones. Any failing record fails the load.

Source: servables/tensorflow/saved_model_warmup.cc, saved_model_warmup_util.cc;
tensorflow/core/lib/io/record_reader.cc.
"""

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
from google.protobuf.message import DecodeError

from haldane import wire
from haldane.sandbox.inference import Runner
from haldane.sandbox.servable import Servable, StatusError

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8


def masked_crc(data: bytes) -> int:
    """TFRecord's checksum: CRC32C, rotated and offset."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _data_loss(text: str) -> StatusError:
    return StatusError(grpc.StatusCode.DATA_LOSS, text)


def records(data: bytes) -> Iterator[bytes]:
    """The payloads of a TFRecord file; StatusError DATA_LOSS at a bad frame.

    Left-overs too short for a header count as the end, as in TensorFlow.
    """
    at = 0
    while len(data) - at >= _HEADER.size:
        length, crc = _HEADER.unpack_from(data, at)
        if crc != masked_crc(data[at : at + 8]):
            hint = " (Is this even a TFRecord file?)" if at == 0 else ""
            raise _data_loss(f"corrupted record at {at}{hint}")
        start = at + _HEADER.size
        end = start + length
        if end + _FOOTER.size > len(data):
            raise _data_loss(f"truncated record at {at}' failed with Read less bytes than requested")
        payload = data[start:end]
        if _FOOTER.unpack_from(data, end)[0] != masked_crc(payload):
            raise _data_loss(f"corrupted record at {start}")
        yield payload
        at = end + _FOOTER.size


class WarmUp:
    """Replays a version's warm-up file on its servable, each record `iterations` times."""

    def __init__(self, runner: Runner, *, iterations: int = 1) -> None:
        self._runner, self._iterations = runner, max(1, iterations)

    def __call__(self, servable: Servable, path: str) -> None:
        """Nothing when there is no file; StatusError to fail the load."""
        file = Path(path) / FILE
        if not file.exists():
            return
        started = time.perf_counter()
        count, failure = self._replay(servable, file)
        if self._runner.metrics is not None:
            status = f"{failure.code.name}: {failure.message}" if failure else "OK"
            micros = (time.perf_counter() - started) * 1e6
            self._runner.metrics.observe_warmup(path, status, count, micros)
        if failure is not None:
            raise _data_loss(failure.message + ". Please verify your warmup data is in TFRecord format.")

    def _replay(self, servable: Servable, file: Path) -> tuple[int, StatusError | None]:
        """How many records ran, and a bad frame; any other failure is raised before anything is counted."""
        count = 0
        source = records(file.read_bytes())
        while True:
            try:
                payload = next(source, None)
            except StatusError as failure:
                return count, failure
            if payload is None:
                return count, None
            log = _parsed(payload, file)
            for _ in range(self._iterations):
                self._run(servable, log)
            count += 1
            if count > MAX_RECORDS:
                raise StatusError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}",
                )

    def _run(self, servable: Servable, log: Any) -> None:
        kind = log.WhichOneof("log_type")
        if kind is None:
            return
        runner = self._runner
        calls: dict[str, Callable[[Servable, Any, int | None, float | None], Any]] = {
            "predict_log": runner.predict,
            "classify_log": runner.classify,
            "regress_log": runner.regress,
            "multi_inference_log": runner.multi_inference,
        }
        call = calls.get(kind)
        if call is None:
            number = log.DESCRIPTOR.fields_by_name[kind].number
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
        call(servable, getattr(log, kind).request, None, None)


def _parsed(payload: bytes, file: Path) -> Any:
    try:
        return wire.PredictionLog.FromString(payload)
    except DecodeError:
        text = payload.decode("utf-8", "replace")
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT, f"Failed to parse warmup record: {text} from {file}"
        ) from None
