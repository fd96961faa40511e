"""A labelled set as NPZ."""

import numpy as np
import pytest

from haldane import wire
from haldane.adapters.arrays import read_arrays
from haldane.adapters.tables import TableForm
from haldane.ports import Flaw, Malformed, Unavailable
from haldane.tensors import Signature, TensorSpec, decode

FLOAT, STRING, INT64 = 1, 7, 9


def model(**inputs):
    specs = {name: TensorSpec(name, dtype, shape) for name, (dtype, shape) in inputs.items()}
    return {"serving_default": Signature("serving_default", "tensorflow/serving/predict", specs, {})}


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez_compressed(tmp_path / "set.npz", **arrays)
        return tmp_path / "set.npz"

    return write


def inputs_of(request):
    return {key: decode(proto).tolist() for key, proto in wire.PredictRequest.FromString(request.body).inputs.items()}


def test_the_first_axis_of_every_array_is_the_rows(save):
    path = save(
        image=np.arange(12.0).reshape(2, 2, 3), job=np.array(["cook", "clerk"]), n=np.array([1, 2]), y=np.array([0, 1])
    )
    signatures = model(image=(FLOAT, (-1, 2, 3)), job=(STRING, (-1,)), n=(INT64, (-1, 1)))
    first, second = read_arrays(path, signatures, TableForm(label="y", fields=("job",)))
    assert inputs_of(second) == {"image": [[[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]], "job": [b"clerk"], "n": [[2]]}
    assert (first.row, second.row, second.truth, second.fields) == (0, 1, 1.0, {"job": "clerk"})


def test_columns_fill_a_single_input(save):
    path = save(a=np.array([1.0, 2.0]), b=np.array([3, 4]), y=np.array(["no", "yes"]))
    first, _ = read_arrays(path, model(x=(FLOAT, (-1, 2))), TableForm(label="y", columns=("b", "a")))
    assert (inputs_of(first), first.truth) == ({"x": [[3.0, 1.0]]}, "no")


def test_a_row_with_a_hole_is_a_flaw_in_its_place(save):
    path = save(x=np.array([np.nan, 2.0, 3.0]), y=np.array([0, np.nan, 1]))
    signature, label, good = read_arrays(path, model(x=(FLOAT, (-1,))), TableForm(label="y"))
    assert (signature.flaw, label.flaw, good.row) == (Flaw.SIGNATURE, Flaw.LABEL, 2)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros(2), "y": np.zeros(3)}, "as many rows as each other; they have x 2, y 3"),
        ({"x": np.zeros(2), "y": np.array(1)}, "as many rows"),
        ({"x": np.array(["a"]), "y": np.zeros(1)}, "array 'x' holds <U1, input 'x' takes float"),
        ({"y": np.zeros(1)}, "no input column 'x'; the columns are y"),
        ({"x": np.array([{}], object), "y": np.zeros(1)}, "Python objects cannot be read"),
    ],
)
def test_a_set_that_does_not_fit_says_what_is_wrong(save, arrays, says):
    with pytest.raises(Malformed, match="set.npz: .*" + says):
        list(read_arrays(save(**arrays), model(x=(FLOAT, (-1,))), TableForm(label="y")))


def test_a_file_that_is_no_npz_and_one_that_is_not_there(tmp_path):
    (tmp_path / "notes.npz").write_text("only notes")
    with pytest.raises(Malformed, match="not a readable"):
        list(read_arrays(tmp_path / "notes.npz", model(x=(FLOAT, (-1,))), TableForm(label="y")))
    with pytest.raises(Unavailable, match="cannot be read"):
        list(read_arrays(tmp_path / "absent.npz", model(x=(FLOAT, (-1,))), TableForm(label="y")))
