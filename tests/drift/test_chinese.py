"""Each sentence that stands in a rollout, or says why none was started, has its Chinese.

Read from the code, so that a sentence written tomorrow is missed today: what is
between the braces of an f-string is filled with a number, a share and a phrase.
"""

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import haldane
from haldane.web.chinese import in_chinese

ROOT = Path(haldane.__file__).parent
WRITTEN_IN = (
    "rollout/machine.py",
    "rollout/moves.py",
    "rollout/looks.py",
    "rollout/planner.py",
    "rollout/second.py",
    "rollout/ramp.py",
    "rollout/intake.py",
    "judge/answer.py",
    "judge/headroom.py",
    "engine/intake.py",
    "serving/foreign.py",
    "release/vouch.py",
    "app/agent.py",
    "app/candidate.py",
    "app/gateways.py",
)
# Parts of sentences: what stands in the braces of another one.
PARTS = {
    "a gateway",
    "a server",
    "is awaited",
    "is to be loaded",
    "loaded and proven",
    "loaded, proven and labelled",
    ", which has the same files (content {})",
    "{} %",
}
# Said to whoever gave a command or asked, in English like all of the command line, and kept in no rollout.
ANSWERS = {
    "an approval takes a token of one's own (`people` in the config)",
    "has approved already",
    "it is being rolled back already",
    "it takes no announced releases (models.{}.releases); these do: {}",
    "model {} is not in the config; it has {}",
    "no labels are expected for it; set models.{}.labels in the config",
    "observe mode changes no server; run the agent with mode: enforce",
    "recommends promoting",
    "started this rollout",
    "the rollout is over ({})",
    "there is no rollout {}; `haldane rollout list` shows them",
    "version {} of {} was announced and waits{}",
    "{} has no right to {} of {}",
    "{} means nothing while {}",
    "{} {}; somebody else must approve",
    "{}: no data: {}",
    "{}: {} ({})",
}
WORDS = r"stable|canary|models?|config|file|base|path|metrics|url|servers|traffic|labels|releases|haldane|adopt|Serving"
LATIN = re.compile(rf"\b(?:{WORDS}|monitoring|credit)\b")


def sentences(file: Path) -> Iterator[str]:
    """Every text of a file that is no documentation and holds a space, with {} for what is filled in."""
    tree = ast.parse(file.read_text())
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(inner) for inner in ast.walk(node) if inner is not node}
    for node in ast.walk(tree):
        if id(node) in left_out or not isinstance(node, ast.JoinedStr | ast.Constant):
            continue
        values = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [one.value if isinstance(one, ast.Constant) else "{}" for one in values]
        text = "".join(one for one in texts if isinstance(one, str))
        if " " in text.strip():
            yield text


def told(english: str) -> bool:
    """Whether some way to fill it in has a Chinese without English in it."""
    for filled in product(("7", "as wanted", "5 %", *sorted(PARTS)), repeat=min(english.count("{}"), 3)):
        text = english
        for value in filled:
            text = text.replace("{}", value, 1)
        chinese = in_chinese(text.replace("{}", "as wanted"))
        if chinese is not None and not re.search(r"[A-Za-z]{3,}", LATIN.sub("", chinese.replace("_", " "))):
            return True
    return False


@pytest.mark.parametrize("name", WRITTEN_IN)
def test_no_sentence_is_english_only(name: str) -> None:
    found = set(sentences(ROOT / name)) - PARTS - ANSWERS
    assert not [english for english in sorted(found) if not told(english)]


def test_no_exception_outlives_its_sentence() -> None:
    written = {one for name in WRITTEN_IN for one in sentences(ROOT / name)}
    assert sorted(ANSWERS - written) == []
    assert sorted(PARTS - written) == []
