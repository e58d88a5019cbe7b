"""What is read from a database, on any connection of its pool. Nothing is written here, and no transaction is held."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, takewhile
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Executable, Row, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import Pool

from app.persistence import statements as sql
from app.persistence.codec import PayloadInvalid, Unreadable, decode_document, deflate, encode_state, refers_to_state
from app.persistence.cursors import decode_cursor, encode_cursor
from app.persistence.damage import damage_hint
from app.persistence.decoding import are_large, decoded_anywhere
from app.persistence.ended_runs import run_in_step, run_key
from app.persistence.expiry import DUE
from app.persistence.poolers import pooler_hint
from app.persistence.records import (
    FailureRecord,
    History,
    KeyRecord,
    LoadedSession,
    RunRecord,
    SessionFilter,
    SessionPage,
    SessionRecord,
    StepRecord,
)
from app.persistence.replaying import ReplayedState, replay, values_referred_to
from app.persistence.rows import failure_record, run_record, session_record, step_record
from app.persistence.run_order import by_last_event
from app.persistence.session_lists import conditions_of, reaches, sessions_page
from app.persistence.store import RunNotFound, SessionNotFound, StepNotFound, StepTrimmed, StoreUnavailable
from app.persistence.texts import is_storable
from app.persistence.writer import ConnectionLost
from app.system.gil import in_short_turns
from app.system.host_threads import HostThreads

__all__ = ["Reader", "answer", "available", "close", "ping", "reopen"]

_MOST = 2**63 - 1
_THREADS = 4
_BROWSING_THREADS = 2
ANSWER_LIMIT_S = 15.0
_FINISH_S = 1.0

_closed: "WeakSet[Pool]" = WeakSet()
# the queries of each pool until they end, also those whose callers have gone
_under_way: "WeakKeyDictionary[Pool, set[asyncio.Future[Any]]]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, repr=False)
class Cut:
    """Where a history is to begin: behind `base_seq`, with `state`. Not `is_new` if it begins there already."""

    key: int
    base_seq: int
    is_new: bool
    state: bytes | None = None


@asynccontextmanager
async def available() -> AsyncIterator[None]:
    """Turn what a driver says when its database does not work into StoreUnavailable."""
    try:
        yield
    except ConnectionLost as exc:
        raise StoreUnavailable(str(exc)) from None
    except (SQLAlchemyError, OSError, TimeoutError) as exc:
        found = getattr(exc, "orig", None) or exc
        hint = pooler_hint(getattr(found, "sqlstate", None)) or damage_hint(found)
        raise StoreUnavailable(hint or f"the database does not answer ({type(found).__name__})") from exc


class Reader:
    """The reading half of a store."""

    def __init__(self, engine: AsyncEngine, *, browsers: int = 1) -> None:
        """So many `browsers` look through histories and lists at once: the other connections are for what is to run."""
        self._engine = engine
        self._browsers = asyncio.Semaphore(browsers)
        self._threads = HostThreads("load", _THREADS)
        self._browsing_threads = HostThreads("browse", _BROWSING_THREADS)

    def close(self) -> None:
        self._threads.close()
        self._browsing_threads.close()

    async def session(self, session_id: str) -> SessionRecord:
        return session_record(await self._session_row(sql.SESSION, session_id))

    async def claim(self, session_id: str) -> tuple[str | None, int]:
        """Return which replica has claimed a session, and with which number. Raises SessionNotFound."""
        row = await self._session_row(sql.SESSION, session_id)
        return row.claimed_by, row.claim_no

    async def loaded(self, session_id: str, claim: Callable[[str], Awaitable[Any]] | None = None) -> LoadedSession:
        """Return a session; with `claim` its row is what that gives."""
        while True:
            row = await (claim(session_id) if claim else self._session_row(sql.SESSION_WITH_SNAPSHOT, session_id))
            log = await self._rows(sql.PAYLOADS, key=row.key, after_seq=row.snapshot_seq, seq=row.seq)
            found = await _replayed(self._threads, row.state, log, row.seq - row.snapshot_seq)
            if found is not None:
                return LoadedSession(session_record(row), found.state, found.unreadable)
            if (await self._session_row(sql.SESSION, session_id)).snapshot_seq == row.snapshot_seq:
                raise PayloadInvalid(f"the log of session {session_id!r} has a gap")

    async def state_at(self, session_id: str, seq: int) -> dict[str, Any]:
        return (await self._stored_at(session_id, seq)).readable(session_id, seq)

    async def _stored_at(self, session_id: str, seq: int) -> ReplayedState:
        row = await self._session_row(sql.SESSION, session_id)
        if not row.base_seq <= seq <= row.seq:
            raise _no_step(row, seq)
        nearest = await self._browse(sql.NEAREST_SNAPSHOT, key=row.key, seq=seq)
        state = None
        if nearest:
            snapshot = nearest[0]
            log = await self._browse(sql.PAYLOADS, key=row.key, after_seq=snapshot.seq, seq=seq)
            state = await _replayed(self._browsing_threads, snapshot.state, log, seq - snapshot.seq)
        if state is None:
            raise _no_step(await self._session_row(sql.SESSION, session_id), seq)
        return state

    async def sessions_page(self, which: SessionFilter, limit: int, cursor: str | None) -> SessionPage:
        before = None if cursor is None else decode_cursor(cursor)
        wanted = [which.machine or "", which.partition_key or "", *chain.from_iterable(which.metadata.items())]
        if limit <= 0 or not all(map(is_storable, wanted)):
            return SessionPage((), None)
        values = {**conditions_of(which), "before": _MOST if before is None else before, "limit": limit + 1}
        conditions = await self._sparsest_first(tuple(conditions_of(which)), values)
        rows = await self._browse(sessions_page(conditions), **values)
        met = list(takewhile(lambda row: row.is_met, rows))
        shown = met[:limit]
        last = shown[-1] if len(met) > limit else rows[len(met)] if len(met) < len(rows) else None
        return SessionPage(tuple(map(session_record, shown)), None if last is None else encode_cursor(last.key))

    async def _sparsest_first(self, conditions: tuple[str, ...], values: Mapping[str, Any]) -> tuple[str, ...]:
        if len(conditions) < 2:
            return conditions
        (reached,) = await self._browse(reaches(conditions), **values)
        sparsest = min(range(len(conditions)), key=lambda place: reached[place] or 0)
        return (conditions[sparsest], *conditions[:sparsest], *conditions[sparsest + 1 :])

    async def steps(self, session_id: str, after_seq: int | None, before_seq: int | None, limit: int) -> Sequence[StepRecord]:
        after = -_MOST if after_seq is None else after_seq
        before = _MOST if before_seq is None else before_seq
        found = await self._of_session(sql.STEPS, session_id, after_seq=after, before_seq=before, limit=limit)
        return await self._step_records(session_id, found)

    async def step(self, session_id: str, seq: int) -> StepRecord:
        found = await self._of_session(sql.STEP, session_id, seq=seq, limit=1)
        if not found:
            raise _no_step(await self._session_row(sql.SESSION, session_id), seq)
        (record,) = await self._step_records(session_id, found)
        return record

    async def steps_after_event(self, session_id: str, after_event_id: int, limit: int) -> Sequence[StepRecord]:
        found = await self._of_session(sql.STEPS_AFTER_EVENT, session_id, after=after_event_id, limit=limit)
        return await self._step_records(session_id, found)

    async def _step_records(self, session_id: str, rows: Sequence[Row[Any]]) -> Sequence[StepRecord]:
        referring = [row for row in rows if refers_to_state(row.payload)]
        values = await self._values_referred_to(session_id, referring) if referring else {}
        return await decoded_anywhere(
            [row.payload for row in rows], lambda: [step_record(session_id, row, values.get(row.seq)) for row in rows]
        )

    async def _values_referred_to(self, session_id: str, rows: Sequence[Row[Any]]) -> dict[int, dict[str, Any]]:
        key, first, last = rows[0].session_key, rows[0].seq, rows[-1].seq
        for snapshot in await self._browse(sql.NEAREST_SNAPSHOT, key=key, seq=first - 1):
            log = await self._browse(sql.PAYLOADS, key=key, after_seq=snapshot.seq, seq=last)
            if len(log) == last - snapshot.seq:
                payloads = [row.payload for row in log]
                refer = partial(values_referred_to, snapshot.state, snapshot.seq, payloads, first)
                return await self._browsing_threads.run(in_short_turns, refer)
        raise _no_step(await self._session_row(sql.SESSION, session_id), first)  # trimmed meanwhile

    async def progress_of_run(self, run: RunRecord) -> tuple[int, int | None]:
        values = {"session_id": run.session_id, "after": run.started_event_id, "run_id": run.id}
        (row,) = await self._rows(sql.PROGRESS_OF_RUN, **values)
        return row.steps, row.first_seq

    async def failures(self, session_id: str, after_event_id: int, limit: int) -> Sequence[FailureRecord]:
        found = await self._of_session(sql.FAILURES, session_id, after_event_id=after_event_id, limit=limit)
        return [failure_record(row) for row in found]

    async def run(self, run_id: str) -> RunRecord:
        if not is_storable(run_id):
            raise RunNotFound(run_id)
        for row in await self._rows(sql.RUN, run_id=run_id):
            return run_record(row)
        for row in await self._rows(sql.ENDED_RUN, run_key=run_key(run_id)):  # in this order: it may be moving there
            return await decoded_anywhere([row.payload], partial(run_in_step, row))
        raise RunNotFound(run_id)

    async def runs(self, session_id: str, after_event_id: int, limit: int) -> Sequence[RunRecord]:
        found = await self._of_session(sql.RUNS, session_id, after_event_id=after_event_id, limit=limit)
        in_steps = await self._of_session(sql.ENDED_RUNS, session_id, after_event_id=after_event_id, limit=limit)
        all_ended = await decoded_anywhere([row.payload for row in in_steps], lambda: list(map(run_in_step, in_steps)))
        ended = [run for run in all_ended if (run.finished_event_id or 0) > after_event_id]
        known = {run.id for run in ended}  # one may have moved there meanwhile
        runs = [*ended, *(run for run in map(run_record, found) if run.id not in known)]
        return sorted(runs, key=by_last_event)[:limit]

    async def key(self, digest: bytes) -> KeyRecord | None:
        for row in await self._rows(sql.KEY, digest=digest):
            unreadable: Unreadable = []
            answer = None
            if row.answer is not None:
                answer = await decoded_anywhere([row.answer], partial(decode_document, row.answer, unreadable))
            return KeyRecord(row.request, row.run_id, answer, bool(unreadable))
        return None

    async def maybe_expired(self, now_s: float, replica_id: str | None, limit: int) -> Sequence[str]:
        return [row.id for row in await self._browse(DUE, now=now_s, replica_id=replica_id, limit=limit)]

    async def histories(self, after: int, limit: int) -> Sequence[History]:
        found = await self._browse(sql.HISTORIES, after=after, limit=max(0, limit))
        return [History(row.id, row.machine, row.key, row.seq, row.base_seq, row.oldest) for row in found]

    async def cut(self, session_id: str, before_seq: int, before_s: float | None) -> Cut:
        """Return where the history of a session can be cut so that it begins there, or earlier. Raises SessionNotFound."""
        row = await self._session_row(sql.SESSION, session_id)
        if before_s is not None:
            older = await self._rows(sql.STEP_AFTER_TIME, session_id=session_id, after=before_s)
            before_seq = max(before_seq, older[0].high) if older else before_seq
        base_seq = min(before_seq - 1, row.seq)
        for run in await self.unfinished_runs_of(session_id):
            if run.started_event_id:
                first = await self.steps_after_event(session_id, run.started_event_id, limit=1)
                base_seq = min(base_seq, (first[0].seq if first else row.seq + 1) - 2)
        if base_seq <= row.base_seq:
            return Cut(row.key, row.base_seq, is_new=False)
        try:
            state = (await self._stored_at(session_id, base_seq)).state
        except StepTrimmed as exc:  # somebody was faster
            return Cut(row.key, exc.first_seq - 1, is_new=False)
        return Cut(row.key, base_seq, is_new=True, state=await self._browsing_threads.run(in_short_turns, partial(_blob, state)))

    async def unfinished_runs_of(self, session_id: str) -> Sequence[RunRecord]:
        return [run_record(row) for row in await self._rows(sql.UNFINISHED_RUNS_OF, session_id=session_id)]

    async def running_runs(self, claimed_by: str | None, after: tuple[float, str], limit: int) -> Sequence[RunRecord]:
        values = {"after_s": after[0], "after_id": after[1], "limit": limit}
        if claimed_by is None:
            rows = await self._rows(sql.RUNNING_RUNS, **values)
        else:
            rows = await self._rows(sql.RUNNING_RUNS_OF_REPLICA, **values, claimed_by=claimed_by)
        return [run_record(row) for row in rows]

    async def unfinished_runs(self, limit: int) -> Sequence[RunRecord]:
        return [run_record(row) for row in await self._rows(sql.UNFINISHED_RUNS, limit=max(0, limit))]

    async def _session_row(self, statement: Executable, session_id: str) -> Row[Any]:
        found = await self._rows(statement, session_id=session_id) if is_storable(session_id) else ()
        if not found:
            raise SessionNotFound(session_id)
        return found[0]

    async def _of_session(self, statement: Executable, session_id: str, *, limit: int, **values: int) -> Sequence[Row[Any]]:
        if limit <= 0 or not is_storable(session_id) or any(abs(value) > _MOST for value in values.values()):
            return ()
        return await self._browse(statement, session_id=session_id, limit=limit, **values)

    async def _rows(self, statement: Executable, **values: Any) -> Sequence[Row[Any]]:
        async with available():
            return await answer(self._engine, statement, values)

    async def _browse(self, statement: Executable, **values: Any) -> Sequence[Row[Any]]:
        """Return rows of a history or a list: of these many may be asked for, and they may be long."""
        async with available(), asyncio.timeout(ANSWER_LIMIT_S), self._browsers:
            return await _answer_again(self._engine, statement, values)


async def ping(engine: AsyncEngine) -> None:
    """Return if the database answers. Raises StoreUnavailable."""
    async with available():
        await answer(engine, text("SELECT 1"), {})


async def answer(engine: AsyncEngine, statement: Executable, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
    """Return what the database answers, on any connection of the pool. The statement may be carried out twice.

    Raises TimeoutError when nothing comes back: a server that has lost its power closes no connection.
    """
    async with asyncio.timeout(ANSWER_LIMIT_S):
        return await _answer_again(engine, statement, values)


async def _answer_again(engine: AsyncEngine, statement: Executable, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
    try:
        return await _answer(engine, statement, values)
    except DBAPIError as exc:
        if not exc.connection_invalidated:
            raise
    # the database was away since this connection was used last: the pool has thrown out all of its age
    return await _answer(engine, statement, values)


async def _answer(engine: AsyncEngine, statement: Executable, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
    """Return rows. Whoever is cancelled meanwhile lets the query come to its end first, for a moment.

    A driver that is cancelled within a query loses its connection: SQLite's with its thread and its file, PostgreSQL's in the
    pool, where the next reader meets it.
    """
    if engine.pool in _closed:
        raise StoreUnavailable("the store is closed")
    asking = asyncio.ensure_future(_asked(engine, statement, values))
    under_way = _under_way.setdefault(engine.pool, set())
    under_way.add(asking)
    asking.add_done_callback(partial(_forget, under_way))
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        await asyncio.wait([asking], timeout=_FINISH_S)
        raise


def _forget(under_way: set[asyncio.Future[Any]], asking: asyncio.Future[Any]) -> None:
    under_way.discard(asking)
    if not asking.cancelled():
        asking.exception()  # seen: perhaps nobody waits for it any more


async def close(engine: AsyncEngine) -> None:
    """Close the connections of an engine, after the queries that are under way: one that is being made would stay open."""
    _closed.add(engine.pool)
    under_way = _under_way.get(engine.pool)
    if under_way:
        await asyncio.wait(under_way, timeout=ANSWER_LIMIT_S)
    await engine.dispose()  # and makes a new pool, in which whoever still reads would open a connection that nobody closes
    _closed.add(engine.pool)


def reopen(engine: AsyncEngine) -> None:
    """Let an engine that was closed be used again."""
    _closed.discard(engine.pool)


async def _asked(engine: AsyncEngine, statement: Executable, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
    async with asyncio.timeout(ANSWER_LIMIT_S), engine.connect() as connection:
        result = await connection.execute(statement, values)
        return result.all() if result.returns_rows else ()


async def _replayed(threads: HostThreads, state: bytes | None, log: Sequence[Any], length: int) -> ReplayedState | None:
    """Return `state` after the `length` steps of `log`, or None if a part of it is not there (any more)."""
    payloads = [row.payload for row in log]
    if state is None or len(payloads) != length:
        return None
    if are_large([state, *payloads]):
        return await threads.run(in_short_turns, partial(replay, state, payloads))
    return replay(state, payloads)


def _no_step(session: Any, seq: int) -> StepNotFound:
    """What to raise for a step that is not there: a fork has none of its parent's, and that is no trimming."""
    first = -1 if session.parent_seq is None else session.parent_seq
    if first < seq <= session.base_seq:
        return StepTrimmed(session.id, seq, session.base_seq + 1)
    return StepNotFound(session.id, seq)


def _blob(state: Mapping[str, Any]) -> bytes:
    return deflate(encode_state(state))
