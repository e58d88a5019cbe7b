"""SQLAlchemy engines, set up the way that the stores need them."""

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.persistence.urls import Postgres, Sqlite

__all__ = ["postgres_engine", "sqlite_reader", "sqlite_writer"]

_READERS = 4


def sqlite_writer(database: Sqlite, *, is_power_safe: bool, busy_timeout_s: float) -> Engine:
    """Return an engine for the one connection that writes, in autocommit mode. It waits so long for other processes' locks."""
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(database.path)),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": busy_timeout_s, "cached_statements": 512},
    )
    # in WAL mode NORMAL loses nothing when the process dies, FULL nothing when the power does: docs/adr/0003
    pragmas = ("journal_mode = WAL", f"synchronous = {'FULL' if is_power_safe else 'NORMAL'}", "wal_autocheckpoint = 2000")
    event.listen(engine, "connect", lambda connection, _: _set(connection, pragmas))
    return engine


def sqlite_reader(database: Sqlite, *, busy_timeout_s: float) -> AsyncEngine:
    """Return an engine for connections that only read."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(database.path)),
        isolation_level="AUTOCOMMIT",
        pool_size=_READERS,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": busy_timeout_s},
    )
    event.listen(engine.sync_engine, "connect", lambda connection, _: _set(connection, ("query_only = ON",)))
    return engine


def postgres_engine(database: Postgres, *, pool_size: int, is_pgbouncer: bool) -> AsyncEngine:
    """Return an engine whose statements commit by themselves unless a transaction is begun."""
    connect = dict(database.connect)
    if is_pgbouncer:  # in transaction mode the next statement may meet a server that does not know it
        connect |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    return create_async_engine(
        database.url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args=connect,
    )


def _set(connection: Any, pragmas: tuple[str, ...]) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
