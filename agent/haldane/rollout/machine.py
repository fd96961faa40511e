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
        case CommandKind.PAUSE, Phase.LOADING | Phase.SHADOWING | Phase.PROMOTING | Phase.BAKING:
            return _hold(rollout, at, why)
        case CommandKind.RESUME, Phase.HELD:
            return _resume(rollout, at, why)
        case CommandKind.PROMOTE, Phase.SHADOWING | Phase.HELD if rollout.mode is Mode.OBSERVE:
            return _stay(rollout, "observe mode changes no server; run the agent with mode: enforce", refused=True)
        case CommandKind.PROMOTE, Phase.SHADOWING:
            return _promote(rollout, at, why)
        case CommandKind.PROMOTE, Phase.HELD if rollout.held_from in (Phase.SHADOWING, Phase.PROMOTING):
            return _promote(rollout, at, why)
        case kind, phase:
            return _stay(rollout, f"{kind} means nothing while {phase}", refused=True)


def _judged(rollout: Rollout, judged: Judged) -> Transition:
    if not (rollout.phase.judging or rollout.phase is Phase.HELD):
        return _stay(rollout, rollout.why)
    if rollout.verdict is not Verdict.PASS or judged.verdict is Verdict.FAIL:  # a proof given stays given
        rollout = replace(rollout, verdict=judged.verdict)
    match rollout.phase, judged.verdict:
        case Phase.SHADOWING | Phase.PROMOTING | Phase.BAKING, Verdict.FAIL:
            return _withdraw(rollout, judged.at, judged.why)
        case Phase.HELD, Verdict.FAIL if rollout.mode is Mode.ENFORCE:
            return _back(rollout, judged.at, judged.why)
        case Phase.SHADOWING, Verdict.INCONCLUSIVE:
            return _hold(rollout, judged.at, judged.why)
        case Phase.SHADOWING, Verdict.PASS if rollout.mode is Mode.OBSERVE:
            return _hold(rollout, judged.at, f"recommends promoting version {rollout.new}: {judged.why}")
        case Phase.SHADOWING, Verdict.PASS if rollout.joining:
            return _stay(rollout, f"passed; waits for {', '.join(rollout.joining)}, which joined the fleet")
        case Phase.SHADOWING, Verdict.PASS:
            return _promote(rollout, judged.at, judged.why)
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
        case Phase.SHADOWING | Phase.PROMOTING | Phase.BAKING if broken := _first(looked, Progress.FAILED):
            return _withdraw(rollout, looked.at, f"{broken}: {looked.detail.get(broken, '')}")
        case Phase.SHADOWING if rollout.joining and _late(rollout, looked.at, rollout.plan.load_seconds):
            return _hold(rollout, looked.at, f"a server that joined the fleet did not follow: {_worst(looked)}")
        case Phase.PROMOTING:
            return _looked_promoting(rollout, looked)
        case Phase.BAKING if _late(rollout, looked.at, rollout.plan.bake_seconds) and _all_settled(looked):
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
    if (rollout.held_from if rollout.phase is Phase.HELD else rollout.phase) is not Phase.BAKING:
        return rollout
    # The waves are over: who comes now goes where all others are.
    return replace(rollout, promoted=tuple(dict.fromkeys((*rollout.promoted, *rollout.serving))))


def _looked_pending(rollout: Rollout, looked: Looked) -> Transition:
    if rollout.mode is Mode.OBSERVE or _all_settled(looked):
        does = "is awaited" if rollout.mode is Mode.OBSERVE else "is to be loaded"
        return _move(rollout, looked.at, Phase.LOADING, f"version {rollout.new} {does} on every server")
    if _late(rollout, looked.at, rollout.plan.change_seconds):
        return _back(rollout, looked.at, f"never began: {_worst(looked)}")
    return _stay(rollout, rollout.why)


def _looked_loading(rollout: Rollout, looked: Looked) -> Transition:
    if broken := _first(looked, Progress.FAILED):
        return _withdraw(rollout, looked.at, f"{broken}: {looked.detail.get(broken, '')}")
    if _all_settled(looked):
        done = "loaded and proven" if rollout.mode is Mode.OBSERVE else "loaded, proven and labelled"
        why = f"version {rollout.new} is {done} on every server"
        return _move(rollout, looked.at, Phase.SHADOWING, why)
    if _late(rollout, looked.at, rollout.plan.load_seconds):
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
    behind = {name for name, progress in looked.progress.items() if progress is not Progress.SETTLED}
    newcomers = behind <= set(rollout.joining)  # they have the new version to load first
    if _late(rollout, looked.at, rollout.plan.load_seconds if newcomers else rollout.plan.change_seconds):
        return _hold(rollout, looked.at, f"a server did not follow: {_worst(looked)}")
    return _stay(rollout, rollout.why)


def _looked_back(rollout: Rollout, looked: Looked) -> Transition:
    if not rollout.present or _all_settled(looked):
        return _move(rollout, looked.at, Phase.ROLLED_BACK, rollout.why)
    if rollout.phase is Phase.ROLLING_BACK and _late(rollout, looked.at, rollout.plan.change_seconds):
        return _move(rollout, looked.at, Phase.STUCK, f"a server cannot be turned back: {_worst(looked)}")
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
    return _move(replace(rollout, promoted=()), at, Phase.ROLLING_BACK, why)


def _hold(rollout: Rollout, at: float, why: str) -> Transition:
    return _move(replace(rollout, held_from=rollout.phase), at, Phase.HELD, why)


def _resume(rollout: Rollout, at: float, why: str) -> Transition:
    back_to = rollout.held_from or Phase.SHADOWING
    more = rollout.extensions + (rollout.verdict is Verdict.INCONCLUSIVE)
    return _move(replace(rollout, held_from=None, extensions=more), at, back_to, why)


def _promote(rollout: Rollout, at: float, why: str) -> Transition:
    first = rollout.promoted or rollout.serving[: rollout.plan.at_once]
    return _move(replace(rollout, held_from=None, promoted=first), at, Phase.PROMOTING, why)


def _move(rollout: Rollout, at: float, phase: Phase, why: str) -> Transition:
    after = replace(rollout, phase=phase, phase_since=at, why=why)
    return Transition(before=rollout, after=after, why=why)


def _stay(rollout: Rollout, why: str, *, refused: bool = False) -> Transition:
    return Transition(before=rollout, after=rollout, why=why, refused=refused)


def _all_settled(looked: Looked) -> bool:
    """Every server of the fleet is; a fleet without servers shows nothing."""
    return bool(looked.progress) and all(progress is Progress.SETTLED for progress in looked.progress.values())


def _first(looked: Looked, what: Progress) -> ServerName | None:
    return next((name for name, progress in sorted(looked.progress.items()) if progress is what), None)


def _worst(looked: Looked) -> str:
    """The first server that is not settled, with its reason."""
    for progress in (Progress.FAILED, Progress.UNSEEN, Progress.BEHIND):
        if name := _first(looked, progress):
            return f"{name}: {looked.detail.get(name, progress)}"
    return "every server is settled"


def _late(rollout: Rollout, at: float, seconds: float) -> bool:
    """The phase has lasted so long, and so has the newest of those that are still joining."""
    since = max(rollout.phase_since, rollout.joined_at) if rollout.joining else rollout.phase_since
    return at - since >= seconds
