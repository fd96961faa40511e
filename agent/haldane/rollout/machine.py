"""The rollout machine: what follows from an event. The whole policy on a few screens.

Doubt never promotes: an unseen server, missing data or an unknown state holds.
Harm rolls back, from wherever the rollout stands.
"""

from dataclasses import replace

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import Clients
from haldane.domain.rollout import (
    Command,
    CommandKind,
    Event,
    Judged,
    Looked,
    Mode,
    Phase,
    Progress,
    Rollout,
    Transition,
)
from haldane.rollout.looks import all_settled, first, laggard, late, overdue, worst
from haldane.rollout.moves import at_step, back, flip, hold, move, next_share, note, promote, resume, stay, withdraw
from haldane.rollout.ramp import percent, wanted_share
from haldane.rollout.wanted import has_second_name, standing


def step(rollout: Rollout, event: Event) -> Transition:
    """Say what happens next. No I/O, no clock: the event carries the time."""
    if rollout.phase.final:
        return stay(rollout, f"the rollout is over ({rollout.phase})", refused=isinstance(event, Command))
    match event:
        case Command():
            transition = _command(rollout, event)
        case Judged():
            transition = _judged(rollout, event)
        case Looked():
            transition = _looked(rollout, event)
    return replace(transition, before=rollout)


def _command(rollout: Rollout, command: Command) -> Transition:
    why, at = f"{command.by}: {command.why}", command.at
    match command.kind, rollout.phase:
        case CommandKind.ABORT, Phase.ROLLING_BACK | Phase.STUCK:
            return stay(rollout, "it is being rolled back already", refused=True)
        case CommandKind.ABORT, _:
            return back(rollout, at, why)
        case CommandKind.PAUSE, Phase.LOADING | Phase.SHADOWING | Phase.RAMPING | Phase.PROMOTING | Phase.BAKING:
            return hold(rollout, at, why)
        case CommandKind.RESUME, Phase.HELD:
            return resume(rollout, at, why)
        case CommandKind.APPROVE, Phase.SHADOWING if rollout.plan.approvals and rollout.verdict is Verdict.PASS:
            return _approve(rollout, command)
        case CommandKind.PROMOTE, Phase.SHADOWING | Phase.HELD if rollout.mode is Mode.OBSERVE:
            return stay(rollout, "observe mode changes no server; run the agent with mode: enforce", refused=True)
        case CommandKind.PROMOTE, Phase.SHADOWING:
            return promote(rollout, at, why)
        case CommandKind.PROMOTE, Phase.HELD if rollout.held_from is Phase.SHADOWING:
            return promote(rollout, at, why)
        case CommandKind.PROMOTE, Phase.RAMPING:  # the steps that are left are left out
            return flip(rollout, at, why)
        case CommandKind.PROMOTE, Phase.HELD if rollout.held_from in (Phase.RAMPING, Phase.PROMOTING):
            return flip(rollout, at, why)
        case kind, phase:
            return stay(rollout, f"{kind} means nothing while {phase}", refused=True)


def _approve(rollout: Rollout, command: Command) -> Transition:
    """Counted; the promotion begins when the judge looks next. Nobody approves twice, or what they started."""
    if not command.known:
        return stay(rollout, "an approval takes a token of one's own (`people` in the config)", refused=True)
    if command.by in (rollout.by, *rollout.approvals):
        did = "started this rollout" if command.by == rollout.by else "has approved already"
        return stay(rollout, f"{command.by} {did}; somebody else must approve", refused=True)
    approved = replace(rollout, approvals=(*rollout.approvals, command.by))
    return note(approved, f"approved by {', '.join(approved.approvals)}; {command.why}")


def _waits(rollout: Rollout, frozen: str) -> str:
    """What a promotion still waits for after the PASS, or ""."""
    if rollout.joining:
        return f"waits for {', '.join(rollout.joining)}, which joined the fleet"
    if len(rollout.approvals) < rollout.plan.approvals:
        return f"waits for approval ({len(rollout.approvals)} of {rollout.plan.approvals})"
    return frozen


def _judged(rollout: Rollout, judged: Judged) -> Transition:
    if not (rollout.phase.judging or rollout.phase is Phase.HELD):
        return stay(rollout, rollout.why)
    if rollout.verdict is not Verdict.PASS or judged.verdict is Verdict.FAIL:  # a proof given stays given
        rollout = replace(rollout, verdict=judged.verdict)
    match rollout.phase, judged.verdict:
        case phase, Verdict.FAIL if phase.judging:
            return withdraw(rollout, judged.at, judged.why)
        case Phase.HELD, Verdict.FAIL if rollout.mode is Mode.ENFORCE:
            return back(rollout, judged.at, judged.why)
        case Phase.SHADOWING, Verdict.INCONCLUSIVE:
            return hold(rollout, judged.at, judged.why)
        case Phase.SHADOWING, Verdict.PASS if rollout.mode is Mode.OBSERVE:
            return hold(rollout, judged.at, f"recommends promoting version {rollout.new}: {judged.why}")
        case Phase.SHADOWING, Verdict.PASS if waits := _waits(rollout, judged.frozen):
            return note(rollout, f"passed; {waits}")
        case Phase.SHADOWING, Verdict.PASS:
            return promote(rollout, judged.at, judged.why)
        case Phase.RAMPING, _ if rollout.step_at is not None:
            lasted = judged.at - rollout.step_at if judged.lasted is None else judged.lasted
            return _judged_ramping(rollout, judged, since=lasted)
        case _:
            return stay(rollout, rollout.why)


def _looked(rollout: Rollout, looked: Looked) -> Transition:
    rollout = _as_listed(rollout, looked)
    progress = {name: looked.progress.get(name, Progress.BEHIND) for name in rollout.present}
    looked = replace(looked, progress=progress)
    match rollout.phase:
        case Phase.PENDING:
            return _looked_pending(rollout, looked)
        case Phase.LOADING:
            return _looked_loading(rollout, looked)
        case _ if rollout.judged and (broken := first(looked, Progress.FAILED)):
            return withdraw(rollout, looked.at, f"{broken}: {looked.detail.get(broken, '')}")
        case Phase.SHADOWING if rollout.joining and late(rollout, looked, rollout.plan.load_seconds):
            return hold(rollout, looked.at, f"a server that joined the fleet did not follow: {worst(looked)}")
        case Phase.RAMPING:
            return _looked_ramping(rollout, looked)
        case Phase.PROMOTING:
            return _looked_promoting(rollout, looked)
        case Phase.BAKING if late(rollout, looked, rollout.plan.bake_seconds) and all_settled(looked):
            return move(rollout, looked.at, Phase.SUCCEEDED, f"version {rollout.new} is stable on every server")
        case Phase.ROLLING_BACK | Phase.STUCK:
            return _looked_back(rollout, looked)
        case _:
            return stay(rollout, rollout.why)


def _as_listed(rollout: Rollout, looked: Looked) -> Rollout:
    """The rollout with the servers the fleet has now. Those that came must settle before the next stage."""
    fresh = tuple(name for name in looked.joined if name not in rollout.servers)
    left = {*rollout.gone, *looked.gone}.difference(looked.joined)
    joining = dict.fromkeys((*rollout.joining, *looked.joined))  # ordered
    settled = {name for name in rollout.joining if looked.progress.get(name) is Progress.SETTLED}
    rollout = replace(
        rollout,
        servers=(*rollout.servers, *fresh),
        dedicated=(*rollout.dedicated, *(name for name in fresh if name in looked.dedicated)),
        gone=tuple(name for name in rollout.servers if name in left),
        joining=tuple(name for name in joining if name not in left and name not in settled),
        joined_at=looked.at if looked.joined else rollout.joined_at,
    )
    # Who comes now goes where all others of its kind are: the canary's servers take users in steps from their first
    # on, the rest have the new version once the waves are over.
    phase, promoted = standing(rollout), rollout.promoted
    if rollout.plan.traffic_steps and phase in (Phase.RAMPING, Phase.PROMOTING, Phase.BAKING):
        promoted += rollout.dedicated
    if phase is Phase.BAKING:
        promoted += rollout.serving
    return replace(rollout, promoted=tuple(dict.fromkeys(promoted)))


def _looked_pending(rollout: Rollout, looked: Looked) -> Transition:
    if rollout.mode is Mode.OBSERVE or all_settled(looked):
        does = "is awaited" if rollout.mode is Mode.OBSERVE else "is to be loaded"
        return move(rollout, looked.at, Phase.LOADING, f"version {rollout.new} {does} on every server")
    if late(rollout, looked, rollout.plan.change_seconds):
        return back(rollout, looked.at, f"never began: {worst(looked)}")
    return stay(rollout, rollout.why)


def _looked_loading(rollout: Rollout, looked: Looked) -> Transition:
    if broken := first(looked, Progress.FAILED):
        return withdraw(rollout, looked.at, f"{broken}: {looked.detail.get(broken, '')}")
    if all_settled(looked):
        labelled = rollout.mode is Mode.ENFORCE and rollout.clients is Clients.LABEL and not has_second_name(rollout)
        done = "loaded, proven and labelled" if labelled else "loaded and proven"
        why = f"version {rollout.new} is {done} on every server"
        return move(rollout, looked.at, Phase.SHADOWING, why)
    if late(rollout, looked, rollout.plan.load_seconds):
        return withdraw(
            rollout, looked.at, f"not loaded after {rollout.plan.load_seconds:.0f} seconds: {worst(looked)}"
        )
    return stay(rollout, rollout.why)


def _looked_promoting(rollout: Rollout, looked: Looked) -> Transition:
    if all_settled(looked):
        left = [name for name in rollout.serving if name not in rollout.promoted]
        if not left:
            return move(rollout, looked.at, Phase.BAKING, f"stable is version {rollout.new} on every server")
        ahead = (*rollout.promoted, *left[: rollout.plan.at_once])
        return move(
            replace(rollout, promoted=ahead),
            looked.at,
            Phase.PROMOTING,
            f"next server: {', '.join(left[: rollout.plan.at_once])}",
        )
    if overdue(rollout, looked):
        return hold(rollout, looked.at, f"{laggard(looked)} did not follow: {worst(looked)}")
    return stay(rollout, rollout.why)


def _looked_ramping(rollout: Rollout, looked: Looked) -> Transition:
    """A step counts from when every gateway and server is seen to have taken it, and only while it is seen so."""
    settled = all_settled(looked)
    if settled and rollout.step == 0:  # users' own address means the new version on the canary's servers now
        return next_share(rollout, looked.at, f"the canary's servers give users version {rollout.new}")
    if settled and rollout.step_at is None:
        return stay(replace(rollout, step_at=looked.at), rollout.why)
    if not settled and rollout.step_at is not None:
        again = at_step(rollout, rollout.step)
        return move(again, looked.at, Phase.RAMPING, f"the step begins anew: {worst(looked)}")
    if not settled and overdue(rollout, looked):
        return hold(rollout, looked.at, f"the step was not taken: {worst(looked)}")
    return stay(rollout, rollout.why)


def _judged_ramping(rollout: Rollout, judged: Judged, *, since: float) -> Transition:
    """On to the next step when this one has had its time and its own pairs. A person's promotion needs no PASS."""
    plan, share = rollout.plan, percent(wanted_share(rollout))
    if rollout.step_from is None:
        return stay(replace(rollout, step_from=judged.pairs), rollout.why)
    pairs = judged.pairs - rollout.step_from
    passing = judged.verdict is Verdict.PASS or rollout.verdict is not Verdict.PASS
    if passing and pairs >= plan.step_pairs and since >= plan.step_seconds:
        if judged.frozen:
            return note(rollout, f"the step is done; {judged.frozen}")
        return next_share(rollout, judged.at, f"no harm shown by {pairs} pairs in {since:.0f} seconds at {share}")
    if since >= plan.step_budget_seconds:
        missing = judged.why if not passing else f"{pairs} of {plan.step_pairs} pairs came"
        return hold(rollout, judged.at, f"not enough evidence after {since:.0f} seconds at {share}: {missing}")
    return stay(rollout, rollout.why)


def _looked_back(rollout: Rollout, looked: Looked) -> Transition:
    if looked.gateway is Progress.SETTLED and (not rollout.present or all_settled(looked)):
        return move(rollout, looked.at, Phase.ROLLED_BACK, rollout.why)
    if rollout.phase is Phase.ROLLING_BACK and late(rollout, looked, rollout.plan.change_seconds):
        return move(rollout, looked.at, Phase.STUCK, f"{laggard(looked)} cannot be turned back: {worst(looked)}")
    return stay(rollout, rollout.why)
