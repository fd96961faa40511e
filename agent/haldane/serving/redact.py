"""What a recording may hold of a request: fields left out, or only a keyed hash of them.

A field is an input of a Predict request, a feature of an Example (or of the
context) of a Classify or Regress request, or a feature of an Example that a
string input holds serialized. Owns this and nothing of files.

A hash is HMAC-SHA256 of the value (text as its bytes, a whole number as its
decimal digits) under the given key: text becomes the first 16 bytes in hex, a
whole number the first 8 bytes big-endian, cut to what its type holds and never
negative. So who has the key can find one customer's rows; who has not can
neither undo nor try out. The same value gives the same hash in every field.
"""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from haldane import wire
from haldane.domain.traffic import Api
from haldane.tensors import STRING

# DataType -> its typed field, its numpy type and the bits a hash may fill. Narrower numbers would hardly differ.
_WHOLE: dict[int, tuple[str, np.dtype[Any], int]] = {
    3: ("int_val", np.dtype("<i4"), 31),
    9: ("int64_val", np.dtype("<i8"), 63),
    22: ("uint32_val", np.dtype("<u4"), 32),
    23: ("uint64_val", np.dtype("<u8"), 64),
}


@dataclass(frozen=True, slots=True)
class Redaction:
    """Names of the fields to leave out and to hash, and the key."""

    drop: frozenset[str] = frozenset()
    hash: frozenset[str] = frozenset()
    key: bytes = b""

    def apply(self, api: Api, request: Any) -> frozenset[str]:
        """Change the message in place; the named fields that it had.

        A field to be hashed whose type has no hash is left out: it is never written as it was.
        """
        if not self.drop and not self.hash:
            return frozenset()
        request.DiscardUnknownFields()  # nobody can say what those hold
        if api is Api.PREDICT:
            return self._inputs(request.inputs)
        return frozenset().union(*(self._features(example.features.feature) for example in _examples(request.input)))

    def _inputs(self, inputs: Any) -> frozenset[str]:
        found = (self.drop | self.hash) & set(inputs)
        for name in found:
            if name in self.drop or not self._hashed(inputs[name]):
                del inputs[name]
        for name in set(inputs) - found:
            if inputs[name].dtype == STRING:
                found |= self._serialized(inputs[name].string_val)
        return found

    def _serialized(self, values: Any) -> frozenset[str]:
        """Of Examples that a tensor holds as text. Other text is left as it is."""
        found: frozenset[str] = frozenset()
        for place, value in enumerate(values):
            try:
                example = wire.Example.FromString(value)
            except DecodeError:
                continue
            if named := self._features(example.features.feature):
                found |= named
                values[place] = example.SerializeToString(deterministic=True)
        return found

    def _features(self, features: Any) -> frozenset[str]:
        found = (self.drop | self.hash) & set(features)
        for name in found:
            kind = features[name].WhichOneof("kind")
            if name in self.drop or kind not in ("bytes_list", "int64_list"):
                del features[name]
                continue
            values = getattr(features[name], kind).value
            values[:] = [self._text(one) for one in values] if kind == "bytes_list" else self._whole(values, 63)
        return found

    def _hashed(self, tensor: Any) -> bool:
        """Hash the values that stand in the message, however many its shape claims; False when they have no hash."""
        if tensor.dtype == STRING:
            tensor.string_val[:] = [self._text(one) for one in tensor.string_val]
            return not tensor.tensor_content
        if tensor.dtype not in _WHOLE:
            return False
        field, held, bits = _WHOLE[tensor.dtype]
        values = getattr(tensor, field)
        values[:] = self._whole(values, bits)
        if len(tensor.tensor_content) % held.itemsize:
            return False
        if tensor.tensor_content:
            hashed = self._whole(np.frombuffer(tensor.tensor_content, held).tolist(), bits)
            tensor.tensor_content = np.array(hashed, held).tobytes()
        return True

    def _text(self, value: bytes) -> bytes:
        return self._digest(value)[:16].hex().encode()

    def _whole(self, values: Any, bits: int) -> list[int]:
        return [int.from_bytes(self._digest(b"%d" % one)[:8], "big") >> (64 - bits) for one in values]

    def _digest(self, value: bytes) -> bytes:
        return hmac.digest(self.key, value, "sha256")


def _examples(given: Any) -> Iterator[Any]:
    kind = given.WhichOneof("kind")
    listed = getattr(given, kind) if kind else None
    if listed is None:
        return
    yield from listed.examples
    if kind == "example_list_with_context":
        yield listed.context
