"""The engine's persisters over a store: a script keeps its applications in the tables of the service, and needs no service.

A persister is given whole states; what it stores are the changes from one to the next, as steps of a session. The session's id is
the application's, unless another partition has taken it.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from typing import Any, Self, TypeVar

from app.engine.difference import difference
from app.engine.persistence_ports import AsyncBaseStatePersister, BaseCopyable, BaseStatePersister, PersistedStateData
from app.engine.state import State
from app.persistence.factory import open_store
from app.persistence.records import Commit, FailureRecord, NewSession, SessionFilter, SessionRecord, SessionStatus, StepCommit
from app.persistence.saved_states import Status, app_id_of, outward, saved, session_ids
from app.persistence.store import SessionExists, SessionNotFound, StepConflict, StepNotFound, Store

__all__ = ["AsyncSQLAlchemyPersister", "SQLAlchemyPersister"]

T = TypeVar("T")

_MOST_REMEMBERED = 1000
_PAGE = 500


class AsyncSQLAlchemyPersister(AsyncBaseStatePersister, BaseCopyable):
    """Keeps the states of applications in SQLite or PostgreSQL. `initialize()` connects, `async with` or `cleanup()` disconnects.

    Every step is saved once and in its order: anything else is a StepConflict. `machine` is the name under which the service
    would show the sessions. A copy shares the connection.
    """

    def __init__(self, database_url: str, machine: str = "script") -> None:
        """Raises DatabaseUrlInvalid."""
        self._store: Store = open_store(database_url, migrate=True)
        self._machine = machine
        self._is_open = False
        self._last: OrderedDict[str, tuple[int, dict[str, Any]]] = OrderedDict()

    @classmethod
    def from_values(cls, database_url: str, machine: str = "script") -> Self:
        """Return a persister that is not connected yet."""
        return cls(database_url, machine)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a persister made of the arguments in a mapping."""
        return cls(**config)

    def copy(self) -> Self:
        return self

    async def initialize(self) -> None:
        """Connect, and bring the schema up to date. Raises StoreUnavailable, SchemaMismatch."""
        if not self._is_open:
            await self._store.open()
            self._is_open = True

    async def is_initialized(self) -> bool:
        return self._is_open

    async def cleanup(self) -> None:
        """Disconnect."""
        if self._is_open:
            self._is_open = False
            await self._store.close()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cleanup()

    async def list_app_ids(self, partition_key: str | None, **_: Any) -> list[str]:
        """Return the ids of the applications, the one that saved last first."""
        records = sorted(await self._records(partition_key), key=lambda record: record.updated_at_s, reverse=True)
        return [app_id_of(record) for record in records]

    async def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **_: Any
    ) -> PersistedStateData | None:
        """Return the state after a step, after the last one, or (without an `app_id`) the one that was saved last."""
        if app_id is None:
            ids = await self.list_app_ids(partition_key)
            return await self.load(partition_key, ids[0], sequence_id) if ids else None
        record = await self._find(partition_key, app_id)
        if record is None:
            return None
        if sequence_id is None:
            failure = await self._failure_after(record)
            if failure is not None:
                state = await self._store.state_at(record.id, record.seq)
                return saved(record, failure.seq, failure.action, state, failure.finished_at_s, "failed")
            sequence_id = record.seq
        try:
            step = await self._store.get_step(record.id, sequence_id)
            state = await self._store.state_at(record.id, sequence_id)
        except StepNotFound:
            return await self._loaded_failure(record, sequence_id)
        if step.seq == record.seq:
            self._remember(record.id, step.seq, state)
        return saved(record, step.seq, step.action, state, step.finished_at_s, "completed")

    async def save(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: State[Any],
        status: Status,
        **_: Any,
    ) -> None:
        """Save one step. Raises StepConflict if it does not follow the last one, UnserializableValue, StoreUnavailable."""
        values = outward(state)
        record = await self._find(partition_key, app_id)
        if record is None:
            record = await self._create(partition_key, app_id, sequence_id - 1, values if status == "failed" else {})
        now_s = time.time()
        event_id = max(record.last_event_id + 1, int(now_s * 1e6))
        if status == "failed":
            failure = FailureRecord(sequence_id, position, "", "", "", now_s, now_s, event_id, event_id)
            await self._store.commit(Commit(record.id, SessionStatus.FAILED, event_id, failure=failure))
            return
        before = await self._state_before(record, sequence_id)
        step = StepCommit(
            seq=sequence_id,
            action=position,
            operations=difference(before, values),
            result=None,
            state=values,
            next_action=None,
            started_at_s=now_s,
            finished_at_s=now_s,
            first_event_id=event_id,
            event_id=event_id,
        )
        await self._store.commit(Commit(record.id, SessionStatus.IDLE, event_id, step=step))
        self._remember(record.id, sequence_id, values)

    def _remember(self, session_id: str, seq: int, state: dict[str, Any]) -> None:
        # the very objects of the state: what is the same object next time has not changed
        self._last[session_id] = seq, dict(state)
        self._last.move_to_end(session_id)
        if len(self._last) > _MOST_REMEMBERED:
            self._last.popitem(last=False)

    async def _find(self, partition_key: str | None, app_id: str) -> SessionRecord | None:
        for session_id in session_ids(partition_key, app_id):
            try:
                record = await self._store.get_session(session_id)
            except SessionNotFound:
                continue
            if record.partition_key == partition_key:
                return record
        return None

    async def _create(self, partition_key: str | None, app_id: str, seq: int, state: dict[str, Any]) -> SessionRecord:
        now_s = time.time()
        for session_id in session_ids(partition_key, app_id):
            new = NewSession(
                id=session_id,
                machine=self._machine,
                machine_version="",
                state=state,
                next_action=None,
                created_at_s=now_s,
                event_id=int(now_s * 1e6),
                partition_key=partition_key,
                metadata={"app_id": app_id},
                seq=seq,
            )
            try:
                await self._store.create_session(new)
            except SessionExists:
                continue
            return await self._store.get_session(session_id)
        raise SessionExists(app_id)

    async def _state_before(self, record: SessionRecord, sequence_id: int) -> dict[str, Any]:
        if sequence_id != record.seq + 1:
            raise StepConflict(record.id, sequence_id)
        seq, state = self._last.get(record.id, (None, {}))
        return state if seq == record.seq else (await self._store.load_session(record.id)).state

    async def _failure_after(self, record: SessionRecord) -> FailureRecord | None:
        """Return the last failure since the last step, if there is one."""
        steps = await self._store.list_steps(record.id, after_seq=record.seq - 1, limit=1)
        after = steps[-1].event_id if steps else 0
        found = None
        while failures := await self._store.list_failures(record.id, after_event_id=after, limit=_PAGE):
            found = failures[-1]
            after = found.event_id
        return found

    async def _loaded_failure(self, record: SessionRecord, sequence_id: int) -> PersistedStateData | None:
        failure = await self._failure_after(record)
        if failure is None or failure.seq != sequence_id:
            return None
        state = await self._store.state_at(record.id, record.seq)
        return saved(record, failure.seq, failure.action, state, failure.finished_at_s, "failed")

    async def _records(self, partition_key: str | None) -> list[SessionRecord]:
        records: list[SessionRecord] = []
        cursor = None
        while True:
            page = await self._store.list_sessions(SessionFilter(partition_key=partition_key), _PAGE, cursor)
            # a filter without a partition finds those of every partition
            records += [record for record in page.sessions if record.partition_key == partition_key]
            cursor = page.next_cursor
            if cursor is None:
                return records


class SQLAlchemyPersister(BaseStatePersister, BaseCopyable):
    """`AsyncSQLAlchemyPersister` for sync applications: it runs on an event loop in a thread of its own. Copies share both."""

    def __init__(self, database_url: str, machine: str = "script") -> None:
        """Raises DatabaseUrlInvalid."""
        self._inner = AsyncSQLAlchemyPersister(database_url, machine)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stepwell-persister", daemon=True)
        self._thread.start()

    @classmethod
    def from_values(cls, database_url: str, machine: str = "script") -> Self:
        """Return a persister that is not connected yet."""
        return cls(database_url, machine)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a persister made of the arguments in a mapping."""
        return cls(**config)

    def copy(self) -> Self:
        return self

    def initialize(self) -> None:
        """Connect, and bring the schema up to date. Raises StoreUnavailable, SchemaMismatch."""
        self._run(self._inner.initialize())

    def is_initialized(self) -> bool:
        return self._run(self._inner.is_initialized())

    def list_app_ids(self, partition_key: str | None, **_: Any) -> list[str]:
        return self._run(self._inner.list_app_ids(partition_key))

    def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **_: Any
    ) -> PersistedStateData | None:
        return self._run(self._inner.load(partition_key, app_id, sequence_id))

    def save(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: State[Any],
        status: Status,
        **_: Any,
    ) -> None:
        self._run(self._inner.save(partition_key, app_id, sequence_id, position, state, status))

    def cleanup(self) -> None:
        """Disconnect, and end the thread. Does nothing the second time."""
        if not self._loop.is_closed():
            self._run(self._inner.cleanup())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()
