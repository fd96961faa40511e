"""The text of a model config file with the place of every field: what protobuf's own parser does not tell.

Owns: where a field stands. Leaves to protobuf whether the text is right: only text that it took is looked through here.

Source: the text format language specification, protobuf.dev/reference/protobuf/textformat-spec.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?P<word>[-+]?[\w.]+)|(?P<mark>[{}<>\[\]:,;/-])""",
    re.DOTALL,
)
_OPEN = {"{": "}", "<": ">"}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `text[start:end]` is all of it, `line` counts from 1. A block has `fields` and no `value`.

    The value of a word is the word; of a string, what stands between its quotes, escapes left as they are.
    """

    name: str
    line: int
    start: int
    end: int
    value: str = ""
    fields: tuple["Field", ...] = ()
    block: bool = False

    def all(self, name: str) -> Iterator["Field"]:
        """Its fields of that name, in order."""
        return (field for field in self.fields if field.name == name)

    def first(self, name: str) -> "Field | None":
        return next(self.all(name), None)

    def line_of(self, *path: str) -> int:
        """The line of the field at that path, or of the nearest one above it that is there."""
        found = self.first(path[0]) if path else None
        return found.line_of(*path[1:]) if found else self.line


def read(text: str) -> Field:
    """The whole text as one block without a name; ValueError where it is not text that protobuf took."""
    tokens = [
        _Token(str(found.lastgroup), found.group(), *found.span())
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "comment"
    ]
    reader = _Reader(text, tokens)
    fields = reader.fields("")
    return Field("", 1, 0, len(text), fields=tuple(fields), block=True)


def entries(text: str) -> list[Field]:
    """Each model's `config { ... }` block, in order."""
    return [config for models in read(text).all("model_config_list") for config in models.all("config")]


class _Reader:
    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens, self._at = text, tokens, 0

    def fields(self, closing: str) -> list[Field]:
        found: list[Field] = []
        while self._at < len(self._tokens):
            token = self._take()
            if token.text == closing:
                return found
            if token.text in (",", ";"):
                continue
            if token.kind != "word":
                raise ValueError(f"line {self._line(token)}: {token.text!r} where a field should begin")
            found += self._field(token)
        if closing:
            raise ValueError("the text ends inside a block")
        return found

    def _field(self, name: _Token) -> list[Field]:
        self._skip(":")
        if not self._skip("["):
            return [self._value(name)]
        values = []
        while not self._skip("]"):
            values.append(self._value(name, here=self._peek()))
            self._skip(",")
        return values

    def _value(self, name: _Token, here: _Token | None = None) -> Field:
        """What follows a field's name; `here`: an item of a list, which stands where it stands."""
        place, token = here or name, self._take()
        if token.text in _OPEN:
            inner = self.fields(_OPEN[token.text])
            end = self._tokens[self._at - 1].end
            return Field(name.text, self._line(place), place.start, end, fields=tuple(inner), block=True)
        value, end = token.text, token.end
        if token.kind == "string":
            value = token.text[1:-1]
            while (more := self._peek()) is not None and more.kind == "string":
                value, end = value + self._take().text[1:-1], more.end
        return Field(name.text, self._line(place), place.start, end, value=value)

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> _Token:
        if (token := self._peek()) is None:
            raise ValueError("the text ends inside a field")
        self._at += 1
        return token

    def _skip(self, mark: str) -> bool:
        token = self._peek()
        if token is None or token.text != mark:
            return False
        self._at += 1
        return True

    def _line(self, token: _Token) -> int:
        return self._text.count("\n", 0, token.start) + 1
