"""Two running toy sandboxes for every test of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Two running toy sandboxes that serve version 1; versions 2 and up are up to the test."""
    made = Fleet(tmp_path)
    made.add(1)
    try:
        made.start()
        yield made
    finally:
        made.close()
