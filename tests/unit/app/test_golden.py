"""A golden set from file to requests: all of it or a mistake with file and line."""

from pathlib import Path
from typing import Any

import pytest

from haldane.app.golden import Golden, GoldenFirst, open_golden
from haldane.config import ModelSection
from haldane.domain.fleet import ModelName
from haldane.domain.traffic import GOLDEN_ROW, Api, Request
from haldane.ports import Refused
from haldane.serving.records import frame
from haldane.tensors import Signature, TensorSpec
from haldane.wire import Example

FLOAT = 1
X = {"x": TensorSpec("x", FLOAT, (-1,))}
SIGNATURES = {"serving_default": Signature("serving_default", "tensorflow/serving/predict", X, {})}
CREDIT = ModelName("credit")


def section(golden: object, **traffic: Any) -> ModelSection:
    given = {"rest_jsonl": "/rows.jsonl", **traffic}
    return ModelSection.model_validate({"clients": "label", "traffic": given, "golden": golden})


async def opened(golden: object, **traffic: Any) -> list[Request]:
    found = await open_golden(CREDIT, section(golden, **traffic), SIGNATURES)
    assert found is not None
    requests = list(found.read())
    assert len(requests) == found.length
    return requests


async def test_rows_are_golden_by_their_number_and_have_ids_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("x,bad\n0.5,1\n0.25,0\n")
    requests = await opened({"path": str(tmp_path / "g.csv"), "label": "bad"})
    assert [request.truth for request in requests] == [1.0, 0.0]
    assert [request.row for request in requests] == [GOLDEN_ROW, GOLDEN_ROW + 1]
    assert [request.id for request in requests] == ["golden:g.csv#0", "golden:g.csv#1"]
    assert all(request.golden for request in requests)
    assert not Request("a", Api.PREDICT, b"", row=10**9).golden


async def test_a_folder_is_read_file_by_file_and_numbered_on(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("x,bad\n0.5,1\n")
    (tmp_path / "a.jsonl").write_text('{"instances": [0.5], "truth": 0}\n{"instances": [0.5], "truth": "2"}\n')
    example = Example()
    example.features.feature["x"].float_list.value.append(0.5)
    example.features.feature["bad"].int64_list.value.append(3)
    (tmp_path / "c.tfrecord").write_bytes(frame(example.SerializeToString()))
    (tmp_path / "README.md").write_text("what this is")
    requests = await opened(str(tmp_path), label="bad", labelled="/rows.csv")
    assert [request.truth for request in requests] == [0, "2", 1.0, 3.0]
    assert [request.row - GOLDEN_ROW for request in requests] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("g.csv", "x,bad\n0.5,1\n0.5,\n", "g.csv, line 3: label 'bad' is missing or NaN"),
        ("g.csv", "x,worse\n0.5,1\n", "g.csv: no label column 'bad'"),
        ("g.csv", "y,bad\n0.5,1\n", "g.csv: no input column 'x'"),
        ("g.csv", "x,bad\n", "holds no row"),
        ("g.jsonl", '{"instances": [0.5], "truth": 0}\n\n{"instances": [0.5]}\n', "g.jsonl:3: has no right answer"),
        ("g.jsonl", '{"instances": [0.5], "truth": 0}\nnonsense\n', "g.jsonl:2: not JSON"),
        ("g.tfrecord", "torn", "g.tfrecord"),
        ("g.parquet", "torn", "g.parquet: not a readable table"),
    ],
)
async def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Refused) as refused:
        await opened({"path": str(tmp_path / name), "label": "bad"})
    assert says in str(refused.value)
    assert str(tmp_path) in str(refused.value)


async def test_a_model_without_a_golden_set_has_none() -> None:
    assert await open_golden(CREDIT, section(None), SIGNATURES) is None


async def test_golden_rows_come_before_traffic_each_once_and_not_again() -> None:
    class Traffic:
        async def requests(self):  # type: ignore[no-untyped-def]
            for row in (0, 1, 0):
                yield Request(f"t{row}", Api.PREDICT, b"", row)

    rows = [Request(f"g{i}", Api.PREDICT, b"", GOLDEN_ROW + i) for i in range(600)]
    golden = Golden("g", 600, lambda: iter(rows))
    first = [request.id async for request in GoldenFirst(golden, Traffic(), set()).requests()]
    assert first == [*(f"g{i}" for i in range(600)), "t0", "t1", "t0"]
    judged = {0, *(GOLDEN_ROW + i for i in range(599))}
    again = [request.id async for request in GoldenFirst(golden, Traffic(), judged).requests()]
    assert again == ["g599", "t0", "t1", "t0"]


async def test_rows_that_nobody_answered_are_given_once_more() -> None:
    class Traffic:
        async def requests(self):  # type: ignore[no-untyped-def]
            for row in range(3000):
                yield Request(f"t{row}", Api.PREDICT, b"", row)

    rows = [Request(f"g{i}", Api.PREDICT, b"", GOLDEN_ROW + i) for i in range(3)]
    judged: set[int] = set()
    seen = []
    async for request in GoldenFirst(Golden("g", 3, lambda: iter(rows)), Traffic(), judged).requests():
        seen.append(request.id)
        if request.id != "g1" or len(seen) > 3:
            judged.add(request.row)
    assert [(at, one) for at, one in enumerate(seen) if one.startswith("g")] == [
        (0, "g0"),
        (1, "g1"),
        (2, "g2"),
        (1003, "g1"),
    ]
