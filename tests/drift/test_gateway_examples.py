"""What docs/howto/gateway.md shows of a gateway's config is what the tests load."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOWTO = (ROOT / "docs/howto/gateway.md").read_text()
BLOCKS = re.findall(r"^```[a-z]*\n(.*?)^```", HOWTO, re.M | re.S)


@pytest.mark.parametrize(
    ("name", "begins"), [("haproxy.cfg", "global"), ("envoy.yaml", "layered"), ("envoy.yaml", "ro")]
)
def test_a_block_of_the_howto_stands_in_the_file_as_it_is(name: str, begins: str) -> None:
    file = (ROOT / "docs/examples/gateway" / name).read_text()
    found = [block for block in BLOCKS if block.lstrip().startswith(begins)]
    assert found
    assert all(block in file for block in found)


def test_the_whole_of_haproxys_config_is_shown() -> None:
    assert (ROOT / "docs/examples/gateway/haproxy.cfg").read_text() in BLOCKS
