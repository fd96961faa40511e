"""Two running toy sandboxes for every test of this folder."""

from tests.fleet import fleet

__all__ = ["fleet"]
