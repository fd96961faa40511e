from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pki import write_pki


@pytest.fixture(scope="package")
def pki(tmp_path_factory: pytest.TempPathFactory, need_binary: Callable[[str], str]) -> Path:
    """See `tests.pki`."""
    place = tmp_path_factory.mktemp("pki")
    write_pki(place, need_binary("openssl"))
    return place
