"""What differs between SQLite and PostgreSQL: how to connect, who may change the schema, and where a delete runs."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.persistence import migrating
from app.persistence.changes import Enqueue
from app.persistence.engines import WAL_KEPT_BYTES, postgres_engine, sqlite_reader, sqlite_writer
from app.persistence.migrating import SchemaMismatch
from app.persistence.postgres_replicas import PostgresReplicas
from app.persistence.postgres_writer import PostgresWriter
from app.persistence.reader import available, reopen
from app.persistence.reader import close as close_engine
from app.persistence.replicas import FileReplica, Replicas
from app.persistence.run_queue import LocalQueue, RunQueue
from app.persistence.sqlite_writer import SqliteWriter
from app.persistence.store_stats import Connections, connections_of
from app.persistence.tables import HEAD_REVISION
from app.persistence.urls import Postgres, Sqlite
from app.persistence.writer import ConnectionLost, DatabaseLocked, Writer
from app.system.host_threads import run_in_own_thread

__all__ = ["Database", "PostgresDatabase", "SqliteDatabase"]

T = TypeVar("T")

_WRITE_TIMEOUT_S = 15.0
_TRUNCATE_S = 0.1

_log = logging.getLogger(__name__)
_READERS = 5  # of an SQLite file
_FOR_RUNS = 2  # connections of the pool that nobody gets who looks through histories
_HELD = 2  # connections of PostgreSQL's pool that are in use all the time: the writer's and the queue's


class _LostBeforeCommit(SQLAlchemyError):
    """The connection is gone, and with it the transaction: nothing was changed."""

    def __init__(self, orig: BaseException | None) -> None:
        super().__init__("the connection was lost before the commit")
        self.orig = orig


class Database(Protocol):
    """A database that a SqlStore works on."""

    @property
    def reader(self) -> AsyncEngine: ...

    @property
    def browsers(self) -> int:
        """How many of the reader's connections may look through histories and lists; the others are for what is to run."""
        ...

    @property
    def probe(self) -> AsyncEngine:
        """A connection to ask whether the database answers. It is in no queue behind anything else."""
        ...

    @property
    def writer(self) -> Writer: ...

    async def prepare(self) -> None:
        """Connect and look at the schema. Raises StoreUnavailable, SchemaMismatch."""
        ...

    @property
    def replicas(self) -> Replicas: ...

    @property
    def queue(self) -> RunQueue: ...

    @property
    def enqueue(self) -> Enqueue:
        """Stores the job of a run, in the transaction that stores the run."""
        ...

    def pools(self) -> Mapping[str, Connections]:
        """The connections at this moment, by what they are for."""
        ...

    async def run(self, change: Callable[[Connection], T]) -> T:
        """Return what `change` does, in a transaction of its own. Raises StoreUnavailable."""
        ...

    def wal_bytes(self) -> int | None:
        """Return the size of the write-ahead log, if it is a file here."""
        ...

    async def tend(self) -> None:
        """Do what has to be done from time to time."""
        ...

    async def claim(self, session_id: str) -> Any:
        """Return the session's row with its newest snapshot, after claiming it. Raises SessionNotFound, ClaimedElsewhere."""
        ...

    async def close(self) -> None: ...


class SqliteDatabase:
    """A file. It brings its schema up to date by itself."""

    def __init__(
        self, database: Sqlite, *, is_power_safe: bool, busy_timeout_s: float, lock_patience_s: float, background_runs: int
    ) -> None:
        self._database = database
        self.reader = sqlite_reader(database, size=_READERS, busy_timeout_s=busy_timeout_s)
        self.browsers = _READERS - _FOR_RUNS
        self.probe = sqlite_reader(database, size=1, busy_timeout_s=busy_timeout_s)
        self._lock_patience_s = lock_patience_s
        engine = sqlite_writer(database, is_power_safe=is_power_safe, busy_timeout_s=busy_timeout_s)
        self.writer = SqliteWriter(engine, database.path)
        self.replicas = FileReplica(database.path)
        self.queue = LocalQueue(background_runs)

    async def prepare(self) -> None:
        for engine in (self.probe, self.reader):
            reopen(engine)
        await run_in_own_thread(migrating.on_sqlite, self._database, is_upgrade=True)

    def enqueue(self, _connection: Connection, _session_id: str, _run_id: str) -> None:
        """The run itself is all that is stored: at the next start it is found by its status."""

    def pools(self) -> Mapping[str, Connections]:
        return {"read": connections_of(self.reader)}

    async def run(self, change: Callable[[Connection], T]) -> T:
        until = asyncio.get_running_loop().time() + self._lock_patience_s
        async with available():
            while True:
                try:
                    return await self.writer.run(change)
                except DatabaseLocked:  # nothing of the change was done
                    if asyncio.get_running_loop().time() >= until:
                        raise

    def wal_bytes(self) -> int:
        try:
            return self._database.path.with_name(f"{self._database.path.name}-wal").stat().st_size
        except OSError:
            return 0

    async def tend(self) -> None:
        if self.wal_bytes() <= WAL_KEPT_BYTES:
            return
        # most of the work is done beside the commits, and the rest of it between two of them
        await run_in_own_thread(_checkpoint, self._database.path)
        with suppress(ConnectionLost):
            if not await self.writer.truncate_log(_TRUNCATE_S):
                _log.info("the write-ahead log is in use and stays as long as it is", extra={"bytes": self.wal_bytes()})

    async def claim(self, session_id: str) -> Any:
        raise NotImplementedError("nobody else is there to claim a session from")

    async def close(self) -> None:
        await self.writer.close()
        await close_engine(self.probe)
        await close_engine(self.reader)


def _checkpoint(path: Path) -> None:
    """Bring into the database what can be brought there without holding up anybody."""
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _single_connection(database: Postgres, *, is_pgbouncer: bool) -> AsyncEngine:
    engine = postgres_engine(database, pool_size=1, is_pgbouncer=is_pgbouncer)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


class PostgresDatabase:
    """A server. Its schema is changed at start only if `is_migrating`."""

    def __init__(
        self, database: Postgres, *, pool_size: int, is_pgbouncer: bool, is_migrating: bool, background_runs: int
    ) -> None:
        from app.persistence.postgres_jobs import enqueue  # here: slow to import, and not needed without PostgreSQL
        from app.persistence.postgres_queue import PostgresQueue

        self._database = database
        self._is_migrating = is_migrating
        self._engine = postgres_engine(database, pool_size=pool_size, is_pgbouncer=is_pgbouncer)
        # a transaction around one statement would be two more ways to the server and back
        self.reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self.browsers = max(1, pool_size - _HELD - _FOR_RUNS)
        self.probe = _single_connection(database, is_pgbouncer=is_pgbouncer)
        self.writer = PostgresWriter(self._engine, timeout_s=_WRITE_TIMEOUT_S)
        self.replicas = PostgresReplicas(
            self.reader, self.writer, partial(_single_connection, database, is_pgbouncer=is_pgbouncer)
        )
        self.queue = PostgresQueue(self.reader, self.replicas, limit=background_runs, is_listening=not is_pgbouncer)
        self.enqueue: Enqueue = enqueue

    async def prepare(self) -> None:
        for engine in (self.probe, self.reader):
            reopen(engine)
        found = await migrating.on_postgres(self._database, is_upgrade=self._is_migrating)
        if found != HEAD_REVISION:
            raise SchemaMismatch(found)

    def pools(self) -> Mapping[str, Connections]:
        return {"all": connections_of(self._engine)}

    async def run(self, change: Callable[[Connection], T]) -> T:
        async with available(), asyncio.timeout(_WRITE_TIMEOUT_S):
            try:
                return await self._changed(change)
            except _LostBeforeCommit:  # and the pool has thrown out all connections of that age
                return await self._changed(change)

    async def _changed(self, change: Callable[[Connection], T]) -> T:
        async with self._engine.connect() as connection:
            try:
                changed: T = await connection.run_sync(change)
            except DBAPIError as exc:
                if exc.connection_invalidated:
                    raise _LostBeforeCommit(exc.orig) from exc
                raise
            await connection.commit()
        return changed

    def wal_bytes(self) -> None:
        return None

    async def tend(self) -> None:
        """The server does it."""

    async def claim(self, session_id: str) -> Any:
        return await self.replicas.claim(session_id)

    async def close(self) -> None:
        await self.writer.close()
        await close_engine(self.probe)
        await close_engine(self.reader)
