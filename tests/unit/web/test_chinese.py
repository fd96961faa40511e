"""What the machine says is told in Chinese too; what people and servers say stays as they said it."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients, ReplicaView, ServerName
from haldane.domain.rollout import Command, CommandKind, Judged, Looked, Mode, Phase, Plan, Progress
from haldane.domain.traffic import Status
from haldane.judge.analysis import Analysis
from haldane.rollout.machine import step
from haldane.rollout.planner import next_step, progress
from haldane.rollout.ramp import GatewayView, gateway_progress
from haldane.rollout.wanted import Watched, compose
from haldane.testing.builders import MODEL, a_config, a_rollout, a_view
from haldane.testing.pairs import metric, pairs, rules
from haldane.web.chinese import in_chinese
from haldane.web.sentences import explained
from haldane.web.story import Story

RULES = rules(metric("errors", "1pp"), metric("accuracy", "1pp"), metric("latency", "+10%"))


def verdicts() -> list[tuple[Verdict, str]]:
    """Real rulings of every kind, with the sentence each gives."""
    failing = np.where(np.arange(3000) % 4, Status.OK, Status.INTERNAL)
    hearings = [
        (pairs(3000), True),
        (pairs(3000, canary_wrong=1), False),
        (pairs(3000, canary_status=failing, stable_status=failing), True),
        (pairs(50), True),
        (pairs(3000, stable_wrong=np.nan, canary_wrong=np.nan), True),
    ]
    found = []
    for batch, final in hearings:
        analysis = Analysis(RULES)
        for part in np.array_split(batch, 10):
            analysis.fold(part)
        ruling = analysis.ruling(5.0, final=final)
        found.append((ruling.verdict, ruling.why))
    assert {verdict for verdict, _ in found} >= {Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE}
    return found


def details() -> set[str]:
    """What the planner says of a server, over many views of it."""
    watched = {MODEL: Watched(1, Clients.LABEL)}
    views: list[ReplicaView | None] = [None]
    for available in ((), (1,), (1, 2), (2,)):
        for labels in ({}, {"stable": 1}, {"stable": 2}, {"stable": 1, "canary": 2}, {"canary": 1}):
            views += [a_view(*available, labels=labels), a_view(*available, labels=labels, proven=())]
    views.append(a_view(1, failed=(2,)))
    told = set()
    for phase, clients, view in product((Phase.LOADING, Phase.SHADOWING, Phase.ROLLING_BACK), Clients, views):
        rollout = a_rollout(phase, clients=clients)
        wanted = compose(a_config(), watched, [rollout], "r0")
        taken = next_step(wanted, view, watched) if view else None
        told |= {progress(rollout, "r0", view, some)[1] for some in (taken, None)}
    return told


def whys() -> set[str]:
    """Everything the machine writes into a rollout: every phase, mode and event."""
    looks = [Looked(1e6, dict.fromkeys(("r0", "r1"), Progress.SETTLED))]
    for detail in sorted(details()):
        looks += [Looked(1e6, dict.fromkeys(("r0", "r1"), what), {"r0": detail}) for what in Progress]
    events = [*looks, *(Judged(1.0, verdict, why) for verdict, why in verdicts())]
    told = set()
    for phase, mode, promoted, event in product(Phase, Mode, ((), ("r0",), ("r0", "r1")), events):
        rollout = a_rollout(phase, mode=mode, promoted=promoted)
        moved = step(rollout, event)
        told |= {moved.after.why} - {rollout.why}
        joining = replace(rollout, joining=(ServerName("r1"),))
        told |= {step(joining, event).after.why} - {rollout.why}
    return told | ramp_whys()


def ramp_whys() -> set[str]:
    """Everything it writes of steps of traffic."""
    plan = Plan(traffic_steps=(0.1, 1.0))
    names = (ServerName("r0"), ServerName("r1"))
    settled = dict.fromkeys(names, Progress.SETTLED)
    ramp = a_rollout(Phase.RAMPING, plan=plan, dedicated=names[1:], promoted=names[1:], verdict=Verdict.PASS)
    seen: list[dict[str, GatewayView]] = [{}, {"g": GatewayView(0.5)}, {"g": GatewayView(0.1)}]
    told, said = set(), verdicts()
    for at, seen_at, phase, view in product(range(3), (None, 0.0), Phase, seen):
        rollout = replace(ramp, step=at, step_at=seen_at, step_from=0, phase=phase)
        what, why = gateway_progress(rollout, view)
        events = [Looked(1e6, settled, gateway=what, gateway_detail=why)]
        judged = (Judged(1e6, verdict, words, pairs) for verdict, words in said for pairs in (3, 10**6))
        told |= {step(rollout, event).after.why for event in (*events, *judged)} - {rollout.why}
    return told


def test_every_sentence_of_the_machine_has_its_chinese() -> None:
    told = whys()
    assert len(told) > 40
    for english in sorted(told):
        chinese = in_chinese(english)
        assert chinese is not None, english
        rest = re.sub(r"DATA_LOSS: cannot parse|\b(stable|canary|credit|unset)\b", "", chinese)
        assert not re.findall(r"[A-Za-z]{3,}", rest), chinese


@pytest.mark.parametrize("words", ["ann: the errors look fine to me", "bob: version 2 is loaded: enough", "started"])
def test_what_a_person_wrote_is_quoted_as_it_was(words: str) -> None:
    story = Story(rollout=replace(a_rollout(Phase.HELD), why=words))
    assert f"日志原文：{words}" in explained(story, "zh")
    assert words in explained(story, "en")


def test_why_a_promotion_was_taken_back_is_told_too() -> None:
    (harm,) = [why for verdict, why in verdicts() if verdict is Verdict.FAIL]
    chinese = in_chinese(f"labels that came after version 2 was promoted show harm: {harm}")
    assert chinese is not None
    assert not re.findall(r"[A-Za-z]{3,}", chinese), chinese


def test_a_persons_words_inside_the_machines_stay() -> None:
    closing = step(a_rollout(Phase.SHADOWING, mode=Mode.OBSERVE), Command(1.0, CommandKind.ABORT, "ann", "no errors"))
    assert in_chinese(closing.after.why) == "已关闭，没有更改任何服务器；ann: no errors"
