"""The Store on SQLAlchemy Core: SQLite by default, PostgreSQL by URL.

One transaction per decision: the rollout, its records and the model's stable
version are stored together or not at all. Revisions make a second writer fail
instead of overwriting; the lease keeps it from starting.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from haldane.adapters.rows import record_from_row, record_to_row, rollout_from_json, rollout_to_json
from haldane.domain.fleet import ModelName
from haldane.domain.record import Record, chain
from haldane.domain.rollout import Phase, Rollout, RolloutId
from haldane.domain.traffic import PAIR_DTYPE, SCHEMA, Batch
from haldane.ports import Malformed, StaleWrite, Unavailable

META = sa.MetaData()
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
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("rollout", sa.String(64), nullable=False, index=True),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
PAIRS = sa.Table(
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


class SqlStore:
    """Rollouts, pair logs, records, lease. Synchronous; safe to call from worker threads."""

    def __init__(self, engine: sa.Engine, name: str = "store") -> None:
        self._engine, self._name = engine, name
        with self._transaction() as connection:
            META.create_all(connection)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            raise StaleWrite(self._name, "another writer was first") from error
        except SQLAlchemyError as error:
            raise Unavailable(self._name, f"{type(error).__name__}: {error.__cause__ or ''}".strip()) from error

    def live(self) -> list[tuple[Rollout, int]]:
        query = sa.select(ROLLOUTS).where(ROLLOUTS.c.phase.not_in(_FINAL)).order_by(ROLLOUTS.c.number)
        with self._transaction() as connection:
            return [(rollout_from_json(row.body), row.revision) for row in connection.execute(query)]

    def rollouts(self, limit: int = 100) -> list[Rollout]:
        query = sa.select(ROLLOUTS.c.body).order_by(ROLLOUTS.c.number.desc()).limit(limit)
        with self._transaction() as connection:
            return [rollout_from_json(row.body) for row in connection.execute(query)]

    def rollout(self, rollout: RolloutId) -> tuple[Rollout, int] | None:
        with self._transaction() as connection:
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
        with self._transaction() as connection:
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
        with self._transaction() as connection:
            rows = connection.execute(sa.select(SETTLED))
            return {ModelName(row.model): (row.version, row.declared) for row in rows}

    def append_pairs(self, rollout: RolloutId, batch: Batch) -> None:
        with self._transaction() as connection:
            query = sa.select(sa.func.coalesce(sa.func.max(PAIRS.c.n), 0) + 1).where(PAIRS.c.rollout == rollout)
            values = {"rollout": rollout, "n": connection.scalar(query), "schema": SCHEMA, "rows": batch.tobytes()}
            connection.execute(sa.insert(PAIRS).values(**values))

    def pairs(self, rollout: RolloutId) -> Iterator[Batch]:
        query = sa.select(PAIRS.c.schema, PAIRS.c.rows).where(PAIRS.c.rollout == rollout).order_by(PAIRS.c.n)
        with self._transaction() as connection:
            for row in connection.execution_options(stream_results=True).execute(query):
                if row.schema != SCHEMA:
                    raise Malformed(self._name, f"pair log of schema {row.schema}; this release reads {SCHEMA}")
                yield np.frombuffer(row.rows, PAIR_DTYPE)

    def record(self, kind: str, data: dict[str, Any], *, rollout: str = "", model: str = "") -> Record:
        with self._transaction() as connection:
            return self._append(connection, kind, data, rollout, model)

    def _append(self, connection: sa.Connection, kind: str, data: dict[str, Any], rollout: str, model: str) -> Record:
        last = connection.execute(sa.select(RECORDS).order_by(RECORDS.c.seq.desc()).limit(1)).mappings().first()
        record = chain(
            record_from_row(last) if last else None, at=time.time(), kind=kind, rollout=rollout, model=model, data=data
        )
        connection.execute(sa.insert(RECORDS).values(**record_to_row(record)))
        return record

    def records(self, rollout: RolloutId | None = None, *, after: int = 0, limit: int = 1000) -> list[Record]:
        query = sa.select(RECORDS).where(RECORDS.c.seq > after).order_by(RECORDS.c.seq).limit(limit)
        if rollout is not None:
            query = query.where(RECORDS.c.rollout == rollout)
        with self._transaction() as connection:
            return [record_from_row(row) for row in connection.execute(query).mappings()]

    def hold_lease(self, holder: str, *, seconds: float) -> bool:
        now = time.time()
        mine = sa.or_(LEASE.c.holder == holder, LEASE.c.until < now)
        with self._transaction() as connection:
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
        with self._transaction() as connection:
            holder = connection.scalar(sa.select(LEASE.c.holder))
        return None if holder is None else str(holder)

    def release_lease(self, holder: str) -> None:
        """Let the next agent in at once; a clean stop."""
        with self._transaction() as connection:
            connection.execute(sa.delete(LEASE).where(LEASE.c.holder == holder))

    def close(self) -> None:
        self._engine.dispose()


def _sqlite_pragmas(connection: Any, _: Any) -> None:
    """WAL, and every commit on disk before it returns: store, then act."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def open_store(url: str) -> SqlStore:
    """The store at an SQLAlchemy URL, e.g. "sqlite:///haldane.db"; Unavailable when it cannot be opened."""
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
    except (SQLAlchemyError, ImportError) as error:
        raise Unavailable("store", f"cannot open the store: {error}") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_pragmas)
        # One writer at a time from the first statement on, so that read-then-write is never stale.
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    else:
        engine = engine.execution_options(isolation_level="SERIALIZABLE")
    return SqlStore(engine, "store")
