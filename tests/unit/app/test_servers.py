"""What lists of servers said is known to the agent that is started next, or is not, and never stops it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from haldane.app.jsonfile import JsonFile
from haldane.app.servers import recalled
from haldane.domain.fleet import Server, ServerName

KNOWN = Server(ServerName("a"), "a:8500", "http://a:8501/metrics", dedicated_canary=True, process="uid-1")


def test_servers_are_recalled_as_they_were_remembered(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "servers.json")
    file.save({"names": [asdict(KNOWN)]})
    assert recalled(file.load()) == {"names": [KNOWN]}


@pytest.mark.parametrize("saved", [{"names": 3}, {"names": ["a:8500"]}, {"names": [{"name": "a", "port": 8500}]}])
def test_what_another_version_wrote_is_not_believed(saved: dict[str, Any]) -> None:
    assert recalled(saved) == {}
