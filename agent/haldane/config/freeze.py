"""Times in which no rollout starts and no promotion begins; harm is withdrawn all the same."""

from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from haldane.config.base import Section

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEEK = timedelta(days=7)
_WEEKLY = '"Fri 16:00"'
_ONCE = "2026-12-20T00:00:00+01:00"


def _moment(value: object) -> object:
    """A weekday with a time stays text; a date with a time becomes one that knows its place."""
    if isinstance(value, str) and not _is_weekly(value):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"must be a weekday and a time, {_WEEKLY}, or a date and a time, {_ONCE}") from None
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError(f"says no offset from UTC; write for example {_ONCE}")
    return value


def _is_weekly(text: str) -> bool:
    day, _, time = text.partition(" ")
    hour, _, minute = time.partition(":")
    return day in _DAYS and hour.isdecimal() and minute.isdecimal() and int(hour) < 24 and int(minute) < 60


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{name!r} is no time zone this machine knows; write for example Europe/Berlin") from None
    return name


Moment = Annotated[str | datetime, BeforeValidator(_moment)]
Zone = Annotated[str, AfterValidator(_known_zone)]


class FreezeSection(Section):
    """One such time: every week, or once."""

    since: Moment
    """When it begins: a weekday and a time ("Fri 16:00"), or a date and a time (2026-12-20T00:00:00+01:00)."""

    until: Moment
    """When it is over, in the same form."""

    timezone: Zone = "UTC"
    """Whose weekdays and times these are, e.g. Europe/Berlin."""

    why: Annotated[str, Field(min_length=1, max_length=200)] = "frozen"
    """Told to whoever asks."""

    models: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Of which models: names, or patterns such as finance/*."""

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if type(self.since) is not type(self.until):
            raise ValueError("since and until must both be weekdays with times, or both dates with times")
        if self.since == self.until or (isinstance(self.since, datetime) and self.since > self.until):  # type: ignore[operator]
            raise ValueError("until must come after since")
        return self

    def over_at(self, at: datetime) -> datetime | None:
        """When the freeze that holds at that moment ends; None when it does not hold then. `at` knows its place."""
        if isinstance(self.since, datetime) and isinstance(self.until, datetime):
            return self.until if self.since <= at < self.until else None
        local = at.astimezone(ZoneInfo(self.timezone))
        begun = _last(str(self.since), local)
        ends = _last(str(self.until), begun) + _WEEK
        ends = ends if ends - begun <= _WEEK else ends - _WEEK
        return ends if local < ends else None


def _last(moment: str, local: datetime) -> datetime:
    """The newest of that weekday and time which is not after `local`, on the same clock on the wall."""
    day, _, time = moment.partition(" ")
    hour, minute = (int(part) for part in time.split(":"))
    then = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    then -= timedelta(days=(local.weekday() - _DAYS.index(day)) % 7)
    return then if then <= local else then - _WEEK


def frozen(sections: tuple[FreezeSection, ...], model: str, at: float) -> str:
    """Until when and why nothing goes forward for that model at `at` (seconds since 1970), or ""."""
    now = datetime.fromtimestamp(at, UTC)
    holding = [
        (ends, section)
        for section in sections
        if any(fnmatchcase(model, pattern) for pattern in section.models) and (ends := section.over_at(now)) is not None
    ]
    if not holding:
        return ""
    ends, section = max(holding, key=lambda one: one[0])
    return f"frozen until {ends:%a %d %b %H:%M %Z}: {section.why}"
