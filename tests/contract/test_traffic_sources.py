"""Every way to read requests from a file keeps the TrafficSource contract."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from haldane import wire
from haldane.adapters.arrays import read_arrays
from haldane.adapters.replay import Replay
from haldane.adapters.tables import TableForm, read_table
from haldane.serving.madeup import REQUESTS, made_up
from haldane.serving.records import frame, read_examples, read_prediction_logs
from haldane.serving.restform import read_lines
from haldane.tensors import Signature, TensorSpec, encode
from haldane.testing.contracts.traffic_source import Supply, TrafficSourceContract

ROWS = 700  # more than one chunk of reading
SIGNATURES = {
    "serving_default": Signature("serving_default", "tensorflow/serving/predict", {"x": TensorSpec("x", 1, (-1,))}, {}),
    "classify": Signature("classify", "tensorflow/serving/classify", {"inputs": TensorSpec("inputs", 7, (-1,))}, {}),
}


class TestRestLines(TrafficSourceContract):
    @pytest.fixture
    def supply(self, tmp_path: Path) -> Supply:
        path = tmp_path / "requests.jsonl"
        path.write_text("".join(json.dumps({"instances": [float(row)]}) + "\n" for row in range(ROWS)))
        return Supply(lambda: Replay("requests", lambda: read_lines(path, SIGNATURES)), ROWS)


class TestPredictionLog(TrafficSourceContract):
    @pytest.fixture
    def supply(self, tmp_path: Path) -> Supply:
        def record(row: int) -> bytes:
            log = wire.PredictionLog()
            log.predict_log.request.model_spec.name = "credit"
            log.predict_log.request.model_spec.version_label = "stable"
            log.predict_log.request.inputs["x"].CopyFrom(encode(np.array([row], np.float32), 1))
            return frame(log.SerializeToString())

        path = tmp_path / "log.tfrecord.gz"
        path.write_bytes(gzip.compress(b"".join(record(row) for row in range(ROWS))))
        return Supply(lambda: Replay("log", lambda: read_prediction_logs(path)), ROWS)


@pytest.mark.parametrize("signature", ["serving_default", "classify"])
class TestExamples(TrafficSourceContract):
    @pytest.fixture
    def supply(self, tmp_path: Path, signature: str) -> Supply:
        def record(row: int) -> bytes:
            example = wire.Example()
            example.features.feature["x"].float_list.value.append(row)
            example.features.feature["y"].int64_list.value.append(row % 2)
            return frame(example.SerializeToString())

        path = tmp_path / "set.tfrecord"
        path.write_bytes(b"".join(record(row) for row in range(ROWS)))
        return Supply(
            lambda: Replay("set", lambda: read_examples(path, SIGNATURES, signature=signature, label="y")), ROWS
        )


class TestArrays(TrafficSourceContract):
    @pytest.fixture
    def supply(self, tmp_path: Path) -> Supply:
        path = tmp_path / "set.npz"
        np.savez(path, x=np.arange(ROWS) + 0.5, y=np.arange(ROWS) % 2)
        return Supply(lambda: Replay("set", lambda: read_arrays(path, SIGNATURES, TableForm(label="y"))), ROWS)


class TestMadeUp(TrafficSourceContract):
    @pytest.fixture
    def supply(self) -> Supply:
        return Supply(lambda: Replay("synthetic", lambda: made_up(SIGNATURES, "serving_default")), REQUESTS)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
class TestTable(TrafficSourceContract):
    @pytest.fixture
    def supply(self, tmp_path: Path, kind: str) -> Supply:
        path = tmp_path / f"set.{kind}"
        table = pa.table({"x": [float(row) + 0.5 for row in range(ROWS)], "y": [row % 2 for row in range(ROWS)]})
        parquet.write_table(table, path) if kind == "parquet" else csv.write_csv(table, path)
        return Supply(lambda: Replay("set", lambda: read_table(path, SIGNATURES, TableForm(label="y"))), ROWS)
