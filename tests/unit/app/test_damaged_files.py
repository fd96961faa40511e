"""Whatever happens to a file's bytes, a reader gives records or flaws, or says that it cannot be read."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from haldane import wire
from haldane.app.sources import each_file, read
from haldane.config import TrafficSection
from haldane.domain.traffic import Request
from haldane.files import FileSet
from haldane.ports import Malformed, PortError
from haldane.serving.records import frame
from haldane.tensors import Signature, TensorSpec, encode

SIGNATURES = {
    "serving_default": Signature("serving_default", "tensorflow/serving/predict", {"x": TensorSpec("x", 1, (-1,))}, {})
}
X, Y = np.arange(50.0), np.arange(50) % 2


def log_file(path: Path) -> None:
    log = wire.PredictionLog()
    log.predict_log.request.model_spec.name = "credit"
    log.predict_log.request.inputs["x"].CopyFrom(encode(np.array([1], np.float32), 1))
    path.write_bytes(frame(log.SerializeToString()) * 20)


def example_file(path: Path) -> None:
    example = wire.Example()
    example.features.feature["x"].float_list.value.append(1.0)
    example.features.feature["y"].int64_list.value.append(1)
    path.write_bytes(frame(example.SerializeToString()) * 20)


def lines(path: Path) -> None:
    path.write_text("".join(json.dumps({"instances": [value], "truth": 1}) + "\n" for value in X))


KINDS = [
    ("prediction_log", "log.tfrecord", log_file),
    ("examples", "set.tfrecord", example_file),
    ("rest_jsonl", "rows.jsonl", lines),
    ("labelled", "set.npz", lambda path: np.savez_compressed(path, x=X, y=Y)),
    ("labelled", "set.csv", lambda path: csv.write_csv(pa.table({"x": X, "y": Y}), path)),
    ("labelled", "set.parquet", lambda path: parquet.write_table(pa.table({"x": X, "y": Y}), path)),
]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("kind", "name", "write"), KINDS, ids=[name for _, name, _ in KINDS])
def test_damage_is_a_flaw_or_said_clearly_and_never_a_crash(tmp_path, kind, name, write, packed):
    path = tmp_path / name
    write(path)
    whole = gzip.compress(path.read_bytes()) if packed else path.read_bytes()
    label = "y" if kind in ("labelled", "examples") else None
    traffic = TrafficSection(**{kind: path}, label=label)

    def records():
        try:
            return list(each_file(FileSet(path), lambda one: read(traffic, one, "credit", SIGNATURES)))
        except PortError as error:
            return [error]

    path.write_bytes(whole)
    assert all(isinstance(one, Request) for one in records())
    chance = np.random.default_rng(7)
    hurt = 0
    for _ in range(60):
        data = bytearray(whole)
        if chance.random() < 0.3:
            data = data[: chance.integers(0, len(data))]
        for place in chance.integers(0, max(1, len(data)), 3) if data else ():
            data[place] = chance.integers(0, 256)
        path.write_bytes(data)
        found = records()
        assert all(isinstance(one, Request | Malformed | PortError) for one in found)
        hurt += any(isinstance(one, PortError) for one in found)
    assert hurt > 10
