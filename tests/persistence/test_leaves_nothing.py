"""A session that is gone has left no row behind, in whatever tables there are."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import Column, Connection, LargeBinary, MetaData, Table, insert, select
from sqlalchemy.types import Boolean, Double, Integer, Text

from app.persistence.records import Key, RunStatus, SessionStatus
from app.persistence.store import Store
from app.persistence.tables import METADATA
from tests.persistence.making import T0, Writer, ended, failed, new, on_database, opened, started, step, step_commit

OF_SESSIONS = [table for table in METADATA.sorted_tables if "session_key" in table.c]
# the jobs of runs: one is done with when somebody comes to it, and finds no run
OF_THE_QUEUE = "stepwell_pgqueuer"
DOOMED, STAYS = "doomed", "stays"


async def fill(store: Store, session_id: str) -> None:
    """A session with everything that one can have."""
    key = Key(f"key of {session_id}".encode(), b"asked", T0, {"answer": 1})
    session = new(session_id, created_at_s=T0, ttl_s=1e9, metadata={"env": "x", "owner": session_id}, key=key)
    await store.create_session(session)
    writer = Writer(store, session)
    for _ in range(100):  # enough for snapshots
        await writer.take()
    run, other = f"run of {session_id}", f"other of {session_id}"
    told = started(run, 2000, webhook={"url": "http://localhost"}, key=Key(run.encode(), b"asked", T0))
    end = ended(run, 2050, status=RunStatus.FAILED, error={"type": "x"})
    failure = failed(101, 2031, run_id=run)
    made = step(100, first_event_id=2010, event_id=2020)
    await store.commit(step_commit(session_id, made, run_start=told, failure=failure, run_end=end, run_id=run))
    await store.queue_run(session_id, started(other, 0))
    await store.trim(session_id, before_seq=20)


def complete(connection: Connection, keys: Mapping[str, int]) -> None:
    """Put a row of each session into every table of sessions that has none."""
    for table in OF_SESSIONS:
        for session_id, key in keys.items():
            if not connection.execute(select(table).where(table.c.session_key == key)).all():
                values = {column.name: some(column, session_id) for column in table.c if needs_value(column)}
                connection.execute(insert(table), {**values, "session_key": key})


def needs_value(column: Column[Any]) -> bool:
    return not column.nullable and column.server_default is None and column.autoincrement is not True


def some(column: Column[Any], session_id: str) -> Any:
    match column.type:
        case LargeBinary():
            return session_id.encode()
        case Integer() | Boolean():
            return 1
        case Double():
            return T0
        case Text():
            return session_id
    return None


def rows(connection: Connection) -> dict[str, list[Any]]:
    """All rows of all tables that are there, also of those that the code does not know."""
    there = MetaData()
    there.reflect(connection)
    ours = [table for name, table in there.tables.items() if not name.startswith(OF_THE_QUEUE)]
    return {table.name: [tuple(row) for row in connection.execute(select(table))] for table in ours}


def keys_of(connection: Connection) -> dict[str, int]:
    sessions: Table = METADATA.tables["sessions"]
    return {row.id: row.key for row in connection.execute(select(sessions.c.id, sessions.c.key))}


async def delete(store: Store) -> None:
    await store.delete_session(DOOMED)


async def expire(store: Store) -> None:
    """Let a last run end, and a time pass in which nothing happens."""
    for run in await store.unfinished_runs_of(DOOMED):
        end = ended(run.id, 9000, status=RunStatus.CANCELLED)
        await store.commit(step_commit(DOOMED, step(101, event_id=8000), run_end=end, status=SessionStatus.IDLE))
    await store.commit(step_commit(STAYS, step(101, finished_at_s=time.time() + 1e10)))
    assert await store.purge_expired([DOOMED, STAYS], time.time() + 5e9) == [DOOMED]


@pytest.mark.parametrize("end", [delete, expire])
async def test_nothing_of_a_session_is_left_in_any_table(database_url: str, end: Callable[[Store], Awaitable[None]]) -> None:
    async with opened(database_url) as store:
        await fill(store, DOOMED)
        await fill(store, STAYS)
        keys = await on_database(database_url, keys_of)
        await on_database(database_url, lambda connection: complete(connection, keys))
        before = await on_database(database_url, rows)
        assert [table.name for table in OF_SESSIONS if not of(before, table, keys[DOOMED])] == []
        await end(store)
        after = await on_database(database_url, rows)
    assert [table.name for table in OF_SESSIONS if of(after, table, keys[DOOMED])] == []
    assert [name for name, found in after.items() if DOOMED in repr(found)] == []
    assert [table.name for table in OF_SESSIONS if not of(after, table, keys[STAYS])] == []


def of(found: dict[str, list[Any]], table: Table, key: int) -> list[Any]:
    """The rows of one session."""
    place = list(table.c.keys()).index("session_key")
    return [row for row in found[table.name] if row[place] == key]
