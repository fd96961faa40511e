"""What tests of many parts start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from haldane.adapters.sql import SqlStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """A store in a file of its own."""
    made = open_store(f"sqlite:///{tmp_path / 'haldane.db'}")
    yield made
    made.close()
