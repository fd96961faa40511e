"""A server is looked at before any of its models is known, as without a config."""

import pytest

from haldane.domain.fleet import Server, ServerName
from haldane.ports import Unavailable
from haldane.serving.client import open_client
from haldane.testing.sandboxes import Sandbox, free_port


async def test_a_server_that_is_down_is_not_seen_although_there_is_no_model_to_ask_about():
    async with open_client(Server(ServerName("gone"), f"127.0.0.1:{free_port()}")) as client:
        with pytest.raises(Unavailable):
            await client.look({}, {})


async def test_a_server_that_answers_is_seen_with_no_models(tmp_path):
    with Sandbox(tmp_path) as box:
        box.add("m", 1)
        box.start(box.config(box.entry("m", 1)))
        async with open_client(box.server) as client:
            assert (await client.look({}, {})).models == {}
