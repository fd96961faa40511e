import pickle

import pytest

from haldane.app.shadowing import split
from haldane.domain.fleet import ServerName
from haldane.engine.pairing import ShadowLimits
from haldane.ports import Flaw, Unavailable, Unusable

R1 = ServerName("r1")


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_senders_together_keep_the_limits(of):
    limits = ShadowLimits(pairs_per_second=100.0, concurrency=7, concurrency_on={R1: 10}, bytes_in_flight=1000)
    shares = [split(limits, index, of) for index in range(of)]
    assert sum(share.pairs_per_second for share in shares) == pytest.approx(100.0)
    assert sum(share.concurrency for share in shares) == 7
    assert sum(share.at_once(R1) for share in shares) == 10
    assert sum(share.bytes_in_flight for share in shares) <= 1000
    assert {share.deadline_seconds for share in shares} == {limits.deadline_seconds}


@pytest.mark.parametrize("error", [Unavailable("dask", "gone"), Unusable("rows#3", "not JSON", Flaw.FORMAT)])
def test_a_failure_comes_whole_from_another_process(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
