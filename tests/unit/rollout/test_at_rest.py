"""Which version is stable when an agent begins: never one that was left behind, unless somebody said so since."""

import pytest

from haldane.rollout.wanted import at_rest


@pytest.mark.parametrize(
    ("declared", "settled", "declared_at", "stable"),
    [
        (1, None, 0.0, 1),  # no rollout yet
        (1, (2, 1), 0.0, 2),  # promoted since; the config says what it said then
        (1, (2, 1), 200.0, 2),  # and so it does when its file was written again, the same
        (2, (2, 1), 0.0, 2),  # the config has followed
        (3, (2, 1), 200.0, 3),  # somebody's newer word
        (1, (3, 2), 50.0, 3),  # a file from before the promotion: what a standby read long ago
        (1, (3, 2), 100.0, 3),  # in doubt, what rollouts made of it
        (1, (3, 2), 200.0, 1),  # somebody went back by hand, afterwards
    ],
)
def test_the_config_counts_where_it_was_written_after_the_last_rollout(declared, settled, declared_at, stable):
    assert at_rest(declared, settled, declared_at=declared_at, moved_at=100.0) == stable
