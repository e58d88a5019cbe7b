"""Idempotency keys and runs that wait, in every store."""

from dataclasses import replace

import pytest

from app.persistence.records import Commit, Delivery, Key, KeyRecord, RunRecord, RunStatus, SessionStatus
from app.persistence.store import KeyTaken, RunNotFound, SessionExists, SessionNotFound, Store
from tests.persistence.making import T0, ended, new, started, step, step_commit

KEY = Key(b"where and which", b"what", T0)


async def test_the_key_of_a_run_is_known_with_its_first_commit(store: Store) -> None:
    await store.create_session(new())
    assert await store.find_key(KEY.digest) is None
    await store.commit(step_commit("s", step(0), run_start=started(key=KEY), run_end=ended(), run_id="r", last_event_id=50))
    assert await store.find_key(KEY.digest) == KeyRecord(b"what", "r", None)


async def test_the_key_of_a_new_session_keeps_the_answer(store: Store) -> None:
    key = replace(KEY, answer={"odd": "\0 \ud800", "n": 1})
    await store.create_session(new(key=key))
    assert await store.find_key(KEY.digest) == KeyRecord(b"what", None, key.answer)


async def test_a_key_is_used_once_and_what_comes_second_is_not_stored(store: Store) -> None:
    await store.create_session(new("first", key=KEY))
    with pytest.raises(KeyTaken):
        await store.create_session(new("second", key=KEY))
    with pytest.raises(SessionNotFound):
        await store.get_session("second")
    with pytest.raises(KeyTaken):
        await store.queue_run("first", started(key=KEY))
    with pytest.raises(RunNotFound):
        await store.get_run("r")
    with pytest.raises(SessionExists):
        await store.create_session(new("first"))


async def test_a_key_is_forgotten_with_its_session_or_when_it_is_old(store: Store) -> None:
    await store.create_session(new("s", key=KEY))
    await store.create_session(new("t", key=replace(KEY, digest=b"old", created_at_s=T0 - 10)))
    await store.create_session(new("u", key=replace(KEY, digest=b"new")))
    await store.delete_session("s")
    assert await store.find_key(KEY.digest) is None
    assert await store.purge_keys(T0) == 1
    assert await store.find_key(b"old") is None
    assert await store.find_key(b"new") is not None


async def test_a_run_waits_until_it_begins(store: Store) -> None:
    await store.create_session(new())
    start = started(started_at_s=T0, webhook={"url": "http://example.net"})
    await store.queue_run("s", start)
    hook = Delivery("http://example.net", T0)
    queued = RunRecord("r", "s", RunStatus.QUEUED, start.parameters, T0, None, 0, None, None, 0, None, webhook=hook)
    assert await store.get_run("r") == queued
    assert list(await store.unfinished_runs()) == [queued]
    assert list(await store.list_runs("s", after_event_id=-1)) == [queued]
    assert list(await store.list_runs("s", after_event_id=0)) == []
    assert (await store.get_session("s")).last_event_id == 1, "nothing has happened yet"
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started(started_at_s=T0 + 3)))
    begun = replace(queued, status=RunStatus.RUNNING, started_at_s=T0 + 3, started_event_id=5)
    assert await store.get_run("r") == begun
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started(started_at_s=T0 + 4, event_id=6)))
    assert await store.get_run("r") == begun, "a run begins once"


async def test_a_run_that_waited_may_begin_and_end_in_one_commit(store: Store) -> None:
    await store.create_session(new())
    await store.queue_run("s", started())
    await store.commit(step_commit("s", step(0), run_start=started(), run_end=ended(), run_id="r", last_event_id=50))
    run = await store.get_run("r")
    assert (run.status, run.started_event_id, run.finished_event_id, run.steps) == (RunStatus.FINISHED, 5, 50, 1)


async def test_a_run_cannot_wait_for_a_session_that_is_not_there(store: Store) -> None:
    for session_id in ("nobody", "nul\0"):
        with pytest.raises(SessionNotFound):
            await store.queue_run(session_id, started())


async def test_attempts_are_counted_as_long_as_a_run_does_not_get_on(store: Store) -> None:
    await store.create_session(new())
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started()))
    assert [await store.begin_attempt("r", 0) for _ in range(2)] == [1, 2]
    assert [await store.begin_attempt("r", 4) for _ in range(3)] == [1, 2, 3]
    assert (await store.get_run("r")).attempts == 3
    await store.commit(Commit("s", SessionStatus.IDLE, 50, run_end=ended(steps=4)))
    with pytest.raises(RunNotFound):
        await store.begin_attempt("r", 4)
