import math

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from haldane import wire
from haldane.adapters.tables import TableForm, read_table
from haldane.domain.traffic import Request
from haldane.ports import Malformed, Unavailable
from haldane.tensors import Signature, TensorSpec, decode

FLOAT, STRING, INT64 = 1, 7, 9
LABELLED = TableForm(label="bad")


def model(**inputs):
    specs = {name: TensorSpec(name, dtype, shape) for name, (dtype, shape) in inputs.items()}
    return {"serving_default": Signature("serving_default", "tensorflow/serving/predict", specs, {})}


MIXED = model(age=(INT64, (-1,)), income=(FLOAT, (-1, 1)), job=(STRING, (-1,)))
FLAT = model(x=(FLOAT, (-1, 2)))


@pytest.fixture(params=["parquet", "csv"])
def save(request, tmp_path):
    """Writes a table in both formats and gives its path."""

    def write(**columns):
        path = tmp_path / f"set.{request.param}"
        table = pa.table(columns)
        parquet.write_table(table, path) if request.param == "parquet" else csv.write_csv(table, path)
        return path

    return write


def inputs_of(request):
    assert isinstance(request, Request)
    return {key: decode(proto) for key, proto in wire.PredictRequest.FromString(request.body).inputs.items()}


def test_columns_to_slice_by_need_not_be_inputs(save):
    path = save(x=[1.0, 2.0], country=["DE", None], size=[3, 4], bad=[0, 1])
    form = TableForm(label="bad", fields=("country", "size"))
    first, second = read_table(path, model(x=(FLOAT, (-1,))), form)
    assert first.fields == {"country": "DE", "size": "3"}
    assert {**second.fields, "country": second.fields.get("country") or ""} == {"country": "", "size": "4"}
    assert set(inputs_of(first)) == {"x"}


def test_a_column_to_slice_by_that_is_not_there_is_named(save):
    path = save(x=[1.0], bad=[0])
    with pytest.raises(Malformed, match="no column to slice by named 'country'; the columns are x, bad"):
        list(read_table(path, model(x=(FLOAT, (-1,))), TableForm(label="bad", fields=("country",))))


def test_rows_become_requests_by_input_name_with_row_and_truth(save):
    path = save(age=[30, 41], income=[1.5, 2.5], job=["smith", "cook"], bad=[0, 1], unused=[7, 8])
    first, second = read_table(path, MIXED, LABELLED)
    found = inputs_of(second)
    assert found["age"].tolist() == [41]
    assert found["age"].dtype == np.int64
    assert found["income"].tolist() == [[2.5]]
    assert found["job"].tolist() == [b"cook"]
    assert [(one.row, one.truth, one.id) for one in (first, second)] == [
        (0, 0.0, f"{path.name}#0"),
        (1, 1.0, f"{path.name}#1"),
    ]


def test_one_input_is_filled_from_the_columns_in_the_order_given(save):
    path = save(b=[1, 2], a=[0.5, 1.5], bad=["no", "yes"])
    first, _ = read_table(path, FLAT, TableForm(label="bad", columns=("a", "b")))
    assert inputs_of(first)["x"].tolist() == [[0.5, 1.0]]
    assert first.truth == "no"


def test_a_set_without_labels_has_no_truth(save):
    assert [
        one.truth for one in read_table(save(a=[1.0], b=[2.0]), FLAT, TableForm(label=None, columns=("a", "b")))
    ] == [None]


def test_a_wrong_label_column_lists_the_columns_there_are(save):
    with pytest.raises(Malformed, match="no label column 'bad'; the columns are age, income, job, good"):
        list(read_table(save(age=[1], income=[1.0], job=["x"], good=[1]), MIXED, LABELLED))


def test_an_input_without_a_column_lists_the_columns_there_are(save):
    with pytest.raises(Malformed, match="no input column 'income'; the columns are age, job, bad"):
        list(read_table(save(age=[1], job=["x"], bad=[1]), MIXED, LABELLED))


def test_a_column_of_the_wrong_type_is_named_with_both_types(save):
    with pytest.raises(Malformed, match="column 'income' holds string, input 'income' takes float"):
        list(read_table(save(age=[1], income=["much"], job=["x"], bad=[1]), MIXED, LABELLED))


def test_rows_with_holes_are_malformed_in_their_place_and_the_others_are_kept(save):
    path = save(age=[1, 2, None, 4], income=[1.0, None, 3.0, 4.0], job=["a", "b", "c", "d"], bad=[None, 1.0, 1.0, 0.0])
    *bad, good = read_table(path, MIXED, LABELLED)
    assert good.row == 3
    name = path.name
    assert [str(error) for error in bad] == [
        f"{name}#0: label 'bad' is missing or NaN",
        f"{name}#1: input 'income' is missing or NaN",
        f"{name}#2: input 'age' is missing or NaN",
    ]


def test_nan_labels_are_missing_labels(tmp_path):
    path = tmp_path / "set.parquet"
    parquet.write_table(pa.table({"a": [1.0, 2.0], "b": [1.0, 2.0], "bad": [math.nan, 1.0]}), path)
    bad, good = read_table(path, FLAT, TableForm(label="bad", columns=("a", "b")))
    assert "missing or NaN" in str(bad)
    assert good.truth == 1.0


def test_fractions_where_integers_are_wanted_are_malformed(save):
    bad, good = read_table(save(n=[1.5, 2.0], bad=[0, 1]), model(n=(INT64, (-1,))), LABELLED)
    assert "input 'n' takes int64, found fractions" in str(bad)
    assert inputs_of(good)["n"].tolist() == [2]


def test_lists_fill_a_row_and_must_have_its_size(tmp_path):
    path = tmp_path / "set.parquet"
    parquet.write_table(pa.table({"x": [[1.0, 2.0], [1.0]], "bad": [0, 1]}), path)
    good, bad = read_table(path, FLAT, LABELLED)
    assert inputs_of(good)["x"].tolist() == [[1.0, 2.0]]
    assert "takes [2] values a row, found 1" in str(bad)


def test_rows_are_numbered_on_through_all_blocks_of_a_file(tmp_path):
    path = tmp_path / "set.parquet"
    parquet.write_table(pa.table({"n": list(range(3000)), "bad": [0] * 3000}), path, row_group_size=700)
    found = list(read_table(path, model(n=(INT64, (-1,))), LABELLED))
    assert [one.row for one in found] == list(range(3000))
    assert inputs_of(found[2500])["n"].tolist() == [2500]


def test_a_file_that_is_no_table_is_malformed_and_a_missing_one_unavailable(tmp_path):
    junk = tmp_path / "set.parquet"
    junk.write_bytes(b"this is not parquet")
    with pytest.raises(Malformed, match=r"set\.parquet: not a readable table"):
        list(read_table(junk, FLAT, LABELLED))
    with pytest.raises(Unavailable, match=r"absent\.csv: cannot be read"):
        list(read_table(tmp_path / "absent.csv", FLAT, LABELLED))
    with pytest.raises(Malformed, match=r"unknown kind of table '\.xls'"):
        list(read_table(tmp_path / "set.xls", FLAT, LABELLED))
