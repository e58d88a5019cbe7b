"""Group commit over real databases: batches, offenders, snapshots, bytes."""

import asyncio
import logging
import sys
import traceback
from pathlib import Path

import pytest

from app.engine.operations import Append, Increment, Set
from app.engine.serde import UnserializableValue
from app.persistence.records import Commit, SessionStatus
from app.persistence.sql_store import SqlStore
from app.persistence.store import Store, StoreError
from tests.persistence.making import Writer, failed, new, opened, queried, step, step_commit

SECRET = "hunter2-5f1d"
TOO_LARGE = 2**70


async def test_hundreds_of_sessions_go_in_few_flushes(database_url: str) -> None:
    async with opened(database_url) as store:
        ids = [f"s{number}" for number in range(300)]
        await asyncio.gather(*(store.create_session(new(session_id)) for session_id in ids))
        for seq in range(3):
            await asyncio.gather(*(store.commit(step_commit(session_id, step(seq))) for session_id in ids))
        for session_id in ids:
            assert (await store.load_session(session_id)).state == {"n": 3}
        assert isinstance(store, SqlStore)
        assert store.flushes <= 8


async def test_what_the_database_refuses_fails_alone(database_url: str) -> None:
    async with opened(database_url) as store:
        ids = [f"s{number}" for number in range(30)]
        await asyncio.gather(*(store.create_session(new(session_id)) for session_id in ids))
        outcomes = await asyncio.gather(
            *(store.commit(step_commit(one, step(0, event_id=TOO_LARGE if one == "s7" else 12))) for one in ids),
            store.create_session(new("odd", parent_seq=TOO_LARGE)),
            store.create_session(new("fine")),
            return_exceptions=True,
        )
        refused = [index for index, outcome in enumerate(outcomes) if outcome is not None]
        assert refused == [7, 30]
        assert all(isinstance(outcomes[index], StoreError) for index in refused)
        assert (await store.get_session("s7")).seq == -1
        assert (await store.get_session("s8")).seq == 0


async def test_errors_and_logs_show_no_values(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    state = {"password": SECRET}
    async with opened(database_url) as store:
        await store.create_session(new(state=state))
        operations = (Set("password", SECRET),)
        calls = [
            store.commit(step_commit("s", step(0, operations, state, event_id=TOO_LARGE))),
            store.commit(step_commit("s", step(0, operations, state, result={"password": SECRET, "odd": object()}))),
            store.commit(step_commit("s", step(5, operations, state))),
            store.commit(step_commit("s", step(0, operations, state), failure=failed(event_id=TOO_LARGE, message=SECRET))),
            store.create_session(new("t", state=state, parent_seq=TOO_LARGE)),
            store.create_session(new("s", state=state)),
            store.create_session(new("u", state={"password": SECRET, "odd": object()})),
        ]
        for call in calls:
            with pytest.raises((StoreError, UnserializableValue)) as caught:
                await call
            assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caplog.text


async def test_a_value_that_cannot_be_stored_changes_nothing(store: Store) -> None:
    await store.create_session(new())
    with pytest.raises(UnserializableValue):
        await store.commit(step_commit("s", step(0, (Set("k", object()),), {"n": 0})))
    with pytest.raises(UnserializableValue):
        await store.create_session(new("other", state={"k": object()}))
    assert (await store.load_session("s")).record.seq == -1


async def test_large_steps_and_states_are_stored_whole(store: Store) -> None:
    large = {"text": "words and words " * 50_000, "rows": list(range(20_000))}
    session = new(state={"start": large})
    await store.create_session(session)
    writer = Writer(store, session)
    for _ in range(3):
        await writer.take(Set("copy", large), Append("log", large["text"]), result=large)
    assert (await store.load_session("s")).state == writer.states[2]
    assert await store.state_at("s", 0) == writer.states[0]
    assert (await store.get_step("s", 1)).result == large


async def test_a_counter_is_read_back_from_few_rows(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.create_session(new())
        for seq in range(300):
            await store.commit(step_commit("s", step(seq)))
        assert await queried(database_url, "SELECT seq - snapshot_seq FROM sessions") < 64
        assert (await store.load_session("s")).state == {"n": 300}


async def test_a_snapshot_does_not_outlive_its_session(database_url: str) -> None:
    async with opened(database_url) as store:
        for _ in range(3):
            await store.create_session(new())
            for seq in range(60):
                await store.commit(step_commit("s", step(seq)))
            await store.delete_session("s")
        await store.create_session(new())
        await store.commit(step_commit("s", step(0)))
        assert (await store.load_session("s")).state == {"n": 1}
        assert await store.state_at("s", -1) == {"n": 0}


async def test_a_failure_and_a_status_need_no_step(store: Store) -> None:
    await store.create_session(new())
    await store.commit(Commit("s", SessionStatus.FAILED, 31, failure=failed()))
    await store.commit(step_commit("s", step(0, (Increment("n", 5),), {"n": 5})))
    record = await store.get_session("s")
    assert (record.status, record.seq, record.last_event_id) == (SessionStatus.IDLE, 0, 31)


async def test_turns_with_the_interpreter_are_short_while_a_wave_is_written_to_sqlite(tmp_path: Path) -> None:
    """Its thread asks for the interpreter after each statement, and a busy loop would keep it for milliseconds each time."""
    usual = sys.getswitchinterval()
    async with opened(f"sqlite:///{tmp_path}/sessions.db") as store:
        seen: set[float] = set()
        creating = asyncio.create_task(store.create_session(new()))
        while not creating.done():
            seen.add(sys.getswitchinterval())
            await asyncio.sleep(0)
        assert min(seen) < usual / 10
        assert sys.getswitchinterval() == pytest.approx(usual)
