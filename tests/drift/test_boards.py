"""The boards are what their code writes, and every panel says what it shows."""

from collections.abc import Iterator
from typing import Any

import pytest
from tools.boards import words
from tools.boards.__main__ import write
from tools.boards.queries import BOARDS, load, queries, variables

from haldane.domain.evidence import State, Verdict
from haldane.domain.rollout import Phase

EACH = pytest.mark.parametrize("board", [load(path) for path in BOARDS], ids=lambda board: str(board["uid"]))


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panels({"panels": panel.get("panels", [])})


def test_the_boards_are_what_their_code_writes(tmp_path):
    made = {path.name: path.read_text() for path in write(tmp_path)}
    assert made == {path.name: path.read_text() for path in BOARDS}


@EACH
def test_every_panel_says_how_to_read_it_and_has_a_unit_colours_and_a_word_for_nothing(board):
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), panel["title"]
        assert {"unit", "thresholds", "noValue"} <= defaults.keys(), panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"], panel["title"]


@EACH
def test_every_query_has_a_letter_of_its_own_and_a_legend(board):
    for panel in panels(board):
        letters = [target["refId"] for target in panel["targets"]]
        assert len({*letters}) == len(letters) > 0
        assert all(target["legendFormat"] for target in panel["targets"] if target["format"] != "table")


@EACH
def test_panels_have_their_own_number_and_lie_side_by_side(board):
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert 0 < place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len({*numbers}) == len(numbers)


@EACH
def test_every_variable_that_is_asked_for_is_there(board):
    known = {*variables(board), "__rate_interval"}
    asked = {part for query, _ in queries(board) for part in _variables(query)}
    assert asked <= known
    assert {panel["repeat"] for panel in panels(board) if panel.get("repeat")} <= known


def _variables(query: str) -> Iterator[str]:
    for part in query.split("$")[1:]:
        yield part[: next(at for at, letter in enumerate(part + " ") if not (letter.isalnum() or letter == "_"))]


def test_the_words_are_those_of_the_agent():
    assert words.PHASES.keys() == {str(phase) for phase in Phase}
    assert words.VERDICTS.keys() == {str(verdict) for verdict in Verdict}
    assert words.CHECKS.keys() == {str(state) for state in State}


def test_the_boards_are_all_in_the_menu_they_share():
    assert len(BOARDS) == 5
    assert all("haldane" in load(path)["tags"] for path in BOARDS)
