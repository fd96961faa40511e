import logging
import sys

import pytest

from haldane.adapters.dask import open_workers, run_quietly
from haldane.ports import Refused, Unavailable
from haldane.testing.sandboxes import free_port


async def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(Refused, match=r'pip install "haldane\[dask\]"'):
        async with open_workers("tcp://127.0.0.1:1"):
            pass


async def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("haldane.adapters.dask._CONNECT_SECONDS", 0.2)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"dask: cannot reach the scheduler at {address}"):
        async with open_workers(address):
            pass


async def test_a_worker_logs_no_line_for_each_call_of_ours_and_keeps_all_others(caplog):
    async def deed(number):
        return number + 1

    caplog.set_level(logging.INFO, "distributed.worker")
    log = logging.getLogger("distributed.worker")
    try:
        assert await run_quietly(deed, [1]) == 2
        assert await run_quietly(deed, [2]) == 3
        for called in ("run_quietly", "somebody_elses"):
            log.info("Run out-of-band function %r", called)
        log.info("Registered to %s", "tcp://s")
    finally:
        log.filters.clear()
    assert [record.args for record in caplog.records] == [("somebody_elses",), ("tcp://s",)]
