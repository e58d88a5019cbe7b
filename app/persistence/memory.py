"""A store without a database, for tests, scripts and `--database-url memory:`. It forgets everything when it closes.

It keeps what a database would keep, the encoded blobs, so that a value which no database could hold fails here too and nobody
can change what was stored.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from app.engine.state import values_of
from app.persistence.codec import Unreadable, decode_payload, encode_state, encode_step, refers_to_state
from app.persistence.cursors import decode_cursor, encode_cursor
from app.persistence.memory_schedules import MemorySchedules
from app.persistence.outbox import MemoryOutbox
from app.persistence.records import (
    Commit,
    FailureRecord,
    History,
    Key,
    KeyRecord,
    LoadedSession,
    NewSession,
    RunRecord,
    RunStart,
    RunStatus,
    SessionFilter,
    SessionPage,
    SessionRecord,
    SessionStatus,
    StepCommit,
    StepKind,
    StepRecord,
)
from app.persistence.replaying import ReplayedState, replay, unreadable_of_step, values_referred_to
from app.persistence.replicas import LoneReplica
from app.persistence.run_order import by_last_event
from app.persistence.run_queue import LocalQueue
from app.persistence.store import (
    KeyTaken,
    RunEnded,
    RunNotFound,
    SessionExists,
    SessionNotFound,
    StepConflict,
    StepNotFound,
    StepTrimmed,
)
from app.persistence.store_stats import StoreStats
from app.persistence.transitions import after_commit, check_commit, check_new, created, ended_run, has_expired, started_run
from app.system.clocks import current_time_s

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Step:
    record: StepRecord  # without operations and result: those are in the payload
    payload: bytes

    def read(self, session: "_Session") -> StepRecord:
        unreadable: Unreadable = []
        operations, result = decode_payload(self.payload, unreadable, session.referred_to(self))
        found = unreadable_of_step(operations, result) if unreadable else {}
        return replace(self.record, operations=operations, result=result, unreadable=found)


@dataclass(slots=True)
class _Session:
    position: int
    record: SessionRecord
    base_seq: int
    base_state: bytes
    steps: list[_Step] = field(default_factory=list)
    failures: list[FailureRecord] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)

    def history(self) -> History:
        oldest_s = self.steps[0].record.finished_at_s if self.steps else None
        return History(self.record.id, self.record.machine, self.position, self.record.seq, self.base_seq, oldest_s)

    def state_at(self, seq: int) -> ReplayedState:
        return replay(self.base_state, [step.payload for step in self.steps[: seq - self.base_seq]])

    def referred_to(self, step: _Step) -> dict[str, Any] | None:
        """Return what of the state after `step` its result refers to, as documents."""
        seq = step.record.seq
        if not refers_to_state(step.payload):
            return None
        payloads = [other.payload for other in self.steps[: seq - self.base_seq]]
        return values_referred_to(self.base_state, self.base_seq, payloads, seq)[seq]


@dataclass(frozen=True, slots=True)
class _Key:
    session_id: str
    created_at_s: float
    record: KeyRecord


class MemoryStore:
    """Everything in this process, durable until it ends."""

    def __init__(self, background_runs: int = 100) -> None:
        self._sessions: dict[str, _Session] = {}
        self._runs: dict[str, RunRecord] = {}
        self._keys: dict[bytes, _Key] = {}
        self.replicas = LoneReplica()
        self.queue = LocalQueue(background_runs)
        self.outbox = MemoryOutbox(self._runs)
        self.schedules = MemorySchedules(self._keep_key, self.queue_run)
        self._last_position = 0

    def stats(self) -> StoreStats:
        return StoreStats()

    async def open(self) -> None:
        pass

    async def tend(self) -> None:
        pass

    async def close(self) -> None:
        self._sessions.clear()
        self._runs.clear()
        self._keys.clear()

    async def ping(self) -> None:
        pass

    async def create_session(self, new: NewSession) -> None:
        check_new(new)
        base_state = encode_state(new.state)
        if new.key and new.key.digest in self._keys:
            raise KeyTaken
        if new.id in self._sessions:
            raise SessionExists(new.id)
        if new.key:
            self._keys[new.key.digest] = _Key(new.id, new.key.created_at_s, KeyRecord(new.key.request, None, new.key.answer))
        self._last_position += 1
        self._sessions[new.id] = _Session(self._last_position, created(new), new.seq, base_state)

    async def get_session(self, session_id: str) -> SessionRecord:
        return self._session(session_id).record

    async def load_session(self, session_id: str) -> LoadedSession:
        session = self._session(session_id)
        found = session.state_at(session.record.seq)
        return LoadedSession(session.record, found.state, found.unreadable)

    async def claim_session(self, session_id: str) -> LoadedSession:
        return await self.load_session(session_id)

    async def list_sessions(self, which: SessionFilter, limit: int, cursor: str | None) -> SessionPage:
        before = None if cursor is None else decode_cursor(cursor)
        newest_first = reversed(self._sessions.values())
        found = (
            session
            for session in newest_first
            if _matches(which, session)
            and (before is None or session.position < before)
            and not self._has_expired(session, current_time_s())
        )
        page = list(islice(found, limit + 1))
        more = limit > 0 and len(page) > limit
        shown = tuple(session.record for session in page[:limit])
        return SessionPage(shown, encode_cursor(page[limit - 1].position) if more else None)

    async def delete_session(self, session_id: str) -> None:
        self._session(session_id)
        self._drop(session_id)

    def _drop(self, session_id: str) -> None:
        for run_id in self._sessions[session_id].run_ids:
            del self._runs[run_id]
        for digest in [digest for digest, key in self._keys.items() if key.session_id == session_id]:
            del self._keys[digest]
        del self._sessions[session_id]

    async def commit(self, commit: Commit) -> None:
        check_commit(commit)
        step = commit.step
        payload = (step.encoded or encode_step(step.operations, step.result, values_of(step.state))).blob if step else b""
        session = self._stored(commit.session_id)
        after_seq = commit.step.seq - 1 if commit.step else commit.after_seq
        if after_seq is not None and after_seq != session.record.seq:
            raise StepConflict(commit.session_id, after_seq + 1)
        run = self._runs.get(commit.run_end.run_id) if commit.run_end else None
        if commit.run_end and run and run.finished_event_id not in (None, commit.run_end.event_id):
            raise RunEnded(commit.session_id, session.record.seq + 1, run)
        session.record = after_commit(session.record, commit)
        if commit.run_start:
            self._begin_run(session, commit.run_start)
        if commit.step:
            session.steps.append(_Step(_bare(commit, commit.step), payload))
        if commit.failure:
            run_id = commit.failure.run_id or commit.run_id
            session.failures.append(replace(commit.failure, run_id=run_id))
        run = self._runs.get(commit.run_end.run_id) if commit.run_end else None
        if commit.run_end and run and run.session_id == commit.session_id and run.finished_at_s is None:
            self._runs[run.id] = ended_run(run, commit.run_end)
            session.running.discard(run.id)
        if session.record.has_run is not bool(session.running):
            session.record = replace(session.record, has_run=bool(session.running))

    async def list_steps(
        self,
        session_id: str,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int = 100,
    ) -> Sequence[StepRecord]:
        chosen = (
            step.read(self._sessions[session_id])
            for step in self._steps(session_id)
            if (after_seq is None or step.record.seq > after_seq) and (before_seq is None or step.record.seq < before_seq)
        )
        return list(islice(chosen, limit))

    async def get_step(self, session_id: str, seq: int) -> StepRecord:
        session = self._session(session_id)
        index = seq - session.base_seq - 1
        if not 0 <= index < len(session.steps):
            raise _no_step(session, seq)
        return session.steps[index].read(session)

    async def state_at(self, session_id: str, seq: int) -> dict[str, Any]:
        session = self._session(session_id)
        if not session.base_seq <= seq <= session.record.seq:
            raise _no_step(session, seq)
        return session.state_at(seq).readable(session_id, seq)

    async def list_failures(self, session_id: str, *, after_event_id: int = 0, limit: int = 100) -> Sequence[FailureRecord]:
        session = self._found(session_id)
        failures = session.failures if session else []
        return [failure for failure in failures if failure.event_id > after_event_id][:limit]

    async def get_run(self, run_id: str) -> RunRecord:
        run = self._runs.get(run_id)
        if run is None or self._found(run.session_id) is None:
            raise RunNotFound(run_id)
        return run

    async def list_runs(self, session_id: str, *, after_event_id: int = 0, limit: int = 100) -> Sequence[RunRecord]:
        session = self._found(session_id)
        runs = [self._runs[run_id] for run_id in session.run_ids] if session else []
        after = [run for run in runs if max(run.started_event_id, run.finished_event_id or 0) > after_event_id]
        return sorted(after, key=by_last_event)[:limit]

    async def steps_after_event(self, session_id: str, after_event_id: int, limit: int = 100) -> Sequence[StepRecord]:
        steps = (step for step in self._steps(session_id) if step.record.event_id > after_event_id)
        missed = (step.read(self._sessions[session_id]) for step in steps)
        return list(islice(missed, limit))

    async def progress_of_run(self, run: RunRecord) -> tuple[int, int | None]:
        own = [
            step.record.seq
            for step in self._steps(run.session_id)
            if step.record.run_id == run.id and step.record.kind is StepKind.ACTION
        ]
        return len(own), min(own, default=None)

    async def unfinished_runs(self, limit: int = 100) -> Sequence[RunRecord]:
        unfinished = [run for run in self._runs.values() if run.finished_at_s is None]
        return sorted(unfinished, key=lambda run: (run.started_at_s, run.id))[:limit]

    async def running_runs(self, *, claimed_by: str | None, after: tuple[float, str], limit: int) -> Sequence[RunRecord]:  # noqa: ARG002
        running = [run for run in await self.unfinished_runs(len(self._runs)) if run.status is RunStatus.RUNNING]
        return [run for run in running if (run.started_at_s, run.id) > after][:limit]

    async def unfinished_runs_of(self, session_id: str) -> Sequence[RunRecord]:
        unfinished = [run for run in self._runs.values() if run.session_id == session_id and run.finished_at_s is None]
        return sorted(unfinished, key=lambda run: run.status is RunStatus.QUEUED)  # among those, as they were stored

    async def queue_run(self, session_id: str, start: RunStart) -> None:
        session = self._session(session_id)
        if start.key and start.key.digest in self._keys:
            raise KeyTaken
        queued = replace(started_run(session_id, start), status=RunStatus.QUEUED, started_event_id=0)
        self._keep_run(session, start, queued)

    async def begin_attempt(self, run_id: str, steps: int) -> int:
        run = await self.get_run(run_id)
        if run.finished_at_s is not None:
            raise RunNotFound(run_id)
        attempts = 1 if run.steps < steps else run.attempts + 1
        self._runs[run_id] = replace(run, attempts=attempts, steps=steps)
        return attempts

    async def uncount_attempts(self, runs: Sequence[tuple[str, int]]) -> None:
        for run_id, steps in runs:
            run = self._runs.get(run_id)
            if run is not None and run.finished_at_s is None:
                attempts = -1 if run.steps < steps else run.attempts - 1
                self._runs[run_id] = replace(run, attempts=attempts, steps=steps)

    async def find_key(self, digest: bytes) -> KeyRecord | None:
        key = self._keys.get(digest)
        return key.record if key else None

    async def purge_keys(self, before_s: float) -> int:
        old = [digest for digest, key in self._keys.items() if key.created_at_s < before_s]
        for digest in old:
            del self._keys[digest]
        return len(old)

    async def maybe_expired(self, now_s: float, limit: int) -> Sequence[str]:
        expired = (session_id for session_id, session in self._sessions.items() if self._has_expired(session, now_s))
        return list(islice(expired, limit))

    async def purge_expired(self, session_ids: Collection[str], now_s: float) -> Sequence[str]:
        there = (session_id for session_id in session_ids if session_id in self._sessions)
        gone = [session_id for session_id in there if self._has_expired(self._sessions[session_id], now_s)]
        for session_id in gone:
            self._drop(session_id)
        return gone

    async def histories(self, after: int, limit: int) -> Sequence[History]:
        behind = (session for session in self._sessions.values() if session.position > after)
        return [session.history() for session in islice(behind, limit)]

    async def trim(self, session_id: str, *, before_seq: int = 0, before_s: float | None = None) -> int:
        session = self._session(session_id)
        if before_s is not None:
            older = (step.record.seq for step in session.steps if step.record.finished_at_s <= before_s)
            before_seq = max(before_seq, max(older, default=-1) + 1)
        base_seq = min(before_seq - 1, session.record.seq)
        for run_id in session.running:
            started = self._runs[run_id].started_event_id
            own = (step.record.seq for step in session.steps if step.record.event_id > started)
            base_seq = min(base_seq, next(own, session.record.seq + 1) - 2)
        if base_seq > session.base_seq:
            self._cut(session, base_seq)
        return session.base_seq + 1

    def _cut(self, session: _Session, base_seq: int) -> None:
        count = base_seq - session.base_seq
        base_state, last = encode_state(session.state_at(base_seq).state), session.steps[count - 1].record.event_id
        session.base_seq, session.base_state, session.steps = base_seq, base_state, session.steps[count:]
        kept = session.steps[0].record.first_event_id if session.steps else None
        session.failures = [failure for failure in session.failures if failure.event_id > last]
        for run in [self._runs[run_id] for run_id in session.run_ids]:
            ended = run.finished_event_id
            if run.started_event_id <= last and ended is not None and (kept is None or ended < kept):
                session.run_ids.remove(run.id)
                del self._runs[run.id]
        session.record = replace(session.record, trimmed_event_id=last)

    def _begin_run(self, session: _Session, start: RunStart) -> None:
        known = self._runs.get(start.run_id)
        begun = started_run(session.record.id, start)
        if known is None:
            self._keep_run(session, start, begun)
            session.running.add(start.run_id)
        elif known.status is RunStatus.QUEUED and known.session_id == session.record.id:
            session.running.add(start.run_id)
            begun = replace(begun, parameters=known.parameters, webhook=known.webhook)
            self._runs[start.run_id] = replace(begun, attempts=known.attempts)

    def _keep_run(self, session: _Session, start: RunStart, run: RunRecord) -> None:
        self._runs[run.id] = run
        session.run_ids.append(run.id)
        if start.webhook is not None:
            self.outbox.keep(run.id, start.webhook)
        if start.key and start.key.digest not in self._keys:
            record = KeyRecord(start.key.request, run.id, start.key.answer)
            self._keys[start.key.digest] = _Key(session.record.id, start.key.created_at_s, record)

    def _keep_key(self, key: Key) -> None:
        if key.digest in self._keys:
            raise KeyTaken
        self._keys[key.digest] = _Key("", key.created_at_s, KeyRecord(key.request, None, key.answer))

    def _session(self, session_id: str) -> _Session:
        session = self._found(session_id)
        if session is None:
            raise SessionNotFound(session_id)
        return session

    def _stored(self, session_id: str) -> _Session:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise SessionNotFound(session_id) from None

    def _found(self, session_id: str) -> _Session | None:
        session = self._sessions.get(session_id)
        return None if session is None or self._has_expired(session, current_time_s()) else session

    def _has_expired(self, session: _Session, now_s: float) -> bool:
        if not has_expired(session.record, now_s):
            return False
        return all(self._runs[run_id].finished_at_s is not None for run_id in session.run_ids)

    def _steps(self, session_id: str) -> Iterator[_Step]:
        session = self._found(session_id)
        return iter(session.steps if session else ())


def _no_step(session: _Session, seq: int) -> StepNotFound:
    record = session.record
    if (-1 if record.parent_seq is None else record.parent_seq) < seq <= session.base_seq:
        return StepTrimmed(record.id, seq, session.base_seq + 1)
    return StepNotFound(record.id, seq)


def _bare(commit: Commit, step: StepCommit) -> StepRecord:
    return StepRecord(
        session_id=commit.session_id,
        seq=step.seq,
        kind=step.kind,
        run_id=commit.run_id,
        action=step.action,
        operations=(),
        result=None,
        next_action=step.next_action,
        started_at_s=step.started_at_s,
        finished_at_s=step.finished_at_s,
        first_event_id=step.first_event_id,
        event_id=step.event_id,
    )


def _matches(which: SessionFilter, session: _Session) -> bool:
    record = session.record
    return (
        which.machine in (None, record.machine)
        and (record.has_run if which.status is SessionStatus.RUNNING else which.status in (None, record.status))
        and which.partition_key in (None, record.partition_key)
        and all(record.metadata.get(key) == value for key, value in which.metadata.items())
    )
