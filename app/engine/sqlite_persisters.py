"""Persisters that keep every state of an application as a row of a SQLite table, in the form that Burr gives it.

For scripts and for what Burr has stored: its databases are read and continued. The service has stores of its own, which keep
changes instead of whole states. The SQL and the meaning of rows are in `sqlite_rows`, once for both colours.
"""

import sqlite3
import threading
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from app.engine.persistence_ports import AsyncBaseStatePersister, BaseCopyable, BaseStatePersister, PersistedStateData
from app.engine.private_files import create_private_file
from app.engine.sqlite_rows import Statement, StateTable, StepTaken
from app.engine.state import State

if TYPE_CHECKING:
    import aiosqlite

__all__ = ["AsyncSQLitePersister", "SQLLitePersister", "SQLitePersister"]


class SQLitePersister(BaseStatePersister, BaseCopyable):
    """Keeps states in a table of a SQLite file. A context manager that closes its connection; so does `cleanup`.

    One object may be used from any thread, one call at a time: an async run saves from threads. A copy has a connection of its
    own, so that branches need not wait for each other.
    """

    PARTITION_KEY_DEFAULT = ""

    def __init__(
        self,
        db_path: str,
        table_name: str = "burr_state",
        serde_kwargs: dict[str, Any] | None = None,
        connect_kwargs: dict[str, Any] | None = None,
        connection: sqlite3.Connection | None = None,
    ) -> None:
        self.db_path = db_path
        self._table = StateTable(table_name, serde_kwargs)
        self._connect_kwargs = connect_kwargs
        self._lock = threading.Lock()
        self.connection = _connect(db_path, connect_kwargs) if connection is None else connection

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return a persister made of the arguments in a dict."""
        return cls.from_values(**config)

    @classmethod
    def from_values(
        cls,
        db_path: str,
        table_name: str = "burr_state",
        serde_kwargs: dict[str, Any] | None = None,
        connect_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Return a persister with an open connection."""
        return cls(db_path, table_name, serde_kwargs, connect_kwargs)

    @property
    def table_name(self) -> str:
        return self._table.name

    @property
    def serde_kwargs(self) -> dict[str, Any]:
        return self._table.serde_kwargs

    def copy(self) -> Self:
        return type(self)(self.db_path, self.table_name, self.serde_kwargs, self._connect_kwargs)

    def set_serde_kwargs(self, serde_kwargs: dict[str, Any]) -> None:
        """Set the arguments that reach the registered serializers."""
        self._table.serde_kwargs = serde_kwargs

    def create_table_if_not_exists(self, table_name: str) -> None:
        """Create a table of that name, in the form that this persister uses."""
        for statement in StateTable(table_name, None).create():
            self._execute(statement)

    def initialize(self) -> None:
        self.create_table_if_not_exists(self.table_name)

    def is_initialized(self) -> bool:
        return self._execute(self._table.exists()).fetchone() is not None

    def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **_: Any
    ) -> PersistedStateData | None:
        """Return the state after a step, after the last one, or (without an `app_id`) the one that was saved last."""
        row = self._execute(self._table.select(partition_key, app_id, sequence_id)).fetchone()
        return self._table.read(row, partition_key)

    def list_app_ids(self, partition_key: str | None, **_: Any) -> list[str]:
        """Return the ids of the applications, the one that saved last first."""
        return [row[0] for row in self._execute(self._table.app_ids(partition_key)).fetchall()]

    def save(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: State[Any],
        status: Literal["completed", "failed"],
        **_: Any,
    ) -> None:
        """Save one step. Raises StepTaken if it has been saved, and did not fail."""
        saved = self._execute(self._table.insert(partition_key, app_id, sequence_id, position, state, status))
        if saved.rowcount == 0:
            raise StepTaken(app_id, sequence_id, position)

    def cleanup(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.cleanup()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("connection", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self.connection = _connect(self.db_path, self._connect_kwargs)

    def _execute(self, statement: Statement) -> sqlite3.Cursor:
        try:
            with self._lock, self.connection:
                return self.connection.execute(*statement)
        except sqlite3.OperationalError as error:
            raise self._table.explain(error) from error


def _create_private(db_path: str, connect_kwargs: dict[str, Any] | None) -> None:
    """Create the database's file, if the path is one of a file and there is none yet."""
    if db_path not in ("", ":memory:") and not (connect_kwargs or {}).get("uri"):
        create_private_file(db_path)


def _connect(db_path: str, connect_kwargs: dict[str, Any] | None) -> sqlite3.Connection:
    _create_private(db_path, connect_kwargs)
    connection: sqlite3.Connection = sqlite3.connect(db_path, **{"check_same_thread": False, **(connect_kwargs or {})})
    return connection


SQLLitePersister = SQLitePersister


class AsyncSQLitePersister(AsyncBaseStatePersister, BaseCopyable):
    """`SQLitePersister` over a connection of aiosqlite, which is yours to close: with `async with`, or `await cleanup()`.

    Copies share the connection.
    """

    PARTITION_KEY_DEFAULT = ""

    def __init__(
        self, connection: "aiosqlite.Connection", table_name: str = "burr_state", serde_kwargs: dict[str, Any] | None = None
    ) -> None:
        self.connection = connection
        self._table = StateTable(table_name, serde_kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_Opening":
        """Return what to await, or to enter with `async with`: a persister made of the arguments in a dict."""
        return cls.from_values(**config)

    @classmethod
    def from_values(
        cls,
        db_path: str,
        table_name: str = "burr_state",
        serde_kwargs: dict[str, Any] | None = None,
        connect_kwargs: dict[str, Any] | None = None,
    ) -> "_Opening":
        """Return what to await, or to enter with `async with`: a persister with an open connection."""
        return _Opening(cls, db_path, table_name, serde_kwargs, connect_kwargs)

    @property
    def table_name(self) -> str:
        return self._table.name

    @property
    def serde_kwargs(self) -> dict[str, Any]:
        return self._table.serde_kwargs

    def copy(self) -> Self:
        return type(self)(self.connection, self.table_name, self.serde_kwargs)

    def set_serde_kwargs(self, serde_kwargs: dict[str, Any]) -> None:
        """Set the arguments that reach the registered serializers."""
        self._table.serde_kwargs = serde_kwargs

    async def create_table_if_not_exists(self, table_name: str) -> None:
        """Create a table of that name, in the form that this persister uses."""
        for statement in StateTable(table_name, None).create():
            await self._execute(statement)

    async def initialize(self) -> None:
        await self.create_table_if_not_exists(self.table_name)

    async def is_initialized(self) -> bool:
        return bool((await self._execute(self._table.exists()))[0])

    async def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **_: Any
    ) -> PersistedStateData | None:
        """Return the state after a step, after the last one, or (without an `app_id`) the one that was saved last."""
        rows, _count = await self._execute(self._table.select(partition_key, app_id, sequence_id))
        return self._table.read(next(iter(rows), None), partition_key)

    async def list_app_ids(self, partition_key: str | None = None, **_: Any) -> list[str]:
        """Return the ids of the applications, the one that saved last first."""
        return [row[0] for row in (await self._execute(self._table.app_ids(partition_key)))[0]]

    async def save(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: State[Any],
        status: Literal["completed", "failed"],
        **_: Any,
    ) -> None:
        """Save one step. Raises StepTaken if it has been saved, and did not fail."""
        row = self._table.insert(partition_key, app_id, sequence_id, position, state, status)
        if (await self._execute(row))[1] == 0:
            raise StepTaken(app_id, sequence_id, position)

    async def cleanup(self) -> None:
        """Close the connection."""
        await self.connection.close()

    close = cleanup

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cleanup()

    async def _execute(self, statement: Statement) -> tuple[Sequence[Any], int]:
        try:
            async with self.connection.execute(*statement) as cursor:
                rows, count = list(await cursor.fetchall()), cursor.rowcount
            await self.connection.commit()
        except sqlite3.OperationalError as error:
            raise self._table.explain(error) from error
        return rows, count


class _Opening:
    """A persister whose connection is opened when it is awaited, or entered."""

    def __init__(
        self,
        cls: type[AsyncSQLitePersister],
        db_path: str,
        table_name: str,
        serde_kwargs: dict[str, Any] | None,
        connect_kwargs: dict[str, Any] | None,
    ) -> None:
        self._cls = cls
        self._db_path = db_path
        self._arguments = (table_name, serde_kwargs)
        self._connect_kwargs = connect_kwargs or {}
        self._opened: AsyncSQLitePersister | None = None

    async def _open(self) -> AsyncSQLitePersister:
        import aiosqlite  # the sync persister does without it

        if self._opened is not None:
            raise RuntimeError("the persister has been opened already")
        _create_private(self._db_path, self._connect_kwargs)
        self._opened = self._cls(await aiosqlite.connect(self._db_path, **self._connect_kwargs), *self._arguments)
        return self._opened

    def __await__(self) -> Generator[Any, None, AsyncSQLitePersister]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncSQLitePersister:
        return await self._open()

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            await self._opened.cleanup()
