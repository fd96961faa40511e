"""What becomes of announced releases: the highest counts, nothing goes back, nothing withdrawn is tried again."""

from dataclasses import replace
from typing import Any

import pytest

from haldane.domain.release import Announcement, Newer, Past, Withdrawn
from haldane.domain.rollout import Phase
from haldane.rollout.intake import FLAP_SECONDS, Due, due, flapping
from haldane.testing.builders import MODEL, a_rollout


def announced(version: int) -> Announcement:
    return Announcement(key=f"e{version}", model=MODEL, version=version, by="ci", why="trained")


def decided(*versions: int, **more: Any) -> Due:
    given: dict[str, Any] = {"stable": 1, "live": None, "past": (), "newer": Newer.QUEUE}
    return due([announced(version) for version in versions], **{**given, **more})


def why(what: Due) -> str:
    (dropped,) = what.drop
    return f"{'refused' if dropped.refused else 'passed over'}: {dropped.why}"


def test_the_highest_of_several_starts_and_the_others_are_passed_over() -> None:
    what = decided(3, 5, 4)
    assert what.start == announced(5)
    assert [(one.one.version, one.refused) for one in what.drop] == [(3, False), (4, False)]


@pytest.mark.parametrize(
    ("version", "stable", "says"),
    [(4, 4, "passed over: version 4 is stable already"), (3, 4, "refused: version 3 is older than stable, which is 4")],
)
def test_what_is_stable_or_older_never_starts(version: int, stable: int, says: str) -> None:
    what = decided(version, stable=stable)
    assert (what.start, why(what).startswith(says)) == (None, True)


def withdrawn(version: int, content: str = "", *, harmful: bool = True) -> Withdrawn:
    return Withdrawn(f"credit-{version}-a", version, content, harmful)


@pytest.mark.parametrize(
    ("version", "content", "before", "says"),
    [
        (2, "", withdrawn(2), "rollout credit-2-a withdrew version 2;"),
        (3, "", withdrawn(2), ""),
        (3, "same", withdrawn(2, "same"), "withdrew version 2, which has the same files (content same)"),
        (3, "same", withdrawn(2, "other"), ""),
        (2, "new", withdrawn(2, "old"), ""),  # published anew under its number: other files
        (2, "same", withdrawn(2, "same"), "withdrew version 2;"),
        (2, "same", withdrawn(2), "withdrew version 2;"),  # nothing is known of the old files
        (2, "", withdrawn(2, "same"), "withdrew version 2;"),  # nothing of the new
        (3, "same", withdrawn(2, "same", harmful=False), ""),  # a person ended it, or a newer one took its place
        (2, "same", withdrawn(2, "same", harmful=False), "withdrew version 2;"),
    ],
)
def test_what_was_withdrawn_is_not_tried_again_by_itself_by_its_files_or_else_its_number(
    version: int, content: str, before: Withdrawn, says: str
) -> None:
    what = decided(version, past=[before], content=content)
    if says:
        assert what.start is None
        assert why(what).startswith("refused: rollout credit-2-a withdrew")
        assert says in why(what)
        assert "a person may start it by hand" in why(what)
    else:
        assert what.start == announced(version)


def test_an_announcement_of_what_is_on_trial_is_passed_over() -> None:
    assert why(decided(2, live=a_rollout(Phase.SHADOWING))).startswith("passed over: rollout credit-2-test of this")


@pytest.mark.parametrize("newer", Newer)
def test_another_on_trial(newer: Newer) -> None:
    live = a_rollout(Phase.SHADOWING)
    what = decided(3, live=live, newer=newer)
    assert what.start is None
    assert what.abort == (live if newer is Newer.SUPERSEDE else None)
    assert [one.refused for one in what.drop] == ([True] if newer is Newer.REFUSE else [])


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.BAKING, Phase.ROLLING_BACK, Phase.STUCK])
def test_what_has_begun_to_promote_or_goes_back_is_never_superseded(phase: Phase) -> None:
    assert decided(3, live=a_rollout(phase), newer=Newer.SUPERSEDE) == Due()


def test_a_trial_held_before_its_promotion_may_be_superseded_and_one_of_a_higher_version_not() -> None:
    held = a_rollout(Phase.HELD, held_from=Phase.SHADOWING)
    assert decided(3, live=held, newer=Newer.SUPERSEDE).abort == held
    assert decided(3, live=a_rollout(Phase.SHADOWING, new=9), newer=Newer.SUPERSEDE).abort is None


def back(at: float, **more: Any) -> Withdrawn:
    return replace(withdrawn(2), **{"exposed": True, "at": at, **more})


@pytest.mark.parametrize(
    ("past", "waits"),
    [
        (Past((back(3.0), back(2.0), back(1.0))), True),
        (Past((back(3.0), back(2.0))), False),
        (Past((back(3.0), back(2.0), back(1.0, exposed=False))), False),  # users never had it
        (Past((back(3.0), back(2.0), back(1.0, harmful=False))), False),  # a person took it back
        (Past((back(3.0), back(2.0), back(1.0)), by_person_at=1.0), False),  # somebody has looked since
        (Past((back(3.0), back(2.0), back(1.0)), by_person_at=0.5), True),
        (Past((back(3.0), back(2.0), back(-FLAP_SECONDS))), False),  # a day ago
    ],
)
def test_versions_that_went_to_users_and_back_again_and_again_wait_for_a_person(past: Past, waits: bool) -> None:
    says = flapping(past, 10.0)
    assert ("a person must start the next" in says) is waits
    assert bool(says) is waits
