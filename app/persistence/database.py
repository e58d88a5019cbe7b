"""What differs between SQLite and PostgreSQL: how to connect, who may change the schema, and where a delete runs."""

import asyncio
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from app.persistence import migrating
from app.persistence.engines import postgres_engine, sqlite_reader, sqlite_writer
from app.persistence.migrating import SchemaMismatch
from app.persistence.postgres_writer import PostgresWriter
from app.persistence.reader import available
from app.persistence.sqlite_writer import SqliteWriter
from app.persistence.statements import CHILDREN, DELETE_SESSION
from app.persistence.tables import HEAD_REVISION
from app.persistence.urls import Postgres, Sqlite
from app.persistence.writer import Writer

__all__ = ["Database", "PostgresDatabase", "SqliteDatabase"]

_WRITE_TIMEOUT_S = 15.0


class Database(Protocol):
    """A database that a SqlStore works on."""

    @property
    def reader(self) -> AsyncEngine: ...

    @property
    def writer(self) -> Writer: ...

    async def prepare(self) -> None:
        """Connect and look at the schema. Raises StoreUnavailable, SchemaMismatch."""
        ...

    async def delete_session(self, session_id: str) -> bool:
        """Delete everything of a session in one transaction; return whether it was there. Raises StoreUnavailable."""
        ...

    async def close(self) -> None: ...


class SqliteDatabase:
    """A file. It brings its schema up to date by itself."""

    def __init__(self, database: Sqlite, *, is_power_safe: bool, busy_timeout_s: float) -> None:
        self._database = database
        self.reader = sqlite_reader(database, busy_timeout_s=busy_timeout_s)
        self.writer = SqliteWriter(sqlite_writer(database, is_power_safe=is_power_safe, busy_timeout_s=busy_timeout_s))

    async def prepare(self) -> None:
        await asyncio.to_thread(migrating.on_sqlite, self._database, is_upgrade=True)

    async def delete_session(self, session_id: str) -> bool:
        async with available():
            return await self.writer.run(lambda connection: _delete(connection, session_id))

    async def close(self) -> None:
        await self.writer.close()
        await self.reader.dispose()


class PostgresDatabase:
    """A server. Its schema is changed at start only if `is_migrating`."""

    def __init__(self, database: Postgres, *, pool_size: int, is_pgbouncer: bool, is_migrating: bool) -> None:
        self._database = database
        self._is_migrating = is_migrating
        self.reader = postgres_engine(database, pool_size=pool_size, is_pgbouncer=is_pgbouncer)
        self.writer = PostgresWriter(self.reader, timeout_s=_WRITE_TIMEOUT_S)

    async def prepare(self) -> None:
        found = await migrating.on_postgres(self._database, is_upgrade=self._is_migrating)
        if found != HEAD_REVISION:
            raise SchemaMismatch(found)

    async def delete_session(self, session_id: str) -> bool:
        async with available(), self.reader.begin() as connection:
            is_deleted: bool = await connection.run_sync(_delete, session_id)
        return is_deleted

    async def close(self) -> None:
        await self.writer.close()
        await self.reader.dispose()


def _delete(connection: Connection, session_id: str) -> bool:
    # the session first: its row's lock keeps out a commit, whose rows would otherwise stay behind
    key = connection.execute(DELETE_SESSION, {"session_id": session_id}).scalar_one_or_none()
    if key is None:
        return False
    for statement in CHILDREN:
        connection.execute(statement, {"key": key})
    return True
