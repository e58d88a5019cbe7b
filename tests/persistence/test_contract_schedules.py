"""Schedules in every store: due at their time, and one run for each."""

import asyncio
from dataclasses import replace

import pytest

from app.persistence.records import Key, RunStatus
from app.persistence.schedules import Fired, ScheduleRecord
from app.persistence.store import KeyTaken, ScheduleNotFound, SessionNotFound, Store
from tests.persistence.making import T0, new, opened, queried, started


def schedule(name: str = "a", **changes: object) -> ScheduleRecord:
    made = ScheduleRecord(name, "s", None, {"every_s": 60, "nested": {"x": [1, None]}}, False, T0, T0 + 60)
    return replace(made, **changes)  # type: ignore[arg-type]  # by name


async def test_a_schedule_is_kept_as_it_was_added(store: Store) -> None:
    await store.schedules.add(schedule())
    await store.schedules.add(schedule("b", session_id=None, machine="counter", is_paused=True, next_at_s=None))
    assert await store.schedules.get("a") == schedule()
    assert [each.id for each in await store.schedules.page(10)] == ["b", "a"]
    assert [each.id for each in await store.schedules.page(1)] == ["b"]
    assert [each.id for each in await store.schedules.page(10, "b")] == ["a"]
    await store.schedules.delete("a")
    for refused in (store.schedules.get("a"), store.schedules.delete("a"), store.schedules.pause("a", True, None)):
        with pytest.raises(ScheduleNotFound):
            await refused


async def test_a_key_adds_one_schedule(store: Store) -> None:
    key = Key(b"k", b"r", T0, {"id": "a"})
    await store.schedules.add(schedule(), key)
    with pytest.raises(KeyTaken):
        await store.schedules.add(schedule("b"), key)
    assert [each.id for each in await store.schedules.page(10)] == ["a"]
    known = await store.find_key(b"k")
    assert known is not None
    assert known.answer == {"id": "a"}


async def test_what_is_due_comes_oldest_first_and_only_for_machines_that_are_hosted(store: Store) -> None:
    await store.schedules.add(schedule("late", next_at_s=T0 + 61))
    await store.schedules.add(schedule("early"))
    await store.schedules.add(schedule("paused", is_paused=True, next_at_s=None))
    await store.schedules.add(schedule("made", session_id=None, machine="counter"))
    await store.schedules.add(schedule("elsewhere", session_id=None, machine="other"))
    assert list(await store.schedules.due(T0 + 59, ["counter"])) == []
    assert [each.id for each in await store.schedules.due(T0 + 99, [])] == ["early", "late"]
    assert {each.id for each in await store.schedules.due(T0 + 60, ["counter"])} == {"early", "made"}
    assert len(await store.schedules.due(T0 + 99, ["counter", "other"], limit=3)) == 3


async def test_a_schedule_that_fires_stores_its_run_and_moves_on(store: Store) -> None:
    await store.create_session(new())
    await store.schedules.add(schedule())
    assert await store.schedules.fire(schedule(), Fired(T0 + 120, "s", started("r")))
    run = await store.get_run("r")
    assert (run.status, run.session_id) == (RunStatus.QUEUED, "s")
    assert await store.schedules.get("a") == schedule(next_at_s=T0 + 120, last_at_s=T0 + 60, last_run_id="r")


async def test_a_schedule_fires_once_for_each_time(store: Store) -> None:
    await store.create_session(new())
    await store.schedules.add(schedule())
    fired = [store.schedules.fire(schedule(), Fired(T0 + 120, "s", started(f"r{number}"))) for number in range(8)]
    assert sum(await asyncio.gather(*fired)) == 1
    assert len(await store.unfinished_runs()) == 1


async def test_one_that_was_paused_or_deleted_meanwhile_does_not_fire(store: Store) -> None:
    await store.create_session(new())
    for name in ("paused", "deleted"):
        await store.schedules.add(schedule(name))
    assert (await store.schedules.pause("paused", True, None)).is_paused
    await store.schedules.delete("deleted")
    for name in ("paused", "deleted"):
        assert not await store.schedules.fire(schedule(name), Fired(T0 + 120, "s", started("r")))
    assert list(await store.unfinished_runs()) == []
    assert await store.schedules.pause("paused", False, T0 + 500) == schedule("paused", next_at_s=T0 + 500)


async def test_one_that_is_given_up_is_paused_and_says_why(store: Store) -> None:
    await store.create_session(new())
    for name, changes in (
        ("last", {}),
        ("session", {}),
        ("maker", {"session_id": None, "machine": "m"}),
        ("other", {"session_id": "t"}),
    ):
        await store.schedules.add(schedule(name, **changes))
    assert await store.schedules.fire(schedule("last"), Fired(T0 + 120, "s", started("r")))
    assert {each.id for each in await store.schedules.that_may_have_begun("r", "u")} == {"last"}
    assert {each.id for each in await store.schedules.that_may_have_begun("x", "s", "maker")} == {"last", "session", "maker"}
    await store.schedules.give_up("session", {"type": "recovery-failed"})
    await store.schedules.give_up("gone", {"type": "recovery-failed"})
    found = await store.schedules.get("session")
    assert found == schedule("session", is_paused=True, next_at_s=None, last_error={"type": "recovery-failed"})
    assert await store.schedules.get("other") == schedule("other", session_id="t")


async def test_a_session_that_is_gone_leaves_the_schedule_as_it_was(store: Store) -> None:
    await store.schedules.add(schedule())
    with pytest.raises(SessionNotFound):
        await store.schedules.fire(schedule(), Fired(T0 + 120, "s", started("r")))
    assert await store.schedules.get("a") == schedule()
    assert await store.schedules.fire(schedule(), Fired(None, error={"type": "session-not-found"}))
    assert await store.schedules.get("a") == schedule(next_at_s=None, last_at_s=T0 + 60, last_error={"type": "session-not-found"})


async def test_two_replicas_store_one_run_and_its_job_for_each_time(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        await one.create_session(new())
        await one.schedules.add(schedule())
        fired = [
            store.schedules.fire(schedule(), Fired(T0 + 120, "s", started(f"r{number}")))
            for number, store in enumerate([one, other] * 6)
        ]
        assert sum(await asyncio.gather(*fired)) == 1
        assert await queried(postgres_url, "SELECT count(*) FROM stepwell_pgqueuer") == 1
        assert await queried(postgres_url, "SELECT count(*) FROM runs") == 1
