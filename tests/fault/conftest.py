"""Two running toy sandboxes for every test of this folder, and a Prometheus that watches one."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.fleet import Fleet, fleet
from tests.prometheus import Prometheus

__all__ = ["fleet", "prometheus"]


@pytest.fixture
def prometheus(
    fleet: Fleet, need_binary: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path
) -> Iterator[Prometheus]:
    """Scrapes one sandbox under two names, so that both sides of a query are always equal."""
    targets = dict.fromkeys(("stable", "canary"), fleet.first.admin_port)
    with closing(Prometheus(need_binary("prometheus"), tmp_path, free_port(), targets)) as made:
        made.start()
        made.wait(lambda: made.series("process_resident_memory_bytes") == 2)
        yield made
