"""The rollout machine: what follows from an event. The whole policy on a few screens.

Doubt never promotes: an unseen server, missing data or an unknown state holds.
Harm rolls back, from wherever the rollout stands.
"""

from dataclasses import replace

from haldane.domain.evidence import Verdict
from haldane.domain.fleet import ServerName
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
from haldane.rollout.ramp import percent, wanted_share
from haldane.rollout.wanted import standing


def step(rollout: Rollout, event: Event) -> Transition:
    """Say what happens next. No I/O, no clock: the event carries the time."""
    if rollout.phase.final:
        return _stay(rollout, f"the rollout is over ({rollout.phase})", refused=isinstance(event, Command))
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
            return _stay(rollout, "it is being rolled back already", refused=True)
        case CommandKind.ABORT, _:
            return _back(rollout, at, why)
        case CommandKind.PAUSE, Phase.LOADING | Phase.SHADOWING | Phase.RAMPING | Phase.PROMOTING | Phase.BAKING:
            return _hold(rollout, at, why)
        case CommandKind.RESUME, Phase.HELD:
            return _resume(rollout, at, why)
        case CommandKind.APPROVE, Phase.SHADOWING if rollout.plan.approvals and rollout.verdict is Verdict.PASS:
            return _approve(rollout, command)
        case CommandKind.PROMOTE, Phase.SHADOWING | Phase.HELD if rollout.mode is Mode.OBSERVE:
            return _stay(rollout, "observe mode changes no server; run the agent with mode: enforce", refused=True)
        case CommandKind.PROMOTE, Phase.SHADOWING:
            return _promote(rollout, at, why)
        case CommandKind.PROMOTE, Phase.HELD if rollout.held_from is Phase.SHADOWING:
            return _promote(rollout, at, why)
        case CommandKind.PROMOTE, Phase.RAMPING:  # the steps that are left are left out
            return _flip(rollout, at, why)
        case CommandKind.PROMOTE, Phase.HELD if rollout.held_from in (Phase.RAMPING, Phase.PROMOTING):
            return _flip(rollout, at, why)
        case kind, phase:
            return _stay(rollout, f"{kind} means nothing while {phase}", refused=True)


def _approve(rollout: Rollout, command: Command) -> Transition:
    """Counted; the promotion begins when the judge looks next. Nobody approves twice, or what they started."""
    if not command.known:
        return _stay(rollout, "an approval takes a token of one's own (`people` in the config)", refused=True)
    if command.by in (rollout.by, *rollout.approvals):
        did = "started this rollout" if command.by == rollout.by else "has approved already"
        return _stay(rollout, f"{command.by} {did}; somebody else must approve", refused=True)
    approved = replace(rollout, approvals=(*rollout.approvals, command.by))
    return _note(approved, f"approved by {', '.join(approved.approvals)}; {command.why}")


def _waits(rollout: Rollout, frozen: str) -> str:
    """What a promotion still waits for after the PASS, or ""."""
    if rollout.joining:
        return f"waits for {', '.join(rollout.joining)}, which joined the fleet"
    if len(rollout.approvals) < rollout.plan.approvals:
        return f"waits for approval ({len(rollout.approvals)} of {rollout.plan.approvals})"
    return frozen


def _judged(rollout: Rollout, judged: Judged) -> Transition:
    if not (rollout.phase.judging or rollout.phase is Phase.HELD):
        return _stay(rollout, rollout.why)
    if rollout.verdict is not Verdict.PASS or judged.verdict is Verdict.FAIL:  # a proof given stays given
        rollout = replace(rollout, verdict=judged.verdict)
    match rollout.phase, judged.verdict:
        case phase, Verdict.FAIL if phase.judging:
            return _withdraw(rollout, judged.at, judged.why)
        case Phase.HELD, Verdict.FAIL if rollout.mode is Mode.ENFORCE:
            return _back(rollout, judged.at, judged.why)
        case Phase.SHADOWING, Verdict.INCONCLUSIVE:
            return _hold(rollout, judged.at, judged.why)
        case Phase.SHADOWING, Verdict.PASS if rollout.mode is Mode.OBSERVE:
            return _hold(rollout, judged.at, f"recommends promoting version {rollout.new}: {judged.why}")
        case Phase.SHADOWING, Verdict.PASS if waits := _waits(rollout, judged.frozen):
            return _note(rollout, f"passed; {waits}")
        case Phase.SHADOWING, Verdict.PASS:
            return _promote(rollout, judged.at, judged.why)
        case Phase.RAMPING, _ if rollout.step_at is not None:
            lasted = judged.at - rollout.step_at if judged.lasted is None else judged.lasted
            return _judged_ramping(rollout, judged, since=lasted)
        case _:
            return _stay(rollout, rollout.why)


def _looked(rollout: Rollout, looked: Looked) -> Transition:
    rollout = _as_listed(rollout, looked)
    progress = {name: looked.progress.get(name, Progress.BEHIND) for name in rollout.present}
    looked = replace(looked, progress=progress)
    match rollout.phase:
        case Phase.PENDING:
            return _looked_pending(rollout, looked)
        case Phase.LOADING:
            return _looked_loading(rollout, looked)
        case _ if rollout.judged and (broken := _first(looked, Progress.FAILED)):
            return _withdraw(rollout, looked.at, f"{broken}: {looked.detail.get(broken, '')}")
        case Phase.SHADOWING if rollout.joining and _late(rollout, looked, rollout.plan.load_seconds):
            return _hold(rollout, looked.at, f"a server that joined the fleet did not follow: {_worst(looked)}")
        case Phase.RAMPING:
            return _looked_ramping(rollout, looked)
        case Phase.PROMOTING:
            return _looked_promoting(rollout, looked)
        case Phase.BAKING if _late(rollout, looked, rollout.plan.bake_seconds) and _all_settled(looked):
            return _move(rollout, looked.at, Phase.SUCCEEDED, f"version {rollout.new} is stable on every server")
        case Phase.ROLLING_BACK | Phase.STUCK:
            return _looked_back(rollout, looked)
        case _:
            return _stay(rollout, rollout.why)


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
    if rollout.mode is Mode.OBSERVE or _all_settled(looked):
        does = "is awaited" if rollout.mode is Mode.OBSERVE else "is to be loaded"
        return _move(rollout, looked.at, Phase.LOADING, f"version {rollout.new} {does} on every server")
    if _late(rollout, looked, rollout.plan.change_seconds):
        return _back(rollout, looked.at, f"never began: {_worst(looked)}")
    return _stay(rollout, rollout.why)


def _looked_loading(rollout: Rollout, looked: Looked) -> Transition:
    if broken := _first(looked, Progress.FAILED):
        return _withdraw(rollout, looked.at, f"{broken}: {looked.detail.get(broken, '')}")
    if _all_settled(looked):
        done = "loaded and proven" if rollout.mode is Mode.OBSERVE else "loaded, proven and labelled"
        why = f"version {rollout.new} is {done} on every server"
        return _move(rollout, looked.at, Phase.SHADOWING, why)
    if _late(rollout, looked, rollout.plan.load_seconds):
        return _withdraw(
            rollout, looked.at, f"not loaded after {rollout.plan.load_seconds:.0f} seconds: {_worst(looked)}"
        )
    return _stay(rollout, rollout.why)


def _looked_promoting(rollout: Rollout, looked: Looked) -> Transition:
    if _all_settled(looked):
        left = [name for name in rollout.serving if name not in rollout.promoted]
        if not left:
            return _move(rollout, looked.at, Phase.BAKING, f"stable is version {rollout.new} on every server")
        ahead = (*rollout.promoted, *left[: rollout.plan.at_once])
        return _move(
            replace(rollout, promoted=ahead),
            looked.at,
            Phase.PROMOTING,
            f"next server: {', '.join(left[: rollout.plan.at_once])}",
        )
    if _overdue(rollout, looked):
        return _hold(rollout, looked.at, f"{_laggard(looked)} did not follow: {_worst(looked)}")
    return _stay(rollout, rollout.why)


def _looked_ramping(rollout: Rollout, looked: Looked) -> Transition:
    """A step counts from when every gateway and server is seen to have taken it, and only while it is seen so."""
    settled = _all_settled(looked)
    if settled and rollout.step == 0:  # users' own address means the new version on the canary's servers now
        return _next_step(rollout, looked.at, f"the canary's servers give users version {rollout.new}")
    if settled and rollout.step_at is None:
        return _stay(replace(rollout, step_at=looked.at), rollout.why)
    if not settled and rollout.step_at is not None:
        again = _at_step(rollout, rollout.step)
        return _move(again, looked.at, Phase.RAMPING, f"the step begins anew: {_worst(looked)}")
    if not settled and _overdue(rollout, looked):
        return _hold(rollout, looked.at, f"the step was not taken: {_worst(looked)}")
    return _stay(rollout, rollout.why)


def _judged_ramping(rollout: Rollout, judged: Judged, *, since: float) -> Transition:
    """On to the next step when this one has had its time and its own pairs. A person's promotion needs no PASS."""
    plan, share = rollout.plan, percent(wanted_share(rollout))
    if rollout.step_from is None:
        return _stay(replace(rollout, step_from=judged.pairs), rollout.why)
    pairs = judged.pairs - rollout.step_from
    passing = judged.verdict is Verdict.PASS or rollout.verdict is not Verdict.PASS
    if passing and pairs >= plan.step_pairs and since >= plan.step_seconds:
        if judged.frozen:
            return _note(rollout, f"the step is done; {judged.frozen}")
        return _next_step(rollout, judged.at, f"no harm shown by {pairs} pairs in {since:.0f} seconds at {share}")
    if since >= plan.step_budget_seconds:
        missing = judged.why if not passing else f"{pairs} of {plan.step_pairs} pairs came"
        return _hold(rollout, judged.at, f"not enough evidence after {since:.0f} seconds at {share}: {missing}")
    return _stay(rollout, rollout.why)


def _looked_back(rollout: Rollout, looked: Looked) -> Transition:
    if looked.gateway is Progress.SETTLED and (not rollout.present or _all_settled(looked)):
        return _move(rollout, looked.at, Phase.ROLLED_BACK, rollout.why)
    if rollout.phase is Phase.ROLLING_BACK and _late(rollout, looked, rollout.plan.change_seconds):
        return _move(rollout, looked.at, Phase.STUCK, f"{_laggard(looked)} cannot be turned back: {_worst(looked)}")
    return _stay(rollout, rollout.why)


def _withdraw(rollout: Rollout, at: float, why: str) -> Transition:
    """Harm: take the canary back, or in observe mode say that it should be."""
    rollout = replace(rollout, verdict=Verdict.FAIL)
    if rollout.mode is Mode.OBSERVE:
        return _hold(rollout, at, f"recommends withdrawing version {rollout.new}: {why}")
    return _back(rollout, at, why)


def _back(rollout: Rollout, at: float, why: str) -> Transition:
    if rollout.mode is Mode.OBSERVE:
        return _move(rollout, at, Phase.ROLLED_BACK, f"closed, no server was changed; {why}")
    return _move(_at_step(replace(rollout, promoted=()), 0), at, Phase.ROLLING_BACK, why)


def _hold(rollout: Rollout, at: float, why: str) -> Transition:
    return _move(replace(rollout, held_from=rollout.phase), at, Phase.HELD, why)


def _resume(rollout: Rollout, at: float, why: str) -> Transition:
    back_to = rollout.held_from or Phase.SHADOWING
    more = rollout.extensions + (rollout.verdict is Verdict.INCONCLUSIVE)
    again = _at_step(rollout, rollout.step)  # what was seen of a step before the hold says nothing of it now
    return _move(replace(again, held_from=None, extensions=more), at, back_to, why)


def _promote(rollout: Rollout, at: float, why: str) -> Transition:
    """To the users: in steps of traffic where the plan has some, else server by server at once."""
    if not rollout.plan.traffic_steps:
        return _flip(rollout, at, why)
    ready = _at_step(replace(rollout, held_from=None, promoted=rollout.dedicated), 0)
    return _move(ready, at, Phase.RAMPING, why)


def _next_step(rollout: Rollout, at: float, why: str) -> Transition:
    if rollout.step == len(rollout.plan.traffic_steps):
        return _flip(rollout, at, why)
    on = _at_step(rollout, rollout.step + 1)
    return _move(on, at, Phase.RAMPING, f"{why}; next step: {percent(wanted_share(on))}")


def _at_step(rollout: Rollout, step: int) -> Rollout:
    """That step is ordered, and nothing seen of it yet."""
    return replace(rollout, step=step, step_at=None, step_from=None)


def _flip(rollout: Rollout, at: float, why: str) -> Transition:
    """The servers that take users at rest, one wave after the other; at whatever share the last step had."""
    begun = any(name in rollout.promoted for name in rollout.serving)
    first = () if begun else rollout.serving[: rollout.plan.at_once]
    ahead = replace(rollout, held_from=None, promoted=(*rollout.promoted, *first))
    return _move(ahead, at, Phase.PROMOTING, why)


def _move(rollout: Rollout, at: float, phase: Phase, why: str) -> Transition:
    after = replace(rollout, phase=phase, phase_since=at, why=why)
    return Transition(before=rollout, after=after, why=why)


def _note(rollout: Rollout, why: str) -> Transition:
    """Where it stands, but with something new to say."""
    return Transition(before=rollout, after=replace(rollout, why=why), why=why)


def _stay(rollout: Rollout, why: str, *, refused: bool = False) -> Transition:
    return Transition(before=rollout, after=rollout, why=why, refused=refused)


def _all_settled(looked: Looked) -> bool:
    """Every server of the fleet is, and every gateway; a fleet without servers shows nothing."""
    return set(looked.progress.values()) == {Progress.SETTLED} == {looked.gateway}


def _first(looked: Looked, what: Progress) -> ServerName | None:
    return next((name for name, progress in sorted(looked.progress.items()) if progress is what), None)


def _worst(looked: Looked) -> str:
    """The first server or gateway that is not settled, with its reason."""
    for progress in (Progress.FAILED, Progress.UNSEEN, Progress.BEHIND):
        if name := _first(looked, progress):
            return f"{name}: {looked.detail.get(name, progress)}"
    return looked.gateway_detail or "every server is settled"


def _laggard(looked: Looked) -> str:
    return "a gateway" if set(looked.progress.values()) <= {Progress.SETTLED} else "a server"


def _overdue(rollout: Rollout, looked: Looked) -> bool:
    behind = {name for name, progress in looked.progress.items() if progress is not Progress.SETTLED}
    newcomers = bool(behind) and behind <= set(rollout.joining)  # they have the new version to load first
    return _late(rollout, looked, rollout.plan.load_seconds if newcomers else rollout.plan.change_seconds)


def _late(rollout: Rollout, looked: Looked, seconds: float) -> bool:
    """What is waited for has had so long, and so has the newest of those that are still joining.

    An agent that has just begun has seen next to nothing: what was due while none was there gets the time of a change.
    """
    lasted = looked.at - rollout.waits_since if looked.lasted is None or looked.joined else looked.lasted
    return lasted >= seconds and looked.watched >= min(seconds, rollout.plan.change_seconds)
