"""JSON as TF Serving's parser (RapidJSON) reads it.

Differs from `json`: bare `Inf`/`Infinity`/`NaN`, text after the value is
ignored, a number too big for a double is an error, strings are bytes that need
not be UTF-8, members keep their order and may repeat (the first one counts),
and errors carry RapidJSON's texts and offsets. Ordinary documents go through
`json`'s fast scanner; only what it refuses is read again here, byte by byte.

Source: rapidjson/reader.h, rapidjson/error/en.h; util/json_tensor.cc (ParseJson).
"""

import json
import math
import re
from typing import Any

_WHITESPACE = b" \n\r\t"
_BYTE_ORDER_MARK = (b"\xef", b"\xbb", b"\xbf")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_MAX_DEPTH = 250
_DOUBLE = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_EXACT_LENGTH = 16  # so few digits without exponent are exact by any method
_WHOLE_LIMIT, _EXACT_LIMIT, _MOST_DIGITS, _MAX_POWER = 2**64, 2**53 - 1, 17, 308


class JsonError(ValueError):
    """A parse error: RapidJSON's text and the offset in bytes."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(f"{text} at offset: {offset}")


class Object:
    """A JSON object: its members in order, repeated names included."""

    __slots__ = ("members",)

    def __init__(self, members: list[tuple[bytes, Any]]) -> None:
        self.members = members

    def find(self, name: bytes) -> Any:
        """The value of the first member of that name, or `MISSING`."""
        for key, value in self.members:
            if key == name:
                return value
        return MISSING


MISSING = object()


def read(data: bytes) -> Any:
    """The first JSON value: None, bool, int (within int64/uint64), float, bytes, list or Object."""
    start = _after_mark(data)
    try:
        return _fast(data[start:] if start else data)
    except (ValueError, RecursionError):
        return _Reader(data, start).document()


def _after_mark(data: bytes) -> int:
    """Where the text begins; each byte of a mark is skipped on its own, as RapidJSON's stream does."""
    at = 0
    for byte in _BYTE_ORDER_MARK:
        at += data.startswith(byte, at)
    return at


class _Odd(ValueError):
    """Something the fast scanner would read differently."""


def _number(text: str) -> int | float:
    if len(text) > 21:  # wider than any 64 bit integer
        return _double(text)
    value = int(text)
    if not value and text.startswith("-"):
        return 0
    return value if _INT64_MIN <= value <= _UINT64_MAX else _double(text)


def _double(text: str) -> float:
    value = float(text) if len(text) <= _EXACT_LENGTH and "e" not in text.lower() else _normal_precision(text)
    if math.isinf(value):
        raise _Odd
    return value


def _normal_precision(text: str) -> float:
    """A double as RapidJSON computes it, which for many digits is off by a unit in the last place."""
    match = _DOUBLE.fullmatch(text)
    if match is None:
        raise _Odd
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    value, digits, used = float(int(whole)), len(whole.lstrip("0")), 0
    if int(whole) < _WHOLE_LIMIT:
        exact = int(whole)
        while used < len(fraction) and exact <= _EXACT_LIMIT:
            exact = exact * 10 + int(fraction[used])
            used += 1
            digits += exact > 0
        value = float(exact)
    while used < len(fraction) and digits < _MOST_DIGITS:
        value = value * 10.0 + int(fraction[used])
        used += 1
        digits += value > 0
    value = _scaled(value, exponent - used)
    return -value if sign else value


def _scaled(value: float, power: int) -> float:
    if power >= 0:
        return value * 10.0**power if power <= _MAX_POWER else (math.inf if value else 0.0)
    if power < -_MAX_POWER:
        value, power = value / 10.0**_MAX_POWER, power + _MAX_POWER
    return 0.0 if power < -_MAX_POWER else value / 10.0**-power


def _pairs(pairs: list[tuple[str, Any]]) -> Object:
    return Object([(key.encode("utf-8", "surrogateescape"), _value(value)) for key, value in pairs])


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list):
        if value and (isinstance(value[0], str) or any(isinstance(item, str | list) for item in value)):
            return [_value(item) for item in value]
        return value
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_double, parse_int=_number)
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _fast(data: bytes) -> Any:
    if _ESCAPED_SURROGATE.search(data):
        raise _Odd
    text = data.lstrip(_WHITESPACE).decode("utf-8", "surrogateescape")
    return _value(_DECODER.raw_decode(text)[0])


class _Reader:
    """Recursive descent, for what the fast scanner refuses."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data, self._at, self._depth = data, start, 0

    def document(self) -> Any:
        self._skip()
        if self._at >= len(self._data):
            raise JsonError("The document is empty.", self._at)
        return self._read()

    def _skip(self) -> None:
        while self._at < len(self._data) and self._data[self._at] in _WHITESPACE:
            self._at += 1

    def _peek(self) -> bytes:
        return self._data[self._at : self._at + 1]

    def _take(self, token: bytes) -> bool:
        if self._data.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _read(self) -> Any:
        first = self._peek()
        if first in (b"{", b"["):
            return self._nested(first)
        if first == b'"':
            return self._string()
        for token, value in ((b"null", None), (b"true", True), (b"false", False)):
            if first == token[:1]:
                return self._literal(token, value)
        return self._read_number()

    def _nested(self, first: bytes) -> Any:
        self._depth += 1
        if self._depth > _MAX_DEPTH:  # RapidJSON recurses until its stack ends; we stop before ours does
            raise JsonError("Terminate parsing due to Handler error.", self._at)
        value = self._object() if first == b"{" else self._array()
        self._depth -= 1
        return value

    def _literal(self, token: bytes, value: Any) -> Any:
        for index in range(len(token)):
            if self._data[self._at + index : self._at + index + 1] != token[index : index + 1]:
                raise JsonError("Invalid value.", self._at + index)
        self._at += len(token)
        return value

    def _object(self) -> Object:
        self._at += 1
        members: list[tuple[bytes, Any]] = []
        self._skip()
        if self._take(b"}"):
            return Object(members)
        while True:
            if self._peek() != b'"':
                raise JsonError("Missing a name for object member.", self._at)
            name = self._string()
            self._skip()
            if not self._take(b":"):
                raise JsonError("Missing a colon after a name of object member.", self._at)
            self._skip()
            members.append((name, self._read()))
            self._skip()
            if self._take(b"}"):
                return Object(members)
            if not self._take(b","):
                raise JsonError("Missing a comma or } after an object member.", self._at)
            self._skip()

    def _array(self) -> list[Any]:
        self._at += 1
        values: list[Any] = []
        self._skip()
        if self._take(b"]"):
            return values
        while True:
            values.append(self._read())
            self._skip()
            if self._take(b"]"):
                return values
            if not self._take(b","):
                raise JsonError("Missing a comma or ] after an array element.", self._at)
            self._skip()

    def _string(self) -> bytes:
        self._at += 1
        out = bytearray()
        while True:
            char = self._peek()
            if char == b'"':
                self._at += 1
                return bytes(out)
            if char == b"\\":
                out += self._escape()
            elif not char or char == b"\0":
                raise JsonError("Missing a closing quotation mark in string.", self._at)
            elif char < b" ":
                raise JsonError("Invalid encoding in string.", self._at)
            else:
                out += char
                self._at += 1

    def _escape(self) -> bytes:
        start = self._at
        char = self._data[start + 1 : start + 2]
        simple = _ESCAPES.get(char)
        if simple is not None:
            self._at += 2
            return simple
        if char != b"u":
            raise JsonError("Invalid escape character in string.", start)
        self._at += 2
        code = self._hex(start)
        if 0xD800 <= code <= 0xDFFF:
            if code > 0xDBFF or not self._take(b"\\u"):
                raise JsonError("The surrogate pair in string is invalid.", start)
            low = self._hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise JsonError("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code).encode()

    def _hex(self, start: int) -> int:
        digits = self._data[self._at : self._at + 4]
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            raise JsonError("Incorrect hex digit after \\u escape in string.", start)
        self._at += 4
        return int(digits, 16)

    def _read_number(self) -> Any:
        start = self._at
        negative = self._take(b"-")
        special = self._special(negative)
        if special is not None:
            return special
        self._at = start
        match = _NUMBER.match(self._data, start)
        if match is None:
            raise JsonError("Invalid value.", start + negative)
        self._at = match.end()
        is_double = self._fraction()
        is_double = self._exponent() or is_double
        text = self._data[start : self._at].decode()
        try:
            return _double(text) if is_double else _number(text)
        except _Odd:
            raise JsonError("Number too big to be stored in double.", start) from None

    def _special(self, negative: bool) -> float | None:
        if self._peek() == b"N":
            self._literal(b"NaN", None)
            return math.nan
        if self._peek() == b"I":
            self._literal(b"Inf", None)
            if self._peek() == b"i":
                self._literal(b"inity", None)
            return -math.inf if negative else math.inf
        return None

    def _fraction(self) -> bool:
        if not self._take(b"."):
            return False
        if not self._peek().isdigit():
            raise JsonError("Miss fraction part in number.", self._at)
        self._digits()
        return True

    def _exponent(self) -> bool:
        if self._peek() not in (b"e", b"E"):
            return False
        self._at += 1
        if self._peek() in (b"+", b"-"):
            self._at += 1
        if not self._peek().isdigit():
            raise JsonError("Miss exponent in number.", self._at)
        self._digits()
        return True

    def _digits(self) -> None:
        while self._peek().isdigit():
            self._at += 1


_ESCAPES = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
