"""What is wrong is said once per model version, soon enough, and no longer than it holds."""

from collections.abc import Mapping

import pytest

from haldane.domain.fleet import Availability, ModelName, ModelView, ReplicaView, ServerName, VersionStatus
from haldane.judge import conditions as judge
from haldane.judge.conditions import Bounds, Memory, Name
from haldane.judge.loads import LoadCounters, Loads, Tally, between, from_counters, grown

M, TWIN = ModelName("m"), ModelName("m_canary")
R0, R1 = ServerName("r0"), ServerName("r1")
PATHS = {M: "/models/m/", TWIN: "/models/m"}
BOUNDS = Bounds()
START, LOADING, AVAILABLE, UNLOADING, END = Availability


def a_view(*versions: VersionStatus, labels: Mapping[str, int | None] | None = None, model=M) -> ReplicaView:
    return ReplicaView(R0, 0.0, {model: ModelView(versions, labels or {})})


def a_status(version: int, state: Availability, code: str = "OK") -> VersionStatus:
    return VersionStatus(version, state, code, "" if code == "OK" else "cannot parse")


class Watch:
    """One server's memory, and a clock that moves only when told."""

    def __init__(self, paths: Mapping[ModelName, str] = PATHS) -> None:
        self.memory = Memory(paths=paths)
        self.at = 1000.0

    def look(self, view: ReplicaView | None, *, after: float = 1.0, expected=None) -> "Watch":
        self.at += after
        self.memory = judge.looked(self.memory, view, at=self.at, expected=expected, bounds=BOUNDS)
        return self

    def scrape(self, fails: float, *, version: int = 3, after: float = 1.0) -> "Watch":
        self.at += after
        self.memory = judge.counted(self.memory, {("/models/m", version): fails}, at=self.at, bounds=BOUNDS)
        return self

    @property
    def found(self):
        return judge.conditions({R0: self.memory}, at=self.at, bounds=BOUNDS)

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.found]


ONE, LOADING_3 = a_status(1, AVAILABLE), a_status(3, LOADING)
FAILED_3 = a_status(3, END, "DATA_LOSS")


def test_a_load_that_ended_with_an_error_is_a_failed_load():
    watch = Watch().look(a_view(ONE, LOADING_3)).look(a_view(ONE, FAILED_3))
    [one] = watch.found
    assert (one.name, one.model, one.version, one.servers) == (Name.FAILED_LOAD, "m", 3, (R0,))
    assert one.detail == "DATA_LOSS: cannot parse"


def test_the_first_failed_attempt_is_seen_while_retries_go_on():
    watch = Watch().look(a_view(ONE)).scrape(0).look(a_view(ONE, LOADING_3))
    assert watch.names == []
    watch.scrape(1)
    assert watch.names == [Name.FAILED_LOAD]
    assert "1 failed load attempts, being retried" in watch.found[0].detail


def test_a_first_attempt_that_failed_before_the_load_was_seen_counts():
    assert Watch().look(a_view(ONE)).scrape(1).look(a_view(ONE, LOADING_3)).names == [Name.FAILED_LOAD]


def test_an_agent_that_starts_while_retries_go_on_sees_the_failure_at_its_first_scrape():
    assert Watch().look(a_view(ONE, LOADING_3)).scrape(2).names == [Name.FAILED_LOAD]


def test_failures_of_an_earlier_load_do_not_count_against_the_next():
    ended = a_view(ONE, a_status(3, END))
    watch = Watch().scrape(6).look(ended).look(ended).look(a_view(ONE, LOADING_3)).scrape(6)
    assert watch.names == []
    assert watch.scrape(7).names == [Name.FAILED_LOAD]


def test_counters_of_a_new_process_start_from_zero():
    watch = Watch().look(a_view(ONE)).scrape(6).look(a_view(ONE)).scrape(1).look(a_view(ONE, LOADING_3))
    assert watch.names == [Name.FAILED_LOAD]


@pytest.mark.parametrize(
    "better",
    [a_view(ONE, a_status(3, AVAILABLE)), a_view(ONE, FAILED_3, a_status(4, AVAILABLE))],
    ids=["loaded after all", "a higher version took its place"],
)
def test_a_failed_load_is_over_when_something_better_serves(better):
    assert Watch().look(a_view(ONE, FAILED_3)).look(better).names == []


def test_a_failed_load_that_was_withdrawn_at_once_is_still_told_for_a_while():
    wanted = {M: frozenset({1, 3})}
    watch = Watch().look(a_view(ONE, FAILED_3), expected=wanted)
    watch.look(a_view(ONE, FAILED_3), expected={M: frozenset({1})})
    assert watch.names == [Name.FAILED_LOAD]
    watch.look(a_view(ONE, FAILED_3), expected={M: frozenset({1})}, after=BOUNDS.linger)
    assert watch.names == []


def test_a_failure_in_the_history_of_a_version_nobody_wants_is_no_news():
    assert Watch().look(a_view(ONE, FAILED_3), expected={M: frozenset({1})}).names == []


def test_an_order_to_stop_loading_is_no_failure():
    assert Watch().look(a_view(ONE, a_status(3, END, "CANCELLED"))).names == []


def test_two_names_that_share_a_path_are_told_once():
    both = ReplicaView(R0, 0.0, {M: ModelView((FAILED_3,)), TWIN: ModelView((FAILED_3,))})
    [one] = Watch().look(both).found
    assert (one.model, one.version) == ("m", 3)
    apart = Watch({M: "/models/m", TWIN: "/models/other"}).look(both).found
    assert [one.model for one in apart] == ["m", "m_canary"]


def test_a_version_that_fails_on_many_servers_is_one_condition():
    memories = {
        server: judge.looked(Memory(), a_view(FAILED_3), at=at, expected=None, bounds=BOUNDS)
        for server, at in ((R1, 5.0), (R0, 9.0))
    }
    [one] = judge.conditions(memories, at=10.0)
    assert (one.servers, one.since, one.detail) == ((R0, R1), 5.0, "DATA_LOSS: cannot parse")


def test_loading_for_too_long_is_stuck_unless_it_is_known_to_have_failed():
    watch = Watch().look(a_view(ONE, LOADING_3)).look(a_view(ONE, LOADING_3), after=BOUNDS.load)
    assert watch.names == [Name.LOAD_STUCK]
    assert watch.scrape(1).names == [Name.FAILED_LOAD]
    assert watch.look(a_view(ONE, a_status(3, AVAILABLE))).names == []


def test_a_stale_start_is_never_stuck():
    start = a_view(ONE, a_status(3, START))
    assert Watch().look(start).look(start, after=10 * BOUNDS.load).names == []


def test_a_label_taken_away_because_nothing_is_left_to_name_is_told_until_something_serves():
    served = a_view(ONE, labels={"stable": 1})
    watch = Watch().look(served).look(a_view(labels={"stable": None})).look(a_view())
    assert watch.look(a_view(), after=BOUNDS.dangling).names == [Name.LABEL_DANGLING]
    assert watch.look(served).names == []


def test_a_label_that_resolves_to_nothing_is_told_and_resolved():
    dangling = a_view(ONE, labels={"stable": 1, "canary": None})
    watch = Watch().look(dangling)
    assert watch.names == []
    [one] = watch.look(dangling, after=BOUNDS.dangling).found
    assert (one.name, one.model, one.version) == (Name.LABEL_DANGLING, "m", None)
    assert "label canary" in one.detail
    assert watch.look(a_view(ONE, labels={"stable": 1})).names == []


def test_a_server_that_restarts_pages_nobody_and_one_that_stays_away_does():
    watch = Watch().look(a_view(ONE)).look(None).look(None, after=BOUNDS.unseen - 1)
    assert watch.names == []
    assert watch.look(None, after=1).names == [Name.SERVER_UNSEEN]
    assert watch.look(a_view(ONE)).names == []


def test_a_failed_load_is_still_told_while_its_server_cannot_be_seen():
    assert Watch().look(a_view(FAILED_3)).look(None).names == [Name.FAILED_LOAD]


def test_a_version_nobody_asked_for_is_told_after_an_unload_would_be_done():
    two = a_view(ONE, a_status(2, AVAILABLE))
    watch = Watch().look(two, expected={M: frozenset({1})})
    assert watch.names == []
    watch.look(two, expected={M: frozenset({1})}, after=BOUNDS.unapproved)
    assert [(one.name, one.version) for one in watch.found] == [(Name.UNAPPROVED_VERSION, 2)]


@pytest.mark.parametrize(
    ("known", "loaded", "path"),
    [
        ("/models/m", ["/elsewhere/m"], "/models/m"),
        ("", ["/elsewhere/m", "/elsewhere/other"], "/elsewhere/m"),
        ("", ["/here/m", "/there/m"], ""),
        ("", ["/elsewhere/other"], ""),
    ],
)
def test_a_base_path_nobody_told_is_learned_from_the_page_when_it_is_clear(known, loaded, path):
    assert judge.learned({M: known}, [(base, 1) for base in loaded])[M] == path


@pytest.mark.parametrize(
    ("before", "after", "loads"),
    [
        (None, None, Loads()),
        (None, a_status(3, START), Loads()),
        (None, LOADING_3, Loads(1, 0)),
        (a_status(3, START), LOADING_3, Loads(1, 0)),
        (LOADING_3, a_status(3, AVAILABLE), Loads(0, 0)),
        (LOADING_3, FAILED_3, Loads(0, 1)),
        (None, FAILED_3, Loads(1, 1)),
        (FAILED_3, FAILED_3, Loads(0, 0)),
        (FAILED_3, LOADING_3, Loads(1, 0)),
        (a_status(3, END), a_status(3, AVAILABLE), Loads(1, 0)),
        (a_status(3, AVAILABLE), a_status(3, UNLOADING), Loads(0, 0)),
        (a_status(3, UNLOADING), a_status(3, END), Loads(0, 0)),
        (a_status(3, AVAILABLE), LOADING_3, Loads(1, 0)),
    ],
)
def test_loads_between_two_looks(before, after, loads):
    assert between(before, after) == loads


def test_the_larger_of_status_and_counters_counts():
    tally = Tally(by_status=Loads(1, 1), by_counter=from_counters({"success": 2.0}))
    assert tally.total == Loads(2, 1)
    assert from_counters({"success": 1.0, "fail": 6.0}) == Loads(7, 6)


def test_a_counter_that_went_back_began_again_from_zero():
    before = LoadCounters({("/m", 1): {"success": 5.0, "fail": 1.0}, ("/m", 2): {"success": 1.0}})
    after = LoadCounters(
        {("/m", 1): {"success": 1.0}, ("/m", 2): {"success": 1.0, "fail": 2.0}, ("/m", 3): {"fail": 1.0}}
    )
    assert grown(before, after) == {("/m", 1): Loads(1, 0), ("/m", 2): Loads(2, 2), ("/m", 3): Loads(1, 1)}
