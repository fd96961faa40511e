"""The tables of labels and of the pairs that wait for them; part of the SQL store, within its transactions.

Labels are kept for a time, whether their pair came before them or comes after.
Both tables are bounded. A pair that was joined stays as an empty row, so that its
request is never judged twice.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from haldane.domain.fleet import ModelName
from haldane.domain.labels import Arrivals, Arrived, Awaiting, Label, Receipt
from haldane.domain.rollout import RolloutId
from haldane.domain.traffic import Api

Kept = TypeVar("Kept", Label, Awaiting)

_AT_ONCE = 500  # keys in one statement
_LET_GO_AT_ONCE = 5000  # pairs in one transaction: others want to write, and the lease to be renewed

META = sa.MetaData()
AWAITING = sa.Table(
    "awaiting",
    META,
    sa.Column("rollout", sa.String(64), primary_key=True),
    sa.Column("request", sa.String(16), primary_key=True),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("joined", sa.Boolean, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("answered_at", sa.Double, nullable=False),
    sa.Column("server", sa.Integer, nullable=False),
    sa.Column("slices", sa.BigInteger, nullable=False),
    sa.Column("api", sa.String(16), nullable=False),
    sa.Column("stable", sa.LargeBinary),
    sa.Column("canary", sa.LargeBinary),
    sa.Index("awaiting_by_request", "model", "request"),
)
LABELS = sa.Table(
    "labels",
    META,
    sa.Column("model", sa.String(256), primary_key=True),
    sa.Column("request", sa.String(16), primary_key=True),
    sa.Column("truth", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("used", sa.Boolean, nullable=False),
    sa.Column("place", sa.BigInteger, nullable=False),  # in the order in which labels are to be looked at
    sa.Index("labels_by_place", "model", "place"),
    sa.Index("labels_by_age", "model", "at"),
)


@dataclass(frozen=True, slots=True)
class Room:
    """How much is kept at most."""

    awaiting: int = 200_000  # pairs of one rollout: about 100 bytes each for a probability, kB for many classes
    labels: int = 500_000  # of one model, about 100 bytes each


def put(
    connection: sa.Connection, model: ModelName, labels: Sequence[Label], *, at: float, keep_seconds: float, room: Room
) -> Receipt:
    fresh = _fresh(connection, LABELS, LABELS.c.model == model, labels)
    place = _next_place(connection, model, at)
    rows = [
        {"model": model, "request": key, "truth": json.dumps(label.truth), "at": at, "used": False, "place": place + i}
        for i, (key, label) in enumerate(fresh.items())
    ]
    if rows:
        connection.execute(sa.insert(LABELS), rows)
    expired = _forget(connection, model, LABELS.c.at < at - keep_seconds)
    return Receipt(
        accepted=len(fresh),
        duplicate=len(labels) - len(fresh),
        unknown=len(fresh) - _waiting(connection, model, list(fresh)),
        expired=expired,
        dropped=_make_room(connection, model, room.labels),
    )


def _fresh(
    connection: sa.Connection, table: sa.Table, mine: sa.ColumnElement[bool], items: Sequence[Kept]
) -> dict[str, Kept]:
    """By key, the first of each request among `items` that the table does not hold."""
    fresh: dict[str, Kept] = {}
    for item in items:
        fresh.setdefault(_key(item.request), item)
    for keys in _portions(list(fresh)):
        known = sa.select(table.c.request).where(mine, table.c.request.in_(keys))
        for key in connection.scalars(known):
            del fresh[key]
    return fresh


def _next_place(connection: sa.Connection, model: ModelName, at: float) -> int:
    """Ascending even when every label was forgotten since: no smaller than the time in microseconds."""
    last = connection.scalar(sa.select(sa.func.max(LABELS.c.place)).where(LABELS.c.model == model)) or 0
    return max(int(last) + 1, int(at * 1e6))


def _waiting(connection: sa.Connection, model: ModelName, keys: Sequence[str]) -> int:
    """How many of these requests have a pair that waits."""
    found = 0
    for some in _portions(keys):
        mine = AWAITING.c.model == model, AWAITING.c.request.in_(some), ~AWAITING.c.joined
        found += connection.scalar(sa.select(sa.func.count(sa.distinct(AWAITING.c.request))).where(*mine)) or 0
    return found


def _forget(connection: sa.Connection, model: ModelName, which: sa.ColumnElement[bool]) -> int:
    """Delete these labels; how many of them never found a pair."""
    unused = sa.select(sa.func.count()).select_from(LABELS).where(LABELS.c.model == model, which, ~LABELS.c.used)
    count = connection.scalar(unused) or 0
    connection.execute(sa.delete(LABELS).where(LABELS.c.model == model, which))
    return count


def _make_room(connection: sa.Connection, model: ModelName, most: int) -> int:
    """Forget the oldest labels beyond the bound."""
    count = connection.scalar(sa.select(sa.func.count()).select_from(LABELS).where(LABELS.c.model == model)) or 0
    if count <= most:
        return 0
    places = sa.select(LABELS.c.place).where(LABELS.c.model == model).order_by(LABELS.c.place)
    first_kept = connection.scalar(places.offset(count - most).limit(1))
    return _forget(connection, model, LABELS.c.place < first_kept)


def add_awaiting(
    connection: sa.Connection, rollout: RolloutId, model: ModelName, pairs: Sequence[Awaiting], *, room: Room
) -> int:
    """Keep what waits; how many found no room. A request that was kept before, joined or not, is left as it is."""
    fresh = _fresh(connection, AWAITING, AWAITING.c.rollout == rollout, pairs)
    mine = sa.select(sa.func.count()).select_from(AWAITING).where(AWAITING.c.rollout == rollout)
    left = max(0, room.awaiting - (connection.scalar(mine) or 0))
    kept = list(fresh.items())[:left]
    rows = [{"rollout": rollout, "model": model, "joined": False, **_columns(key, pair)} for key, pair in kept]
    if rows:
        connection.execute(sa.insert(AWAITING), rows)
        _look_again(connection, model, [key for key, _ in kept])
    return len(fresh) - len(kept)


def _columns(key: str, pair: Awaiting) -> dict[str, Any]:
    return {
        "request": key,
        "at": pair.at,
        "answered_at": pair.answered_at,
        "server": pair.server,
        "slices": pair.slices,
        "api": pair.api.value,
        "stable": pair.stable,
        "canary": pair.canary,
    }


def _look_again(connection: sa.Connection, model: ModelName, keys: Sequence[str]) -> None:
    """Labels that came before their pair get a new place, after whoever has looked already."""
    place: int | None = None
    for some in _portions(keys):
        early = sa.select(LABELS.c.request, LABELS.c.at).where(LABELS.c.model == model, LABELS.c.request.in_(some))
        for key, at in connection.execute(early).all():
            place = _next_place(connection, model, at) if place is None else place + 1
            mine = LABELS.c.model == model, LABELS.c.request == key
            connection.execute(sa.update(LABELS).where(*mine).values(place=place))


def arrived(connection: sa.Connection, rollout: RolloutId, model: ModelName, *, after: int, limit: int) -> Arrivals:
    newest = connection.scalar(sa.select(sa.func.max(LABELS.c.place)).where(LABELS.c.model == model)) or 0
    same = sa.and_(AWAITING.c.rollout == rollout, AWAITING.c.request == LABELS.c.request, ~AWAITING.c.joined)
    query = (
        sa.select(AWAITING, LABELS.c.truth, LABELS.c.place, LABELS.c.at.label("came_at"))
        .select_from(sa.join(LABELS, AWAITING, same))
        .where(LABELS.c.model == model, LABELS.c.place > after)
        .order_by(LABELS.c.place)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    last = rows[-1].place if len(rows) == limit else max(after, newest)
    return Arrivals([Arrived(_pair(row), json.loads(row.truth), row.came_at) for row in rows], last)


def _pair(row: Any) -> Awaiting:
    return Awaiting(
        request=int(row.request, 16),
        at=row.at,
        answered_at=row.answered_at,
        server=row.server,
        slices=row.slices,
        api=Api(row.api),
        stable=row.stable,
        canary=row.canary,
    )


def mark_joined(connection: sa.Connection, rollout: RolloutId, model: ModelName, requests: Sequence[int]) -> None:
    for keys in _portions([_key(request) for request in requests]):
        mine = AWAITING.c.rollout == rollout, AWAITING.c.request.in_(keys)
        connection.execute(sa.update(AWAITING).where(*mine).values(joined=True, stable=None, canary=None))
        labels = LABELS.c.model == model, LABELS.c.request.in_(keys)
        connection.execute(sa.update(LABELS).where(*labels).values(used=True))


def stop_waiting(connection: sa.Connection, rollout: RolloutId) -> tuple[int, int]:
    """Let some of its pairs go: how many, and how many of them were never joined."""
    mine = AWAITING.c.rollout == rollout
    some = connection.execute(sa.select(AWAITING.c.request, AWAITING.c.joined).where(mine).limit(_LET_GO_AT_ONCE)).all()
    for keys in _portions([row.request for row in some]):
        connection.execute(sa.delete(AWAITING).where(mine, AWAITING.c.request.in_(keys)))
    return len(some), sum(not row.joined for row in some)


def _key(request: int) -> str:
    """64 bits as text: databases know signed integers only."""
    return f"{request:016x}"


def _portions(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))
