"""The Store on SQLAlchemy Core: SQLite by default, PostgreSQL by URL.

One transaction per decision: the rollout, its records and the model's stable
version are stored together or not at all. Revisions make a second writer fail
instead of overwriting; the lease keeps it from starting.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from haldane.adapters import sql_labels
from haldane.adapters.rows import record_from_row, record_to_row, rollout_from_json, rollout_to_json
from haldane.adapters.sql_engine import WRITES, open_engine
from haldane.domain.entries import Entry, read_entry, schema_of
from haldane.domain.fleet import ModelName
from haldane.domain.labels import Arrivals, Awaiting, Label, Receipt
from haldane.domain.record import Record, chain
from haldane.domain.rollout import Phase, Rollout, RolloutId
from haldane.ports import Malformed, StaleWrite, Unavailable

META = sql_labels.META
ROLLOUTS = sa.Table(
    "rollouts",
    META,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, unique=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("phase", sa.String(16), nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
)
RECORDS = sa.Table(
    "records",
    META,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("rollout", sa.String(64), nullable=False, index=True),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
EVIDENCE = sa.Table(
    "pair_batches",
    META,
    sa.Column("rollout", sa.String(64), primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("rows", sa.LargeBinary, nullable=False),
)
SETTLED = sa.Table(
    "settled",
    META,
    sa.Column("model", sa.String(256), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("declared", sa.BigInteger, nullable=False),
)
LEASE = sa.Table(
    "lease",
    META,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("until", sa.Double, nullable=False),
)

_FINAL = [phase.value for phase in Phase if phase.final]
_ENTRIES_AT_ONCE = 64  # of an evidence log, about 9 KB each: no transaction is held while they are judged


class SqlStore:
    """Rollouts, evidence logs, records, lease. Synchronous; safe to call from worker threads."""

    def __init__(
        self, engine: sa.Engine, name: str = "store", *, room: sql_labels.Room | None = None, new: bool = True
    ) -> None:
        self._engine, self._name, self._room = engine, name, room or sql_labels.Room()
        self._writer = engine.execution_options(**{WRITES: True})
        self._holder: str | None = None  # by whose lease this process writes; None: it never held one
        if new:
            with self._writing() as connection:
                META.create_all(connection)

    def _writing(self) -> AbstractContextManager[sa.Connection]:
        return self._transaction(self._writer)

    @contextmanager
    def _acting(self) -> Iterator[sa.Connection]:
        """Write what an agent decides. One that wakes after another took its lease writes nothing into its work."""
        with self._writing() as connection:
            if self._holder is not None and connection.scalar(sa.select(LEASE.c.holder)) != self._holder:
                raise StaleWrite(self._name, "another agent took the lease, or it was given back")
            yield connection

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        return self._transaction(self._engine)

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            raise StaleWrite(self._name, "another writer was first") from error
        except SQLAlchemyError as error:
            raise Unavailable(self._name, f"{type(error).__name__}: {error.__cause__ or ''}".strip()) from error

    def live(self) -> list[tuple[Rollout, int]]:
        query = sa.select(ROLLOUTS).where(ROLLOUTS.c.phase.not_in(_FINAL)).order_by(ROLLOUTS.c.number)
        with self._reading() as connection:
            return [(rollout_from_json(row.body), row.revision) for row in connection.execute(query)]

    def rollouts(self, limit: int = 100) -> list[Rollout]:
        query = sa.select(ROLLOUTS.c.body).order_by(ROLLOUTS.c.number.desc()).limit(limit)
        with self._reading() as connection:
            return [rollout_from_json(row.body) for row in connection.execute(query)]

    def rollout(self, rollout: RolloutId) -> tuple[Rollout, int] | None:
        with self._reading() as connection:
            row = connection.execute(sa.select(ROLLOUTS).where(ROLLOUTS.c.id == rollout)).first()
        return (rollout_from_json(row.body), row.revision) if row else None

    def commit(
        self,
        rollout: Rollout,
        revision: int | None,
        records: Iterable[tuple[str, dict[str, Any]]],
        *,
        settled: tuple[ModelName, int, int] | None = None,
    ) -> int:
        with self._acting() as connection:
            if revision is None:
                after = self._insert(connection, rollout)
            else:
                after = self._update(connection, rollout, revision)
            for kind, data in records:
                self._append(connection, kind, data, rollout.id, rollout.model)
            if settled:
                self._settle(connection, *settled)
        return after

    def _insert(self, connection: sa.Connection, rollout: Rollout) -> int:
        number = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(ROLLOUTS.c.number), 0) + 1))
        values = {"id": rollout.id, "number": number, "revision": 1, "model": rollout.model}
        connection.execute(
            sa.insert(ROLLOUTS).values(**values, phase=rollout.phase.value, body=rollout_to_json(rollout))
        )
        return 1

    def _update(self, connection: sa.Connection, rollout: Rollout, revision: int) -> int:
        changed = connection.execute(
            sa.update(ROLLOUTS)
            .where(ROLLOUTS.c.id == rollout.id, ROLLOUTS.c.revision == revision)
            .values(revision=revision + 1, phase=rollout.phase.value, body=rollout_to_json(rollout))
        )
        if changed.rowcount != 1:
            raise StaleWrite(self._name, f"rollout {rollout.id} is no longer at revision {revision}")
        return revision + 1

    def _settle(self, connection: sa.Connection, model: ModelName, version: int, declared: int) -> None:
        values = {"version": version, "declared": declared}
        changed = connection.execute(sa.update(SETTLED).where(SETTLED.c.model == model).values(**values))
        if changed.rowcount == 0:
            connection.execute(sa.insert(SETTLED).values(model=model, **values))

    def settled(self) -> dict[ModelName, tuple[int, int]]:
        with self._reading() as connection:
            rows = connection.execute(sa.select(SETTLED))
            return {ModelName(row.model): (row.version, row.declared) for row in rows}

    def append_evidence(
        self, rollout: RolloutId, entry: Entry, *, awaiting: Sequence[Awaiting] = (), joined: Sequence[int] = ()
    ) -> int:
        """Stored once: an entry appended again because its first acknowledgement was lost is not counted twice."""
        rows, schema = entry.tobytes(), schema_of(entry)
        with self._acting() as connection:
            query = (
                sa.select(EVIDENCE.c.n, EVIDENCE.c.rows)
                .where(EVIDENCE.c.rollout == rollout)
                .order_by(EVIDENCE.c.n.desc())
            )
            last = connection.execute(query.limit(1)).first()
            if last is not None and rows and last.rows == rows:
                return 0
            n = 1 if last is None else last.n + 1
            connection.execute(sa.insert(EVIDENCE).values(rollout=rollout, n=n, schema=schema, rows=rows))
            if not awaiting and not joined:
                return 0
            model = ModelName(connection.scalar(sa.select(ROLLOUTS.c.model).where(ROLLOUTS.c.id == rollout)) or "")
            sql_labels.mark_joined(connection, rollout, model, joined)
            return sql_labels.add_awaiting(connection, rollout, model, awaiting, room=self._room)

    def evidence(self, rollout: RolloutId) -> Iterator[Entry]:
        query = (
            sa.select(EVIDENCE.c.n, EVIDENCE.c.schema, EVIDENCE.c.rows)
            .where(EVIDENCE.c.rollout == rollout)
            .order_by(EVIDENCE.c.n)
        )
        after = 0
        while rows := self._some_evidence(query.where(EVIDENCE.c.n > after).limit(_ENTRIES_AT_ONCE)):
            after = rows[-1][0]
            for _, schema, stored in rows:
                try:
                    entry = read_entry(schema, stored)
                except ValueError as error:
                    raise Malformed(self._name, str(error)) from error
                yield entry

    def _some_evidence(self, query: sa.Select[Any]) -> list[tuple[int, int, bytes]]:
        with self._reading() as connection:
            return [(row.n, row.schema, row.rows) for row in connection.execute(query)]

    def put_labels(self, model: ModelName, labels: Sequence[Label], *, at: float, keep_seconds: float) -> Receipt:
        with self._writing() as connection:
            return sql_labels.put(connection, model, labels, at=at, keep_seconds=keep_seconds, room=self._room)

    def arrived(self, rollout: RolloutId, model: ModelName, *, after: int, limit: int) -> Arrivals:
        with self._reading() as connection:
            return sql_labels.arrived(connection, rollout, model, after=after, limit=limit)

    def stop_waiting(self, rollout: RolloutId) -> int:
        waited, some = 0, 1
        while some:
            with self._acting() as connection:
                some, unjoined = sql_labels.stop_waiting(connection, rollout)
            waited += unjoined
        return waited

    def record(self, kind: str, data: dict[str, Any], *, rollout: str = "", model: str = "") -> Record:
        with self._acting() as connection:
            return self._append(connection, kind, data, rollout, model)

    def _append(self, connection: sa.Connection, kind: str, data: dict[str, Any], rollout: str, model: str) -> Record:
        last = connection.execute(sa.select(RECORDS).order_by(RECORDS.c.seq.desc()).limit(1)).mappings().first()
        record = chain(
            record_from_row(last) if last else None, at=time.time(), kind=kind, rollout=rollout, model=model, data=data
        )
        connection.execute(sa.insert(RECORDS).values(**record_to_row(record)))
        return record

    def records(
        self, rollout: RolloutId | None = None, *, kinds: Collection[str] = (), after: int = 0, limit: int = 1000
    ) -> list[Record]:
        query = sa.select(RECORDS).where(RECORDS.c.seq > after).order_by(RECORDS.c.seq).limit(limit)
        if rollout is not None:
            query = query.where(RECORDS.c.rollout == rollout)
        if kinds:
            query = query.where(RECORDS.c.kind.in_(sorted(kinds)))
        with self._reading() as connection:
            return [record_from_row(row) for row in connection.execute(query).mappings()]

    def hold_lease(self, holder: str, *, seconds: float) -> bool:
        if got := self._hold_lease(holder, seconds):
            self._holder = holder
        return got

    def _hold_lease(self, holder: str, seconds: float) -> bool:
        now = time.time()
        mine = sa.or_(LEASE.c.holder == holder, LEASE.c.until < now)
        with self._writing() as connection:
            taken = connection.execute(
                sa.update(LEASE).where(LEASE.c.name == "act", mine).values(holder=holder, until=now + seconds)
            )
            if taken.rowcount == 1:
                return True
            if connection.scalar(sa.select(sa.func.count()).select_from(LEASE)):
                return False
            connection.execute(sa.insert(LEASE).values(name="act", holder=holder, until=now + seconds))
            return True

    def lease_holder(self) -> str | None:
        with self._reading() as connection:
            holder = connection.scalar(sa.select(LEASE.c.holder))
        return None if holder is None else str(holder)

    def release_lease(self, holder: str) -> None:
        """Let the next agent in at once; a clean stop."""
        with self._writing() as connection:
            connection.execute(sa.delete(LEASE).where(LEASE.c.holder == holder))
        if holder == self._holder:
            self._holder = None

    def close(self) -> None:
        self._engine.dispose()


def open_store(url: str, *, room: sql_labels.Room | None = None, new: bool = True) -> SqlStore:
    """The store at an SQLAlchemy URL, e.g. "sqlite:///haldane.db"; Unavailable when it cannot be opened.

    `new`: make it where there is none; a reader asks for one that is there.
    """
    return SqlStore(open_engine(url, new=new), "store", room=room, new=new)
