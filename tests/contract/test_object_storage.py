"""What is read from object storage: S3 against moto, Google's against fake-gcs-server."""

import gzip
from collections.abc import Collection, Iterator

import numpy as np
import pytest
from tests import fakegcs, moto

from haldane import wire
from haldane.adapters.storage import listing
from haldane.app.sources import open_source
from haldane.config import ModelSection
from haldane.domain.fleet import ModelName
from haldane.files import FileSet
from haldane.ports import Unavailable
from haldane.release.storage import open_storage
from haldane.serving.records import frame
from haldane.tensors import encode


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with moto.bucket("traffic") as url:
        yield url


def log_of(*values: float) -> bytes:
    data = b""
    for value in values:
        log = wire.PredictionLog()
        log.predict_log.request.model_spec.name = "credit"
        log.predict_log.request.inputs["x"].CopyFrom(encode(np.array([value], np.float32), 1))
        data += frame(log.SerializeToString())
    return data


async def test_logs_in_a_bucket_are_one_set_packed_or_not(bucket: str) -> None:
    import s3fs

    files = s3fs.S3FileSystem()
    files.pipe_file("traffic/logs/2.tfrecord", log_of(3.0))
    files.pipe_file("traffic/logs/1.tfrecord", gzip.compress(log_of(1.0, 2.0)))
    files.pipe_file("traffic/logs/notes.txt", b"no log")
    section = ModelSection.model_validate(
        {"clients": "label", "traffic": {"prediction_log": f"{bucket}/logs/*.tfrecord"}}
    )
    source = await open_source(ModelName("credit"), section, 1, [])
    assert source is not None
    taken = []
    async for request in source.requests():
        taken.append((request.row, request.id))
        if len(taken) == 4:
            break
    assert taken == [(0, "1.tfrecord#0"), (1, "1.tfrecord#1"), (2, "2.tfrecord#0"), (0, "1.tfrecord#0")]


def test_a_bucket_that_is_not_there_is_unavailable(bucket: str) -> None:
    with pytest.raises(Unavailable, match=r"a\.tfrecord: cannot be fetched"):
        FileSet("s3://nowhere/a.tfrecord").paths()
    with pytest.raises(Unavailable, match=r"\*\.nothing: no file matches"):
        FileSet(f"{bucket}/*.nothing").paths()


def test_a_base_path_in_a_bucket_is_listed_anew_each_time(bucket: str) -> None:
    import s3fs

    files = s3fs.S3FileSystem()
    files.pipe_file("traffic/models/m/1/saved_model.pb", b"x")
    files.pipe_file("traffic/models/m/2/variables/variables.index", b"xx")

    def newest(versions: Collection[int]) -> set[int]:
        return {max(versions)}

    assert listing(f"{bucket}/models/m", newest) == {1: None, 2: {"variables/variables.index": 2}}
    files.pipe_file("traffic/models/m/2/saved_model.pb", b"xxx")
    assert listing(f"{bucket}/models/m", newest) == {1: None, 2: {"variables/variables.index": 2, "saved_model.pb": 3}}
    assert listing(f"{bucket}/models/nothing", newest) is None
    assert listing("s3://nowhere-at-all/m", newest) is None


def test_googles_storage_is_read_and_listed_as_s3_is() -> None:
    with fakegcs.bucket("traffic") as bucket:
        kept = open_storage(bucket)
        kept.write("logs/1.tfrecord", log_of(1.0))
        kept.write("logs/notes.txt", b"no log")
        logs = FileSet(f"{bucket}/logs/*.tfrecord")
        (path,) = logs.paths()
        assert path.read_bytes() == log_of(1.0)
        with pytest.raises(Unavailable, match="no file matches"):
            FileSet(f"{bucket}/*.nothing").paths()
        kept.write("models/m/1/saved_model.pb", b"x")
        assert listing(f"{bucket}/models/m", set) == {1: {"saved_model.pb": 1}}
        kept.write("models/m/2/saved_model.pb", b"xx")
        assert listing(f"{bucket}/models/m", lambda _: {2}) == {1: None, 2: {"saved_model.pb": 2}}
        assert listing(f"{bucket}/models/nothing", set) is None
