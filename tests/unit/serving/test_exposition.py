"""The metrics page is read whatever state it is in, and what cannot be read is counted."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane.serving import exposition
from haldane.serving.exposition import LoadPath

PAGE = """\
# TYPE :tensorflow:cc:saved_model:load_attempt_count counter
:tensorflow:cc:saved_model:load_attempt_count{model_path="/models/m/2",status="success"} 1
:tensorflow:cc:saved_model:load_attempt_count{model_path="/models/m/3",status="fail"} 6
# TYPE :tensorflow:core:direct_session_runs counter
:tensorflow:core:direct_session_runs{} 1204
# TYPE :tensorflow:serving:batching_session:queuing_latency histogram
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{model_name="m",status="NOT_FOUND"} 3
:tensorflow:serving:request_count{model_name="m",status="OK"} 1.21504e+06
:tensorflow:serving:request_count{model_name="made up",status="NOT_FOUND"} 9
# TYPE :tensorflow:serving:request_latency histogram
:tensorflow:serving:request_latency_bucket{model_name="m",API="",entrypoint="REST",le="+Inf"} 15
:tensorflow:serving:request_latency_sum{model_name="m",API="",entrypoint="REST"} 2.56244e+06
"""


def test_the_counters_are_read():
    page = exposition.parse(PAGE)
    assert page.load_attempts == {("/models/m/2", "success"): 1, ("/models/m/3", "fail"): 6}
    assert page.requests[("m", "OK")] == 1215040
    assert page.corrupt == 0
    assert exposition.loads(page, "fail") == {LoadPath("/models/m", 3): 6}


def test_models_seen_are_those_that_answered_not_those_made_up():
    page = exposition.parse(PAGE)
    assert exposition.models_seen(page) == {"m"}
    assert exposition.base_paths_seen(page) == {"/models/m"}


def test_a_newline_in_a_model_name_costs_its_own_lines_only():
    broken = PAGE.replace('"made up"', '"made\nup"')
    page = exposition.parse(broken)
    assert page.corrupt == 2
    assert page.requests == {k: v for k, v in exposition.parse(PAGE).requests.items() if k[0] == "m"}


def test_a_model_name_cannot_forge_a_series():
    name = 'x\n:tensorflow:cc:saved_model:load_attempt_count{model_path="/models/m/3",status="fail"} 99\ny'
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')  # as Serving writes it
    page = exposition.parse(PAGE.replace("made up", escaped))
    assert page.load_attempts == exposition.parse(PAGE).load_attempts
    assert page.corrupt == 3


@pytest.mark.parametrize(
    ("line", "corrupt"),
    [
        ("name{} 5", 0),
        (":name 5e-3", 0),
        ('a{b="c"} +Inf', 0),
        ("# TYPE bare counter", 0),
        ("", 0),
        ("  ", 0),
        ("no number", 1),
        ("b\",status=\"OK\"} 3", 1),
        (':tensorflow:serving:request_count{model_name="m"} 3', 1),
        (':tensorflow:serving:request_count{model_name="m",status="OK"} NaN', 1),
        (':tensorflow:serving:request_count{model_name="m",status="OK"} -1', 1),
        (':tensorflow:serving:request_count{model_name="m,status="OK"} 1', 1),
        ("\x00\x01\x02", 1),
    ],
)  # fmt: skip
def test_each_kind_of_line(line, corrupt):
    page = exposition.parse(line)
    assert page.corrupt == corrupt
    assert not page.requests


def test_escapes_in_names_are_undone():
    page = exposition.parse(':tensorflow:serving:request_count{model_name="a\\"b\\\\c",status="OK"} 1')
    assert page.requests == {('a"b\\c', "OK"): 1}


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_give_up(text):
    page = exposition.parse(PAGE + text + "\n" + PAGE)
    assert page.load_attempts[("/models/m/3", "fail")] == 12


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/models/m/3", ("/models/m", 3)),
        ("/models/m//003", ("/models/m", 3)),
        ("gs://b/m/-1", ("gs://b/m", -1)),
        ("/models/m/x7", None),
        ("/models/m/1_0", None),
        ("", None),
    ],
)
def test_a_model_path_is_a_base_path_and_a_version(path, expected):
    assert exposition.load_path(path) == expected


def test_load_counters_are_by_version_directory_and_status():
    counters = exposition.load_counters(PAGE + "broken line\n")
    assert counters.attempts == {("/models/m", 2): {"success": 1}, ("/models/m", 3): {"fail": 6}}
    assert counters.corrupt == 1


QUEUED = ':tensorflow:serving:batching_session:queuing_latency_bucket{thread_pool_name="%s",le="%s"} %s'


def test_waits_for_a_batch_are_in_seconds_and_of_all_thread_pools_together():
    lines = [
        QUEUED % row
        for row in [("a", "100", 1), ("a", "1.2e+06", 3), ("a", "+Inf", 4), ("b", "100", 2), ("b", "+Inf", 2)]
    ]
    assert exposition.load_counters("\n".join(lines)).queued == {1e-4: 3, 1.2: 3, float("inf"): 6}


def test_waits_for_a_batch_are_read_from_the_recorded_page_of_a_real_server():
    page = Path(__file__).parents[2] / "contract/serving/recorded/metrics/batching_empty_batch.prom"
    queued = exposition.load_counters(page.read_text()).queued
    assert len(queued) == 53
    assert queued[1e-4] == 2
    assert queued[float("inf")] == 4


@pytest.mark.parametrize("bound", ["", "x", "nan", "1e", "."])
def test_a_bound_that_is_no_number_is_a_line_that_cannot_be_read(bound):
    counters = exposition.load_counters(PAGE + QUEUED % ("", bound, 5))
    assert (counters.corrupt, counters.queued) == (1, {})


def test_recorded_pages_of_a_real_server_are_read_without_loss():
    pages = sorted((Path(__file__).parents[2] / "contract").rglob("*.prom"))
    if not pages:
        pytest.skip("the recorded pages are not here")
    seen = Counter({page.name: exposition.parse(page.read_text()).corrupt for page in pages})
    assert sum(seen.values()) == 0
    assert any(exposition.loads(exposition.parse(page.read_text()), "fail") for page in pages)


BLANKS = [
    "  name{} 5",
    "name{} 5  ",
    "name{}  5",
    "name{} 5\r",
    "\t",
    " # TYPE far from the edge",
    "#",
    "#x",
    'a{b="c 5"} 7 ',
]
BLANKS += ['a{b="c 5"} 7 ']
BROKEN = ["5", " 5", 'a{b="c 5"} ', "name{} 1_0x"]


@given(st.lists(st.sampled_from(BLANKS + BROKEN) | st.text(alphabet='a{}="# 5\\\t', max_size=12), max_size=8))
def test_a_line_is_read_alike_whether_its_like_was_seen_before_or_not(lines):
    page = PAGE + "\n".join(lines)
    exposition._place.cache_clear()
    first = exposition.parse(page)
    assert exposition.parse(page) == first
    exposition._place.cache_clear()
    apart = sum(exposition.parse(line).corrupt for line in reversed(page.split("\n")))
    assert apart == first.corrupt


@pytest.mark.parametrize(("line", "corrupt"), [*((line, 0) for line in BLANKS), *((line, 1) for line in BROKEN)])
def test_blanks_around_a_line_cost_nothing(line, corrupt):
    assert exposition.parse(line).corrupt == corrupt


def test_names_that_clients_make_up_are_remembered_within_a_bound():
    exposition._place.cache_clear()
    most = exposition._place.cache_info().maxsize
    flood = "\n".join(
        f':tensorflow:serving:request_count{{model_name="{"x" * 2000}{i}",status="NOT_FOUND"}} 1' for i in range(100)
    )
    assert len(exposition.parse(flood).requests) == 100
    assert exposition._place.cache_info().currsize == 0
    assert most is not None
    many = "\n".join(f"made_up_{i} 1" for i in range(most + 100))
    assert exposition.parse(many).corrupt == 0
    assert exposition._place.cache_info().currsize == most
    exposition._place.cache_clear()
