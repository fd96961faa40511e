"""SQLite and PostgreSQL as the store needs them: what a transaction is, and how long one waits.

Writers wait for each other from their first statement on (BEGIN IMMEDIATE, an
advisory lock), so that read-then-write is never stale. Readers hold nobody up:
a page that draws a long evidence log must not keep the lease from being renewed.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from haldane.ports import Unavailable

WRITES = "haldane_writes"  # an execution option: this transaction is a writer's
_POSTGRESQL_LOCK = 0x48414C44  # "HALD", the advisory lock of whoever writes
# Without these a partitioned server holds a worker thread, and with it the end of the process, for minutes.
_POSTGRESQL_LIMITS = {
    "connect_timeout": "5",
    "tcp_user_timeout": "8000",
    "options": "-c statement_timeout=8000 -c lock_timeout=5000",
}


def open_engine(url: str, *, new: bool) -> sa.Engine:
    """The database at an SQLAlchemy URL; `new`: also where there is none yet. Unavailable when it cannot be had."""
    try:
        parsed = sa.make_url(url)
        limits = {key: value for key, value in _POSTGRESQL_LIMITS.items() if key not in parsed.query}
        known = parsed.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")
        engine = sa.create_engine(parsed, pool_pre_ping=True, connect_args=limits if known else {})
    except ImportError as error:
        raise Unavailable("store", f"cannot open the store: {error}") from error
    except (SQLAlchemyError, ValueError) as error:  # which may quote the URL, password and all
        raise Unavailable("store", f"its URL cannot be read ({type(error).__name__})") from None
    if engine.dialect.name == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise Unavailable("store", "a store in memory would be forgotten with the process; name a file")
        if not new and not Path(str(parsed.database)).exists():
            raise Unavailable("store", f"there is no {parsed.database}; an agent makes it when it first runs")
        sa.event.listen(engine, "connect", _sqlite_pragmas)
        sa.event.listen(engine, "begin", _begin_sqlite)
        sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "begin", _begin_postgresql)
        engine = engine.execution_options(isolation_level="READ COMMITTED")
    return engine


def _sqlite_pragmas(connection: Any, _: Any) -> None:
    """WAL, and every commit on disk before it returns: store, then act."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: sa.Connection) -> None:
    """READ COMMITTED behind the lock: every statement after it sees what the last writer left."""
    if connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_LOCK})")
