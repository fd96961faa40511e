"""What a version took when it was validated, in words, beside the version that is served. Pure."""

from haldane.domain.release import Profile, UnderLoad
from haldane.judge.verdict import quantity


def took(profile: Profile) -> str:
    """Loading, memory and single calls in one sentence."""
    told = f"loaded in {quantity(profile.load_seconds, 'seconds')}"
    told += f", which added {quantity(profile.memory_bytes, 'bytes')}" if profile.memory_bytes else ""
    return told + (f"; one call took {quantity(profile.call_seconds, 'seconds')}" if profile.call_seconds else "")


def with_callers(load: UnderLoad) -> str:
    """Latency and calls per second under load."""
    rate = f"{load.per_second:,.0f}" if load.per_second >= 100 else f"{load.per_second:.3g}"
    return (
        f"{_callers(load)}: p50 {milliseconds(load.p50_seconds)}, p99 {milliseconds(load.p99_seconds)},"
        f" {rate} calls per second"
    )


def beside(new: UnderLoad, version: int, profile: Profile | None) -> str:
    """The p99 beside what `version` had, "" where that was not measured.

    Each was measured where it was published, which may not be the same machine.
    """
    if profile is None or (old := profile.under_load) is None:
        return ""
    told = f"p99 under load {milliseconds(new.p99_seconds)}, version {version} had {milliseconds(old.p99_seconds)}"
    return told + (f" with {_callers(old)}" if old.callers != new.callers else "")


def _callers(load: UnderLoad) -> str:
    return f"{load.callers} caller{'' if load.callers == 1 else 's'} at once"


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
