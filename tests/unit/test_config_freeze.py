"""When a freeze holds: every week or once, on the wall's clock of the zone it names."""

from datetime import datetime

import pytest

from haldane.config.freeze import FreezeSection, frozen

WEEKEND = {"since": "Fri 16:00", "until": "Mon 08:00", "timezone": "Europe/Berlin", "why": "weekend"}
HOLIDAYS = {"since": "2026-12-20T00:00:00+01:00", "until": "2027-01-04T08:00:00+01:00", "why": "holidays"}


def says(section: dict[str, object], at: str, model: str = "credit") -> str:
    return frozen((FreezeSection.model_validate(section),), model, datetime.fromisoformat(at).timestamp())


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        ("2026-11-27T15:59:59+01:00", False),  # a Friday
        ("2026-11-27T16:00:00+01:00", True),
        ("2026-11-29T03:00:00+00:00", True),
        ("2026-11-30T07:59:59+01:00", True),
        ("2026-11-30T08:00:00+01:00", False),
        ("2026-12-02T12:00:00+01:00", False),
        # Clocks were put back on Sunday, 25 October 2026, and put forward on 29 March.
        ("2026-10-26T06:59:59+00:00", True),
        ("2026-10-26T07:00:00+00:00", False),
        ("2026-03-30T05:59:59+00:00", True),
        ("2026-03-30T06:00:00+00:00", False),
    ],
)
def test_every_weekend(at: str, holds: bool) -> None:
    assert bool(says(WEEKEND, at)) is holds


def test_within_a_day_and_over_the_end_of_the_week() -> None:
    assert says({"since": "Wed 12:00", "until": "Wed 13:00"}, "2026-11-25T12:30:00+00:00")
    assert not says({"since": "Wed 12:00", "until": "Wed 13:00"}, "2026-11-25T13:30:00+00:00")
    assert says({"since": "Sun 23:00", "until": "Mon 01:00"}, "2026-11-30T00:30:00+00:00")


def test_once_and_it_says_until_when_and_why() -> None:
    assert says(HOLIDAYS, "2026-12-24T18:00:00+00:00") == "frozen until Mon 04 Jan 08:00 UTC+01:00: holidays"
    assert not says(HOLIDAYS, "2027-01-04T07:00:00+00:00")


def test_only_for_the_models_it_names() -> None:
    section = {**WEEKEND, "models": ["finance/*"]}
    assert says(section, "2026-11-28T12:00:00+00:00", "finance/credit")
    assert not says(section, "2026-11-28T12:00:00+00:00", "ads/ranking")


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ({"since": "Friday 16:00", "until": "Mon 08:00"}, "must be a weekday and a time"),
        ({"since": "Fri 25:00", "until": "Mon 08:00"}, "must be a weekday and a time"),
        ({"since": "2026-12-20T00:00:00", "until": "2027-01-04T08:00:00"}, "says no offset from UTC"),
        ({"since": "Fri 16:00", "until": "2027-01-04T08:00:00Z"}, "must both be weekdays"),
        ({"since": "2027-01-04T08:00:00Z", "until": "2026-12-20T00:00:00Z"}, "until must come after since"),
        ({"since": "Fri 16:00", "until": "Fri 16:00"}, "until must come after since"),
        ({**WEEKEND, "timezone": "Berlin"}, "is no time zone this machine knows"),
    ],
)
def test_what_is_wrong_is_said(section: dict[str, object], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        FreezeSection.model_validate(section)
