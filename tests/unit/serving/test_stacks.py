"""Read at once or one by one: the same arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haldane import wire
from haldane.domain.traffic import Api
from haldane.serving.shadow import Unreadable, read_answer, read_answers
from haldane.serving.stacks import read_alike
from haldane.tensors import encode

DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: bool, 14: np.float32, 19: np.float16}


def tensor(values, dtype=1, *, field=None):
    proto = encode(np.asarray(values, DTYPES[dtype]), dtype)
    if field:
        proto.ClearField("tensor_content")
        getattr(proto, field).extend(np.ravel(values).tolist())
    return proto


def answer(version=1, **outputs):
    response = wire.PredictResponse()
    response.model_spec.version.value = version
    for name, proto in outputs.items():
        response.outputs[name].CopyFrom(proto)
    return response.SerializeToString()


def one_by_one(data, wanted=""):
    found = []
    for raw in data:
        try:
            found.append(None if raw is None else read_answer(Api.PREDICT, raw, wanted))
        except Unreadable:
            found.append(Unreadable)
    return found


def at_once(data, wanted=""):
    read = read_answers([Api.PREDICT] * len(data), data, wanted)
    found = [Unreadable if lost else None for lost in read.unreadable]
    for stack in read.stacks:
        assert (np.diff(stack.at) > 0).all()
        for row, place in enumerate(stack.at.tolist()):
            assert found[place] is None
            found[place] = {name: array[row, ...] for name, array in stack.outputs.items()}
    return found


def assert_same(data, wanted=""):
    for one, other in zip(one_by_one(data, wanted), at_once(data, wanted), strict=True):
        if one in (None, Unreadable):
            assert one is other
            continue
        assert set(one) == set(other)
        for name, array in one.items():
            assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape)
            np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_of_every_fixed_width_are_read_together(dtype):
    data = [answer(y=tensor([[i, 1], [0, i]], dtype)) for i in range(10)]
    assert_same(data)
    assert len(read_answers([Api.PREDICT] * 10, data).stacks) == 1
    stacks, others = read_alike(data, np.arange(10), "")
    assert (len(stacks), len(others)) == (1, 0)


@pytest.mark.parametrize(("dtype", "field"), [(1, "float_val"), (2, "double_val")])
def test_values_in_a_packed_field_as_serving_answers_by_default(dtype, field):
    data = [answer(y=tensor([[0.1 * i, np.nan]], dtype, field=field)) for i in range(10)]
    assert_same(data)
    assert [len(stack.at) for stack in read_alike(data, np.arange(10), "")[0]] == [10]


def test_several_outputs_one_of_them_wanted():
    data = [answer(a=tensor([i, 2]), b=tensor(7 * i, 9)) for i in range(6)]
    assert_same(data)
    assert_same(data, "b")
    assert_same(data, "none of them")
    assert set(read_alike(data, np.arange(6), "b")[0][0].outputs) == {"b"}


def test_answers_of_equal_length_but_other_shape_type_name_or_version_are_told_apart():
    data = [
        *(answer(y=tensor([[i, 1]])) for i in range(5)),
        *(answer(y=tensor([[i], [1]])) for i in range(5)),
        *(answer(z=tensor([[i, 1]])) for i in range(5)),
        *(answer(version=2, y=tensor([[i, 1]])) for i in range(5)),
    ]
    order = np.random.default_rng(1).permutation(20)
    shuffled = [data[i] for i in order]
    assert len(set(map(len, shuffled))) == 1
    assert_same(shuffled)
    assert len(read_alike(shuffled, np.arange(20), "")[0]) == 4


def few():
    proto = tensor([1.0, 2.0], field="float_val")
    proto.tensor_shape.dim[0].size = 4
    return proto


def named():
    proto = tensor([1.0])
    proto.tensor_shape.dim[0].name = "rows"
    return proto


@pytest.mark.parametrize(
    "odd",
    [
        answer(y=few()),
        answer(y=named()),
        answer(y=wire.TensorProto(dtype=7, string_val=[b"a"])),
        answer(y=wire.TensorProto(dtype=9, int64_val=[300])),
        answer(y=wire.TensorProto(dtype=1, tensor_content=b"123")),
        answer(y=wire.TensorProto(dtype=1)),
        answer(y=wire.TensorProto(dtype=21)),
        answer(),
        answer(y=tensor([1.0])) + answer(y=tensor([2.0])),
        b"",
        b"\x0a\x05ab",
        b"\x0a\x02\x0a\x05",
        b"\xff" * 12,
        None,
    ],
)
def test_what_is_laid_out_otherwise_is_read_as_it_would_be_alone(odd):
    assert_same([odd] * 6)
    assert_same([answer(y=tensor([1.0, i])) for i in range(6)] + [odd] * 6)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 40), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_alike(some, place, value):
    good = bytearray(answer(y=tensor([1.0, 2.0], field="float_val")))
    good[place % len(good)] = value
    assert_same([*some, *[bytes(good)] * 5, *some])
