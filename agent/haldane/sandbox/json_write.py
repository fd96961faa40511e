"""JSON as TF Serving writes it: RapidJSON's PrettyWriter and protobuf's JSON printer.

Owns layout, number and string formats; knows nothing of tensors. Output is
bytes, because strings of a model need not be UTF-8.

Source: rapidjson/prettywriter.h, rapidjson/writer.h; util/json_tensor.cc
(WriteDecimal); google/protobuf/json/internal/unparser.cc.
"""

import base64
import json
import math
import re
from typing import Any

import numpy as np

from haldane.sandbox.json_read import Object

_INDENT = b"    "
_ESCAPES = {
    0x22: b'\\"',
    0x5C: b"\\\\",
    8: b"\\b",
    9: b"\\t",
    10: b"\\n",
    12: b"\\f",
    13: b"\\r",
    **{code: b"\\u%04X" % code for code in range(32) if code not in (8, 9, 10, 12, 13)},
}
_TO_ESCAPE = re.compile(rb'[\x00-\x1f"\\]')


class Unwritable(ValueError):
    """A value the writer stops at, as RapidJSON's does at NaN."""


def string(value: bytes) -> bytes:
    """A quoted string; bytes beyond ASCII pass as they are."""
    return b'"' + _TO_ESCAPE.sub(lambda match: _ESCAPES[match[0][0]], value) + b'"'


def decimal(value: float, *, double: bool) -> bytes:
    """A float32 or double in six digits where they round-trip, else in nine or seventeen; NaN as a bare word."""
    if not math.isfinite(value):
        return b"NaN" if math.isnan(value) else b"-Infinity" if value < 0 else b"Infinity"
    text = f"{value:g}"
    if (float(text) if double else float(np.float32(text))) != value:
        text = f"{value:.17g}" if double else f"{value:.9g}"
    if "." not in text and "e" not in text:
        text += ".0"
    return text.encode()


def shortest(value: float) -> bytes:
    """A double as RapidJSON's own writer has it: shortest digits, `1e30` without sign or padding."""
    if not math.isfinite(value):
        raise Unwritable
    if value == 0:
        return b"-0.0" if math.copysign(1, value) < 0 else b"0.0"
    sign, digits, exponent = _digits(value)
    point = len(digits) + exponent
    if exponent >= 0 and point <= 21:
        text = digits + "0" * exponent + ".0"
    elif 0 < point <= 21:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{point - 1}"
    return (sign + text).encode()


def _digits(value: float) -> tuple[str, str, int]:
    mantissa, _, exponent = f"{np.format_float_scientific(abs(value), unique=True, trim='-')}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    return "-" if value < 0 else "", whole + fraction, int(exponent) - len(fraction)


class Writer:
    """PrettyWriter: four blanks of indent, and optionally whole arrays on one line."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._levels: list[list[Any]] = []  # [is array, values so far]
        self.single_line_arrays = False

    def text(self) -> bytes:
        return b"".join(self._parts)

    def raw(self, value: bytes) -> None:
        """One value, already formatted; inside an object also a name."""
        self._prefix()
        self._parts.append(value)

    def start(self, *, array: bool) -> None:
        self._prefix()
        self._levels.append([array, 0])
        self._parts.append(b"[" if array else b"{")

    def end(self) -> None:
        array, count = self._levels.pop()
        if count and not (array and self.single_line_arrays):
            self._newline()
        self._parts.append(b"]" if array else b"}")

    def _newline(self) -> None:
        self._parts.append(b"\n" + _INDENT * len(self._levels))

    def _prefix(self) -> None:
        if not self._levels:
            return
        level = self._levels[-1]
        array, count = level
        level[1] += 1
        if array:
            if count:
                self._parts.append(b", " if self.single_line_arrays else b",")
            if not self.single_line_arrays:
                self._newline()
        elif count % 2:
            self._parts.append(b": ")
        else:
            if count:
                self._parts.append(b",")
            self._newline()


def stringify(value: Any) -> str:
    """A read JSON value as TF Serving's error messages quote it."""
    writer = Writer()
    writer.single_line_arrays = True
    try:
        if isinstance(value, float):
            in_float_range = abs(value) <= float(np.finfo(np.float32).max)
            writer.raw(decimal(float(np.float32(value)) if in_float_range else value, double=not in_float_range))
        else:
            _write(writer, value)
    except Unwritable:
        pass  # the real writer stops in the middle, too
    return writer.text().decode("utf-8", "replace")


def _write(writer: Writer, value: Any) -> None:
    if isinstance(value, Object):
        writer.start(array=False)
        for name, member in value.members:
            writer.raw(string(name))
            _write(writer, member)
        writer.end()
    elif isinstance(value, list):
        writer.start(array=True)
        for item in value:
            _write(writer, item)
        writer.end()
    else:
        writer.raw(_scalar(value))


def _scalar(value: Any) -> bytes:
    if isinstance(value, bytes):
        return string(value)
    if isinstance(value, float):
        return shortest(value)
    return json.dumps(value).encode()


def error(message: str) -> bytes:
    """The body of a refused request."""
    writer = Writer()
    writer.start(array=False)
    writer.raw(b'"error"')
    writer.raw(string(message.encode()))
    writer.end()
    return writer.text()


# -- protobuf's printer, with all fields and their proto names
def message(value: Any) -> str:
    """A protobuf message as JSON, one blank of indent, ended by a newline."""
    text = json.dumps(_message(value), indent=1, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\x7f", "\\u007f") + "\n"


def _message(value: Any) -> Any:
    if value.DESCRIPTOR.full_name.startswith("google.protobuf.") and value.DESCRIPTOR.name.endswith("Value"):
        return _field(value.DESCRIPTOR.fields_by_name["value"], value.value)
    result = {}
    for field in value.DESCRIPTOR.fields:
        if field.has_presence and not value.HasField(field.name):
            continue
        result[field.name] = _whole_field(field, getattr(value, field.name))
    return result


def _whole_field(field: Any, value: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        entry = kind.fields_by_name["value"]
        return {_key(key): _field(entry, value[key]) for key in sorted(value)}
    return [_field(field, item) for item in value] if field.is_repeated else _field(field, value)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _field(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _message(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named else value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, int) and not isinstance(value, bool) and field.cpp_type in _WIDE:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "-Infinity" if value < 0 else "Infinity"
    return value


_WIDE = (2, 4)  # FieldDescriptor.CPPTYPE_INT64 and CPPTYPE_UINT64: strings in JSON
