"""The acts, played one after the other against the running agent, and watched through its API."""

import time
from dataclasses import replace

from haldane.demo.acts import ACTS, FIRST_STABLE, MODEL, Act, Ended, Expected, Labels, mistakes, stable_after
from haldane.demo.pager import Alert, Pager
from haldane.demo.show import Show
from haldane.demo.stage import Stage
from haldane.demo.visitor import Turned, Visitor, looks, wait_until
from haldane.domain.evidence import Ruling
from haldane.domain.rollout import Phase, Rollout
from haldane.web.story import Story

LONGEST_ACT_SECONDS = 170.0  # more than the budget of an analysis
LOOK_SECONDS = 0.25
ALERT_SECONDS = 15.0  # from the end of the rollout to the alert at the pager
SETTLE_SECONDS = 10.0  # for labels seen by the agent to be those it set


def play(stage: Stage, visitor: Visitor, pager: Pager, show: Show) -> tuple[list[Ended], list[Story]]:
    """Every act, in order. A wrong verdict is noted and the story goes on; a lost agent ends it (Turned)."""
    stable = FIRST_STABLE
    wait_until(lambda: _all_mean(visitor.labels(), stable), 30.0, "the agent did not label version 1 stable")
    show.say("Version 1 is stable on both replicas. It knows only an applicant's numbers.")
    every: list[Ended] = []
    stories: list[Story] = []
    for act in ACTS:
        show.curtain(f"v{act.version}: {act.wrong}")
        show.say(act.plot)
        ended = _play_one(act, stage, visitor, pager, show, stable)
        show.ended(ended)
        every.append(ended)
        stories.append(_story(ended, visitor))
        stable = stable_after(ended) or stable
    return every, stories


def _play_one(act: Act, stage: Stage, visitor: Visitor, pager: Pager, show: Show, stable: int) -> Ended:
    before = visitor.labels()
    stage.publish(act.version)
    started = time.monotonic()
    begun = visitor.start(act.version, act.wrong)
    show.aside(f"published, and a rollout from version {begun.old} to {act.version} started: {begun.id}")
    rollout, labelled = _watch(begun, act, visitor, show)
    seconds = time.monotonic() - started
    alert = _wait_for_alert(act, pager, show) if act.expected is Expected.NEVER_LABELLED else None
    rollings = visitor.rulings(rollout.id)
    ruling = rollings[-1] if rollings else None
    ended = Ended(
        act=act,
        rollout=rollout,
        ruling=ruling,
        seconds=seconds,
        before=before,
        after=_settled_labels(rollout, visitor),
        labelled=labelled,
        alert=alert,
        pairs=_pairs_needed(ruling),
    )
    return replace(ended, mistakes=mistakes(ended, stable))


def _watch(begun: Rollout, act: Act, visitor: Visitor, show: Show) -> tuple[Rollout, bool]:
    """Until it is over or held: the rollout then, and whether some label was ever seen on the version."""
    rollout, last_seq, labelled = begun, 0, False
    with show.live("starting"):
        for gone in looks(LOOK_SECONDS, LONGEST_ACT_SECONDS):
            rollout, ruling = visitor.rollout(begun.id)
            labels = [visitor.labels()]
            for record in visitor.records(begun.id, after=last_seq):
                last_seq = record.seq
                if record.kind == "phase_changed":
                    show.moved(Phase(record.data["to"]), record.data["why"], record.at - begun.started_at)
                    labels.append(record.data.get("labels") or {})
            labelled = labelled or any(act.version in each.values() for seen in labels for each in seen.values())
            show.progress(rollout, ruling, gone)
            if rollout.phase.final or rollout.phase in (Phase.HELD, Phase.STUCK):
                break
    if not rollout.phase.final:
        _close(rollout, visitor, show)
    return rollout, labelled


def _close(rollout: Rollout, visitor: Visitor, show: Show) -> None:
    """Abort what did not end by itself, so that the next act can start; what it ended as stays noted."""
    show.aside(f"it stands at {rollout.phase}; aborting it to go on")
    visitor.command(rollout.id, "abort", "the demo goes on to the next act")
    try:
        wait_until(lambda: visitor.rollout(rollout.id)[0].phase.final, 30.0, "the aborted rollout did not end")
    except TimeoutError as error:
        raise Turned(str(error)) from error


def _wait_for_alert(act: Act, pager: Pager, show: Show) -> Alert | None:
    for _ in looks(LOOK_SECONDS, ALERT_SECONDS):
        if alert := pager.failed_load(MODEL, act.version):
            labels = ", ".join(f"{name}={value}" for name, value in sorted(alert["labels"].items()))
            show.say(f"  Alert at {pager.program}: {labels}", style="magenta")
            show.aside(f"its summary: {alert.get('annotations', {}).get('summary', '')}")
            return alert
    return None


def _settled_labels(rollout: Rollout, visitor: Visitor) -> Labels:
    """Labels as seen, once they are what the end of the rollout asks for, or after some patience."""
    meant = rollout.new if rollout.phase is Phase.SUCCEEDED else rollout.old
    labels: Labels = {}
    for _ in looks(LOOK_SECONDS, SETTLE_SECONDS):
        labels = visitor.labels()
        if _all_mean(labels, meant):
            break
    return labels


def _all_mean(labels: Labels, stable: int) -> bool:
    return len(labels) > 0 and all(each.get("stable") == stable for each in labels.values())


def _pairs_needed(ruling: Ruling | None) -> int:
    if ruling is None:
        return 0
    return ruling.decided_pairs or ruling.pairs


def _story(ended: Ended, visitor: Visitor) -> Story:
    """All the report needs of an act."""
    name = ended.rollout.id
    return Story(
        rollout=visitor.rollout(name)[0],
        rulings=visitor.rulings(name),
        records=visitor.records(name),
        labels_before=ended.before,
        labels_after=ended.after,
        title=f"Version {ended.act.version}: {ended.act.wrong}",
        sentences=(ended.act.plot, f"Right would be: {ended.act.expected}.", *ended.mistakes),
    )
