"""What servers boot with: the version that is stable, never a canary, and never over a person's change."""

from dataclasses import replace

import pytest

from haldane.domain.fleet import Clients, Policy
from haldane.rollout.boot import at_rest, booting
from haldane.rollout.wanted import Watched
from haldane.testing.builders import MODEL, a_config, an_entry


def due(entry, *, stable=2, declared=1, written=None, released=True):
    watched = {MODEL: Watched(stable, Clients.LABEL, released=released)}
    return booting(a_config(entry), a_config(), watched, {MODEL: declared}, {MODEL: written} if written else {})


def test_what_was_promoted_replaces_what_the_config_declared_and_what_we_wrote_before():
    first = due(an_entry())
    assert first.write == ((1, an_entry(versions=(2,), labels={"stable": 2})),)
    assert due(an_entry(versions=(2,), labels={"stable": 2}), stable=3, written=2).write[0][0] == 2
    assert due(an_entry(versions=(2,), labels={"stable": 2})) == due(an_entry(), stable=1)  # nothing to do


@pytest.mark.parametrize(
    ("entry", "known", "says"),
    [
        (an_entry(), {"written": 2}, "somebody put version 1 there, and stable is 2"),  # taken back by hand
        (an_entry(versions=(7,), labels={}), {}, "somebody put version 7 there"),
        (an_entry("other"), {}, "is not in it"),
        (an_entry(policy=Policy.LATEST, versions=(), labels={}), {}, "which one version users get"),
    ],
)
def test_what_somebody_else_wrote_is_left_and_told(entry, known, says):
    found = due(entry, **known)
    assert found.write == ()
    assert says in found.left[0]


def test_a_model_at_another_place_is_another_model():
    watched = {MODEL: Watched(2, Clients.LABEL)}
    found = booting(
        a_config(an_entry()), a_config(replace(an_entry(), base_path="/elsewhere")), watched, {MODEL: 1}, {}
    )
    assert "base_path is /models/credit" in found.left[0]


def test_a_first_version_that_has_not_passed_is_nobodys_yet():
    assert due(an_entry(), released=False) == due(an_entry(), stable=1)


def test_no_label_is_added_a_canary_is_dropped_and_other_labels_keep_their_versions():
    assert at_rest(an_entry(labels={}), 2) == an_entry(versions=(2,), labels={})
    kept = at_rest(an_entry(versions=(1, 2, 3), labels={"stable": 1, "canary": 3, "audit": 1}), 2)
    assert (kept.versions, kept.labels) == ((1, 2), {"audit": 1, "stable": 2})
