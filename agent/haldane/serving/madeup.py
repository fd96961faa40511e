"""Requests made up from a signature: the right types and shapes, one row each, and no meaning.

They find a version that fails or is slow. What it answers to noise says nothing of
its answers to people, so `shadow.unscored` leaves that out. The same signature always gives
the same requests.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from haldane.domain.traffic import Api, Request
from haldane.ports import Refused
from haldane.tensors import STRING, Array, Signature, TensorSpec, UnsupportedType, encode, predict_body

REQUESTS = 1000  # different ones, then the same again
_SEED = 20_260_101
_FREE_SIZE = 1  # of an axis that may have any
_MOST_VALUES = 16 << 20  # of one input


def made_up(signatures: Mapping[str, Signature], name: str) -> Iterator[Request]:
    """REQUESTS requests of that signature, batch 1, `row` counting from 0.

    Refused when there is no such signature, when it takes Examples (whose features it does not tell), or a type or
    a size that cannot be made.
    """
    if name not in signatures:
        raise Refused("synthetic", f"the model has no signature {name!r}, only {', '.join(sorted(signatures))}")
    signature = signatures[name]
    if signature.method in ("tensorflow/serving/classify", "tensorflow/serving/regress"):
        raise Refused("synthetic", f"signature {name!r} takes Examples, whose features it does not tell; give a file")
    for row in range(REQUESTS):
        chance = np.random.default_rng([_SEED, row])
        try:
            protos = {key: encode(_array(spec, chance), spec.dtype) for key, spec in signature.inputs.items()}
        except UnsupportedType as error:
            raise Refused("synthetic", f"signature {name!r}: {error}") from error
        yield Request(f"synthetic#{row}", Api.PREDICT, predict_body(name, protos), row)


def _array(spec: TensorSpec, chance: np.random.Generator) -> Array:
    """One row: the first axis, when any size will do, has one; others too."""
    given = (-1,) if spec.shape is None else spec.shape
    shape = tuple(_FREE_SIZE if size < 0 else size for size in given)
    if math.prod(shape) > _MOST_VALUES:
        raise Refused("synthetic", f"input {spec.name!r} has {math.prod(shape):,} values")
    kind = spec.numpy.kind
    if spec.dtype == STRING:
        array = np.empty(math.prod(shape), object)
        array[:] = [bytes(chance.integers(97, 123, 8, np.uint8)) for _ in range(array.size)]
        return array.reshape(shape)
    if kind == "b":
        return chance.random(shape) < 0.5
    if kind in "iu":  # small: most integers are indexes, and the model does not tell of what
        return chance.integers(0, 2, shape).astype(spec.numpy)
    return chance.standard_normal(shape).astype(spec.numpy)
