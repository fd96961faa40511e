"""Every condition has an alert of its own and a sentence in both languages."""

import pytest

from haldane.domain.fleet import Condition
from haldane.judge.alerts import alert_of, runbook, summary
from haldane.judge.conditions import Name


def a_condition(name: str) -> Condition:
    return Condition(name, "risk", 7, ("r0", "r1"), "why", 0.0)


@pytest.mark.parametrize("name", list(Name))
def test_a_sentence_in_both_languages_names_what_it_is_about(name: Name) -> None:
    english, chinese = summary(a_condition(name)), summary(a_condition(name), "zh")
    assert english != chinese
    for sentence in (english, chinese):
        assert ("risk" in sentence) != ("r0, r1" in sentence)
    assert all(ord(letter) < 128 for letter in english)


def test_every_condition_has_an_alert_of_its_own():
    assert len({alert_of(name) for name in Name}) == len(Name)
    assert runbook(Name.UPLOAD_INCOMPLETE) == "docs/runbooks/HaldaneUploadIncomplete.md"


def test_a_condition_that_an_older_table_does_not_know_is_told_all_the_same():
    assert summary(a_condition("disk_full")) == "disk full on r0, r1"
    assert alert_of("disk_full") == ("HaldaneDiskFull", "page")
