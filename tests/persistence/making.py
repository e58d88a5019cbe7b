"""Small factories for what goes into a store."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, text

from app.engine.operations import Increment, Operation, apply_all
from app.persistence import session_lists
from app.persistence.engines import postgres_engine, sqlite_writer
from app.persistence.factory import open_store
from app.persistence.records import (
    Commit,
    FailureRecord,
    NewSession,
    RunEnd,
    RunStart,
    RunStatus,
    SessionStatus,
    StepCommit,
)
from app.persistence.store import Store
from app.persistence.urls import Postgres, Sqlite, parse
from tests.pgbouncer import is_pooled

__all__ = [
    "Writer",
    "ended",
    "failed",
    "new",
    "on_database",
    "opened",
    "queried",
    "short_walks",
    "started",
    "step",
    "step_commit",
]

T = TypeVar("T")

T0 = 1_700_000_000.0


def new(session_id: str = "s", **changes: Any) -> NewSession:
    session = NewSession(
        id=session_id,
        machine="counter",
        machine_version="1",
        state={"n": 0},
        next_action="count",
        created_at_s=T0,
        event_id=1,
    )
    return replace(session, **changes)


def step(
    seq: int, operations: tuple[Operation, ...] = (Increment("n", 1),), state: Mapping[str, Any] | None = None, **changes: Any
) -> StepCommit:
    """Step `seq` of a counter. Its events are 10·seq + 11 and 10·seq + 12."""
    made = StepCommit(
        seq=seq,
        action="count",
        operations=operations,
        result={"n": seq + 1},
        state={"n": seq + 1} if state is None else state,
        next_action="count",
        started_at_s=T0 + seq,
        finished_at_s=T0 + seq + 0.5,
        first_event_id=10 * seq + 11,
        event_id=10 * seq + 12,
    )
    return replace(made, **changes)


def step_commit(session_id: str, made: StepCommit, **changes: Any) -> Commit:
    commit = Commit(session_id=session_id, status=SessionStatus.IDLE, last_event_id=made.event_id, step=made)
    return replace(commit, **changes)


def started(run_id: str = "r", event_id: int = 5, **changes: Any) -> RunStart:
    return replace(RunStart(run_id, event_id, T0 + 1, {"inputs": {"by": 2}, "halt_after": ["count"]}), **changes)


def ended(run_id: str = "r", event_id: int = 50, **changes: Any) -> RunEnd:
    return replace(RunEnd(run_id, RunStatus.FINISHED, event_id, T0 + 9, 1, "halt_after"), **changes)


def failed(seq: int = 0, event_id: int = 31, **changes: Any) -> FailureRecord:
    failure = FailureRecord(
        seq=seq,
        action="count",
        error_type="ValueError",
        message="no such\0thing \ud800",
        traceback="Traceback …",
        started_at_s=T0 + 1,
        finished_at_s=T0 + 2,
        first_event_id=event_id - 1,
        event_id=event_id,
    )
    return replace(failure, **changes)


class Writer:
    """Writes one session's steps in order, and knows what its state should be after each."""

    def __init__(self, store: Store, session: NewSession) -> None:
        self.store = store
        self.id = session.id
        self.seq = session.seq
        self.states = {session.seq: dict(session.state)}

    async def take(self, *operations: Operation, **changes: Any) -> None:
        state = apply_all(self.states[self.seq], operations)
        await self.store.commit(step_commit(self.id, step(self.seq + 1, operations, state, **changes)))
        self.seq += 1
        self.states[self.seq] = state


@contextlib.contextmanager
def short_walks(walked: int, reach: int) -> Iterator[None]:
    """Let a page of sessions end after so many entries of an index; `reach` of each are looked at to choose it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_lists, "WALKED", walked)
        patch.setattr(session_lists, "REACH", reach)
        session_lists.sessions_page.cache_clear()
        session_lists.reaches.cache_clear()
        yield
    session_lists.sessions_page.cache_clear()
    session_lists.reaches.cache_clear()


@contextlib.asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Store]:
    """The store behind `url`, open; its schema is made if need be."""
    store = open_store(url, migrate=True, **{"is_pgbouncer": is_pooled(url), **settings})
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def queried(url: str, query: str) -> Any:
    """The first value that `query` gives on the database behind `url`, if it gives any."""

    def answer(connection: Connection) -> Any:
        result = connection.execute(text(query))
        return result.scalar() if result.returns_rows else None

    return await on_database(url, answer)


async def on_database(url: str, look: Callable[[Connection], T]) -> T:
    """What `look(connection)` returns; each of its statements commits by itself."""
    match parse(url):
        case Sqlite() as database:
            with sqlite_writer(database, is_power_safe=True, busy_timeout_s=5).connect() as connection:
                return look(connection)
        case Postgres() as database:
            server = postgres_engine(database, pool_size=1, is_pgbouncer=is_pooled(url))
            try:
                async with server.connect() as there:
                    await there.execution_options(isolation_level="AUTOCOMMIT")
                    found: T = await there.run_sync(look)
                    return found
            finally:
                await server.dispose()
    raise AssertionError(url)
