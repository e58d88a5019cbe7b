"""Sessions that expire, in every store."""

import time
from dataclasses import replace
from typing import Any

import pytest

from app.persistence.records import Commit, NewSession, SessionFilter, SessionStatus
from app.persistence.store import RunNotFound, SessionExists, SessionNotFound, Store
from tests.persistence.making import T0, Writer, ended, new, started, step, step_commit

LONG_AGO = T0  # what is created then and lives for a second has expired
FAR_AHEAD_S = 1e9


def mortal(session_id: str = "s", **changes: Any) -> NewSession:
    return new(session_id, **{"ttl_s": 1.0, "created_at_s": LONG_AGO, **changes})


async def purge(store: Store, now_s: float | None = None, limit: int = 100) -> list[str]:
    now_s = time.time() if now_s is None else now_s
    return sorted(await store.purge_expired(await store.maybe_expired(now_s, limit), now_s))


async def test_a_session_with_a_time_to_live_says_when_it_expires(store: Store) -> None:
    now_s = time.time()
    await store.create_session(mortal(created_at_s=now_s, ttl_s=60))
    assert (await store.get_session("s")).expires_at_s == now_s + 60
    await store.commit(step_commit("s", step(0, finished_at_s=now_s + 5)))
    assert (await store.load_session("s")).record.expires_at_s == now_s + 65
    await store.create_session(new("for ever"))
    assert (await store.get_session("for ever")).expires_at_s is None


async def test_a_session_that_has_expired_is_not_found_before_it_is_deleted(store: Store) -> None:
    await store.create_session(mortal(ttl_s=FAR_AHEAD_S))
    commit = step_commit("s", step(0), run_start=started("r", 5), run_end=ended("r", 50), run_id="r")
    await store.commit(replace(commit, details=None))
    await store.create_session(mortal("gone"))
    await store.commit(step_commit("gone", step(0), run_start=started("q", 5), run_end=ended("q", 50), run_id="q"))
    for call in (
        store.get_session("gone"),
        store.load_session("gone"),
        store.claim_session("gone"),
        store.get_step("gone", 0),
        store.state_at("gone", 0),
        store.delete_session("gone"),
        store.trim("gone", before_seq=1),
        store.queue_run("gone", started("waits")),
    ):
        with pytest.raises(SessionNotFound):
            await call
    with pytest.raises(RunNotFound):
        await store.get_run("q")
    assert [list(await rows) for rows in (store.list_steps("gone"), store.list_runs("gone"), store.list_failures("gone"))] == [
        [], [], [],
    ]  # fmt: skip
    assert [record.id for record in (await store.list_sessions(SessionFilter(), 10, None)).sessions] == ["s"]
    assert (await store.get_run("r")).id == "r"
    assert len(await store.list_steps("s")) == 1


async def test_what_has_expired_is_deleted_and_its_id_is_free_again(store: Store) -> None:
    for number in range(5):
        await store.create_session(mortal(f"s{number}", metadata={"env": "x"}))
    await store.create_session(mortal("young", created_at_s=time.time(), ttl_s=60))
    await store.create_session(new("for ever"))
    with pytest.raises(SessionExists):
        await store.create_session(new("s0"))
    assert await purge(store) == [f"s{number}" for number in range(5)]
    assert await purge(store) == []
    await store.create_session(new("s0"))
    assert (await store.load_session("s0")).state == {"n": 0}
    assert (await store.get_session("young")).seq == (await store.get_session("for ever")).seq == -1


async def test_a_step_puts_the_end_off_without_touching_more_than_it_did_before(store: Store) -> None:
    await store.create_session(mortal(ttl_s=100.0))
    await store.commit(step_commit("s", step(0, started_at_s=T0 + 50, finished_at_s=T0 + 60)))
    assert await purge(store, T0 + 159) == []
    assert await purge(store, T0 + 161) == ["s"]


async def test_a_session_with_a_run_under_way_does_not_expire(store: Store) -> None:
    await store.create_session(mortal())
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started()))
    assert await purge(store) == []
    assert (await store.get_session("s")).has_run
    await store.commit(Commit("s", SessionStatus.IDLE, 50, run_end=ended()))
    with pytest.raises(SessionNotFound):
        await store.get_session("s")
    await purge(store, T0 + FAR_AHEAD_S)
    with pytest.raises(SessionNotFound):
        await store.commit(step_commit("s", step(0)))


async def test_a_session_with_a_run_that_waits_does_not_expire(store: Store) -> None:
    now_s = time.time()
    await store.create_session(mortal(created_at_s=now_s, ttl_s=60))
    await store.queue_run("s", started())
    assert await purge(store, now_s + 1000) == []
    assert (await store.get_session("s")).id == "s"
    assert [run.id for run in await store.unfinished_runs()] == ["r"]


async def test_long_histories_do_not_all_go_at_once_but_in_the_end_they_do(store: Store) -> None:
    for name in ("a", "b", "c"):
        session = mortal(name)
        await store.create_session(session)
        writer = Writer(store, session)
        for _ in range(30):
            await writer.take()
    gone: list[str] = []
    for _ in range(3):
        gone += await purge(store, limit=1)
    assert sorted(gone) == ["a", "b", "c"]
