"""SQLAlchemy engines, set up the way that the stores need them."""

import asyncio
from functools import partial
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.persistence.urls import Postgres, Sqlite
from app.system.names import Names, ResolvingLoop

__all__ = ["WAL_KEPT_BYTES", "postgres_engine", "sqlite_reader", "sqlite_writer"]

WAL_KEPT_BYTES = 16 * 1024 * 1024  # a write-ahead log that has grown beyond it is made small again


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
    pragmas = (
        "journal_mode = WAL",
        f"synchronous = {'FULL' if is_power_safe else 'NORMAL'}",
        "wal_autocheckpoint = 2000",
        f"journal_size_limit = {WAL_KEPT_BYTES}",
    )
    event.listen(engine, "connect", lambda connection, _: _set(connection, pragmas))
    return engine


def sqlite_reader(database: Sqlite, *, size: int, busy_timeout_s: float) -> AsyncEngine:
    """Return an engine for connections that only read."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(database.path)),
        isolation_level="AUTOCOMMIT",
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": busy_timeout_s},
    )
    event.listen(engine.sync_engine, "connect", lambda connection, _: _set(connection, ("query_only = ON",)))
    return engine


def postgres_engine(database: Postgres, *, pool_size: int, is_pgbouncer: bool) -> AsyncEngine:
    """Return an engine whose statements commit by themselves unless a transaction is begun."""
    names = Names("database")
    connect = {**database.connect, "async_creator_fn": partial(_connected, names)}
    if is_pgbouncer:  # in transaction mode the next statement may meet a server that does not know it
        connect |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    engine = create_async_engine(
        database.url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args=connect,
    )
    event.listen(engine.sync_engine, "engine_disposed", lambda _engine: names.close())
    return engine


async def _connected(names: Names, *arguments: Any, **options: Any) -> Any:
    """Return a connection of asyncpg, which by itself looks names up on the loop's default executor."""
    import asyncpg  # type: ignore[import-untyped]  # no types of its own; here: slow to import, and not needed for SQLite

    return await asyncpg.connect(*arguments, loop=ResolvingLoop(asyncio.get_running_loop(), names), **options)


def _set(connection: Any, pragmas: tuple[str, ...]) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
