from types import SimpleNamespace

import numpy as np

from haldane.engine.judging import folded
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import pairs, rules


def test_shadowing_is_taken_up_where_the_log_ends_with_only_rows_judged_that_the_canary_answered():
    log = [pairs(3, row=[0, 1, 2], aa=[False, True, False]), pairs(2, first=7, row=[-1, 4])]
    store = SimpleNamespace(pairs=lambda rollout: log)
    analysis, progress = folded(store, a_rollout(analysis=rules().to_json()))
    assert progress.next_seq == 9
    assert progress.judged_rows == {0, 2, 4}
    assert progress.before_seconds == np.float64(0.08)
    assert analysis.tally.pairs == 4
