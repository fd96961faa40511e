"""Running toy sandboxes, two or three, for every test of this folder."""

from tests.fleet import fleet, trio

__all__ = ["fleet", "trio"]
