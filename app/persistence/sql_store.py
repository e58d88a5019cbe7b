"""The store over a database: reads from a pool, writes through group commit."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from typing import Any

from app.persistence import changes, expiry, trimming
from app.persistence.database import Database
from app.persistence.decoding import LARGE_BYTES
from app.persistence.group_commit import Committer
from app.persistence.handing_in import encoded_state
from app.persistence.outbox import SqlOutbox
from app.persistence.reader import Reader, ping
from app.persistence.records import (
    Commit,
    FailureRecord,
    History,
    KeyRecord,
    LoadedSession,
    NewSession,
    RunEnd,
    RunRecord,
    RunStart,
    SessionFilter,
    SessionPage,
    SessionRecord,
    StepRecord,
)
from app.persistence.replicas import Replicas
from app.persistence.run_queue import RunQueue
from app.persistence.sql_schedules import SqlSchedules
from app.persistence.store import ClaimLost, KeyTaken, RunEnded, RunNotFound, SessionNotFound, StepConflict
from app.persistence.store_stats import StoreStats
from app.persistence.texts import is_storable, require_key
from app.persistence.wave_rows import key_row
from app.persistence.waves import entry_of_commit, entry_of_new
from app.persistence.writer import WaveRefused
from app.system.encoding_threads import run_aside

__all__ = ["SqlStore"]


class SqlStore:
    """Sessions in SQLite or PostgreSQL; which of them is the `database`'s affair."""

    def __init__(self, database: Database, *, patience_s: float = 2.0, lock_patience_s: float = 0.0) -> None:
        self._database = database
        self.outbox = SqlOutbox(database)
        self.schedules = SqlSchedules(database)
        self._reader = Reader(database.reader, browsers=database.browsers)
        self._committer = Committer(database.writer, patience_s=patience_s, lock_patience_s=lock_patience_s)

    @property
    def replicas(self) -> Replicas:
        return self._database.replicas

    @property
    def queue(self) -> RunQueue:
        return self._database.queue

    def stats(self) -> StoreStats:
        committer = self._committer
        return StoreStats(
            committer.flushes, committer.commits, committer.waiting, self._database.pools(), self._database.wal_bytes()
        )

    async def open(self) -> None:
        """Raises StoreUnavailable, SchemaMismatch."""
        await self._database.prepare()
        self._committer.start()

    async def tend(self) -> None:
        await self._database.tend()

    async def close(self) -> None:
        await self._committer.close()
        self._reader.close()
        await self._database.close()

    async def ping(self) -> None:
        await ping(self._database.probe)

    async def create_session(self, new: NewSession) -> None:
        done = asyncio.get_running_loop().create_future()
        state = await encoded_state(new.state)
        # the answer that is kept with a key holds the state
        key = new.key if new.key is not None and len(state) > LARGE_BYTES else None
        key_made = None if key is None else await run_aside(lambda: key_row(key, None))
        self._committer.submit(entry_of_new(new, done, self._database.writer.claimant, state, key_made))
        try:
            await done
        except WaveRefused:
            if new.key is not None and await self._reader.key(new.key.digest) is not None:
                raise KeyTaken from None
            raise

    async def commit(self, commit: Commit) -> None:
        done = asyncio.get_running_loop().create_future()
        self._committer.submit(entry_of_commit(commit, done))
        try:
            await done  # a cancel of the caller ends only the waiting: the flush does not look at who waits
        except (StepConflict, SessionNotFound):
            claimed_by, claim_no = await self._reader.claim(commit.session_id)  # raises SessionNotFound if that is the reason
            if claimed_by != self._database.writer.claimant or commit.claim_no not in (None, claim_no):
                raise ClaimLost(commit.session_id) from None
            if commit.run_end is not None:
                await self._require_no_other_end(commit, commit.run_end)
            raise

    async def _require_no_other_end(self, commit: Commit, end: RunEnd) -> None:
        """Raises RunEnded."""
        with contextlib.suppress(RunNotFound):
            run = await self._reader.run(end.run_id)
            if run.finished_event_id not in (None, end.event_id):
                seq = commit.after_seq + 1 if commit.after_seq is not None else -1
                raise RunEnded(commit.session_id, seq if commit.step is None else commit.step.seq, run) from None

    async def delete_session(self, session_id: str) -> None:
        if not is_storable(session_id):
            raise SessionNotFound(session_id)
        claimant = self._database.writer.claimant
        try:
            await self._database.run(lambda connection: changes.delete_session(connection, session_id, claimant))
        except SessionNotFound:
            claimed_by, _ = await self._reader.claim(session_id)  # raises SessionNotFound if that is the reason
            if claimed_by != claimant:
                raise ClaimLost(session_id) from None
            raise

    async def get_session(self, session_id: str) -> SessionRecord:
        return await self._reader.session(session_id)

    async def load_session(self, session_id: str) -> LoadedSession:
        return await self._reader.loaded(session_id)

    async def claim_session(self, session_id: str) -> LoadedSession:
        if not is_storable(session_id):
            raise SessionNotFound(session_id)
        return await self._reader.loaded(session_id, self._database.claim if self.replicas.id else None)

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

    async def progress_of_run(self, run: RunRecord) -> tuple[int, int | None]:
        return await self._reader.progress_of_run(run)

    async def unfinished_runs(self, limit: int = 100) -> Sequence[RunRecord]:
        return await self._reader.unfinished_runs(limit)

    async def running_runs(self, *, claimed_by: str | None, after: tuple[float, str], limit: int) -> Sequence[RunRecord]:
        return await self._reader.running_runs(claimed_by, after, limit)

    async def unfinished_runs_of(self, session_id: str) -> Sequence[RunRecord]:
        return await self._reader.unfinished_runs_of(session_id)

    async def queue_run(self, session_id: str, start: RunStart) -> None:
        if not is_storable(session_id):
            raise SessionNotFound(session_id)
        require_key("the run's id", start.run_id)
        enqueue = self._database.enqueue
        await self._database.run(lambda connection: changes.queue_run(connection, session_id, start, enqueue))

    async def begin_attempt(self, run_id: str, steps: int) -> int:
        return await self._database.run(lambda connection: changes.begin_attempt(connection, run_id, steps))

    async def uncount_attempts(self, runs: Sequence[tuple[str, int]]) -> None:
        await self._database.run(lambda connection: changes.uncount_attempts(connection, runs))

    async def find_key(self, digest: bytes) -> KeyRecord | None:
        return await self._reader.key(digest)

    async def maybe_expired(self, now_s: float, limit: int) -> Sequence[str]:
        return await self._reader.maybe_expired(now_s, self.replicas.id, limit)

    async def purge_expired(self, session_ids: Collection[str], now_s: float) -> Sequence[str]:
        replica_id = self.replicas.id
        return await self._database.run(lambda connection: expiry.purge_expired(connection, session_ids, now_s, replica_id))

    async def histories(self, after: int, limit: int) -> Sequence[History]:
        return await self._reader.histories(after, limit)

    async def trim(self, session_id: str, *, before_seq: int = 0, before_s: float | None = None) -> int:
        cut = await self._reader.cut(session_id, before_seq, before_s)
        if cut.is_new:
            await self._database.run(lambda connection: trimming.trim(connection, cut.key, cut.base_seq, cut.state))
        return cut.base_seq + 1

    async def purge_keys(self, before_s: float) -> int:
        return await self._database.run(lambda connection: changes.purge_keys(connection, before_s))

    @property
    def flushes(self) -> int:
        """How many batches were written since the store was opened."""
        return self._committer.flushes
