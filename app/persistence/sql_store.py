"""The store over a database: reads from a pool, writes through group commit."""

import asyncio
from collections.abc import Sequence
from typing import Any

from app.persistence.database import Database
from app.persistence.group_commit import Committer
from app.persistence.reader import Reader
from app.persistence.records import (
    Commit,
    FailureRecord,
    LoadedSession,
    NewSession,
    RunRecord,
    SessionFilter,
    SessionPage,
    SessionRecord,
    StepRecord,
)
from app.persistence.store import SessionNotFound, StepConflict
from app.persistence.texts import is_storable
from app.persistence.waves import Entry, entry_of_commit, entry_of_new

__all__ = ["SqlStore"]


class SqlStore:
    """Sessions in SQLite or PostgreSQL; which of them is the `database`'s affair."""

    def __init__(self, database: Database, *, patience_s: float = 2.0) -> None:
        self._database = database
        self._reader = Reader(database.reader)
        self._committer = Committer(database.writer, patience_s=patience_s)

    async def open(self) -> None:
        """Raises StoreUnavailable, SchemaMismatch."""
        await self._database.prepare()
        self._committer.start()

    async def close(self) -> None:
        await self._committer.close()
        await self._database.close()

    async def ping(self) -> None:
        await self._reader.ping()

    async def create_session(self, new: NewSession) -> None:
        await self._written(entry_of_new(new, self._promise()))

    async def commit(self, commit: Commit) -> None:
        try:
            await self._written(entry_of_commit(commit, self._promise()))
        except StepConflict:
            await self._reader.session(commit.session_id)  # raises SessionNotFound if that is the reason
            raise

    async def delete_session(self, session_id: str) -> None:
        if not (is_storable(session_id) and await self._database.delete_session(session_id)):
            raise SessionNotFound(session_id)

    async def get_session(self, session_id: str) -> SessionRecord:
        return await self._reader.session(session_id)

    async def load_session(self, session_id: str) -> LoadedSession:
        return await self._reader.loaded(session_id)

    async def list_sessions(self, which: SessionFilter, limit: int, cursor: str | None) -> SessionPage:
        return await self._reader.sessions_page(which, limit, cursor)

    async def list_steps(
        self,
        session_id: str,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int = 100,
    ) -> Sequence[StepRecord]:
        return await self._reader.steps(session_id, after_seq, before_seq, limit)

    async def get_step(self, session_id: str, seq: int) -> StepRecord:
        return await self._reader.step(session_id, seq)

    async def state_at(self, session_id: str, seq: int) -> dict[str, Any]:
        return await self._reader.state_at(session_id, seq)

    async def list_failures(self, session_id: str, *, after_event_id: int = 0, limit: int = 100) -> Sequence[FailureRecord]:
        return await self._reader.failures(session_id, after_event_id, limit)

    async def get_run(self, run_id: str) -> RunRecord:
        return await self._reader.run(run_id)

    async def list_runs(self, session_id: str, *, after_event_id: int = 0, limit: int = 100) -> Sequence[RunRecord]:
        return await self._reader.runs(session_id, after_event_id, limit)

    async def steps_after_event(self, session_id: str, after_event_id: int, limit: int = 100) -> Sequence[StepRecord]:
        return await self._reader.steps_after_event(session_id, after_event_id, limit)

    async def unfinished_runs(self, limit: int = 100) -> Sequence[RunRecord]:
        return await self._reader.unfinished_runs(limit)

    @property
    def flushes(self) -> int:
        """How many batches were written since the store was opened."""
        return self._committer.flushes

    def _promise(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    async def _written(self, entry: Entry) -> None:
        self._committer.submit(entry)
        if entry.done is not None:
            # a cancel of the caller ends only the waiting: the flush does not look at who waits
            await entry.done
