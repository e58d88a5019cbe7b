"""Runs that begin at their time, over every store."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.persistence.factory import open_store
from app.persistence.records import RunStatus, SessionFilter
from app.persistence.schedules import ScheduleRecord
from app.sessions.errors import ShuttingDown
from app.sessions.host import SessionHost
from app.sessions.requests import NewSessionRequest, OnBusy, RunRequest
from app.sessions.rhythm import Rhythm
from app.sessions.schedules import ScheduleRequest
from app.system.clocks import current_time_s
from tests.machines import Gate, counter, gated, greeter
from tests.sessions.hosting import create, hosting

LIMIT_S = 60.0
ONE_STEP = RunRequest(max_steps=1)


async def until(host: SessionHost, schedule_id: str, is_so: Callable[[ScheduleRecord], Any]) -> ScheduleRecord:
    async with asyncio.timeout(LIMIT_S):
        while not is_so(schedule := await host.schedules.get(schedule_id)):  # noqa: ASYNC110  # the store gives no sign
            await asyncio.sleep(0.02)
    return schedule


async def over(host: SessionHost, run_id: str) -> RunStatus:
    async with asyncio.timeout(LIMIT_S):
        while (run := await host.history.get_run(run_id)).finished_at_s is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return run.status


async def make_due(host: SessionHost, schedule: ScheduleRecord, late_s: float = 0.0) -> float:
    """Let the time of a schedule have come so long ago; return that time."""
    due_s = current_time_s() - late_s
    await host.store.schedules.pause(schedule.id, False, due_s)
    return due_s


async def test_a_run_begins_on_a_session_when_its_time_comes(store_url: str) -> None:
    async with hosting([counter()], open_store(store_url, migrate=True)) as host:
        session = await create(host)
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(every_s=1.0), ONE_STEP, session))
        assert schedule.next_at_s == schedule.created_at_s + 1.0
        fired = await until(host, schedule.id, lambda each: each.last_run_id)
        assert (round((fired.last_at_s or 0.0) - schedule.next_at_s, 3)).is_integer(), "each second, and we may look late"
        assert await over(host, fired.last_run_id or "") is RunStatus.FINISHED
        again = await until(host, schedule.id, lambda each: each.last_run_id != fired.last_run_id)
        assert await over(host, again.last_run_id or "") is RunStatus.FINISHED
        await host.schedules.delete(schedule.id)
        assert (await host.record(session)).seq >= 1


async def test_each_run_gets_a_session_of_its_own(store_url: str) -> None:
    wanted = NewSessionRequest("counter", None, {"n": 40}, "eu", {"made": "daily"})
    async with hosting([counter()], open_store(store_url, migrate=True)) as host:
        run = RunRequest({"by": 2}, max_steps=1)
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(cron="0 0 1 1 *"), run, session=wanted))
        seen: set[str | None] = {None}
        for _ in range(2):
            await make_due(host, schedule)
            fired = await until(host, schedule.id, lambda each: each.last_run_id not in seen)
            seen.add(fired.last_run_id)
            assert await over(host, fired.last_run_id or "") is RunStatus.FINISHED
            run_record = await host.history.get_run(fired.last_run_id or "")
            loaded = await host.get(run_record.session_id)
            assert run_record.session_id.startswith(f"{schedule.id}:")
            assert (loaded.state, loaded.record.partition_key, loaded.record.metadata) == ({"n": 42}, "eu", {"made": "daily"})
        found = await host.list_sessions(SessionFilter(partition_key="eu"), 10, None)
        assert len(found.sessions) == 2


async def test_what_was_missed_is_made_up_for_once(store_url: str) -> None:
    async with hosting([counter()], open_store(store_url, migrate=True)) as host:
        session = await create(host)
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(every_s=600), ONE_STEP, session))
        due_s = await make_due(host, schedule, late_s=86_400)
        fired = await until(host, schedule.id, lambda each: each.last_run_id)
        assert fired.last_at_s == due_s
        assert fired.next_at_s == schedule.next_at_s
        await over(host, fired.last_run_id or "")
        assert len((await host.history.list_runs(session, limit=10)).runs) == 1


async def test_a_time_that_comes_while_the_service_goes_down_is_not_lost(store_url: str) -> None:
    async with hosting([counter()], open_store(store_url, migrate=True)) as host:
        wanted = NewSessionRequest("counter")
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(every_s=600), ONE_STEP, session=wanted))
        host.begin_drain()
        due_s = await make_due(host, schedule)
        with pytest.raises(ShuttingDown):
            await host.schedules.fire_due()
        found = await host.schedules.get(schedule.id)
        assert (found.next_at_s, found.last_at_s) == (due_s, None)


async def test_a_schedule_survives_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    async with hosting([counter()], open_store(url)) as host:
        session = await create(host)
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(every_s=3600), ONE_STEP, session))
    async with hosting([counter()], open_store(url)) as host:
        assert await host.schedules.get(schedule.id) == schedule
        await make_due(host, schedule)
        fired = await until(host, schedule.id, lambda each: each.last_run_id)
        assert await over(host, fired.last_run_id or "") is RunStatus.FINISHED


async def test_a_moment_comes_once_and_that_is_the_end_of_it(store_url: str) -> None:
    async with hosting([counter()], open_store(store_url, migrate=True)) as host:
        session = await create(host)
        rhythm = Rhythm(at="2999-01-01T00:00:00Z")
        schedule = await host.create_schedule(ScheduleRequest(rhythm, ONE_STEP, session))
        await make_due(host, schedule)
        # the year 2999 is still to come: this is what the time itself would leave
        await until(host, schedule.id, lambda each: each.last_run_id)
        past = replace(schedule, id="past", plan={**schedule.plan, "at": "2001-01-01T00:00:00Z"}, next_at_s=current_time_s())
        await host.store.schedules.add(past)
        fired = await until(host, "past", lambda each: each.last_run_id or each.last_error)
        assert fired.next_at_s is None


async def test_a_busy_session_is_left_alone_or_waited_for_as_the_run_says(store_url: str) -> None:
    gate = Gate()
    async with hosting([gated(gate)], open_store(store_url, migrate=True)) as host:
        session = await create(host, "gated")
        first = await host.queue(session, RunRequest(halt_after=("hold",)))
        await gate.until_reached()
        rejected = await host.create_schedule(ScheduleRequest(Rhythm(every_s=600), ONE_STEP, session))
        await make_due(host, rejected)
        skipped = await until(host, rejected.id, lambda each: each.last_error)
        assert (skipped.last_error, skipped.last_run_id) == ({"type": "session-busy", "run_id": first.id}, None)
        assert skipped.next_at_s == rejected.next_at_s
        waits = replace(ONE_STEP, on_busy=OnBusy.ENQUEUE)
        enqueued = await host.create_schedule(ScheduleRequest(Rhythm(every_s=600), waits, session))
        await make_due(host, enqueued)
        fired = await until(host, enqueued.id, lambda each: each.last_run_id)
        gate.open()
        assert await over(host, fired.last_run_id or "") is RunStatus.FINISHED


async def test_a_schedule_whose_session_is_gone_comes_to_its_end(store_url: str) -> None:
    async with hosting([counter()], open_store(store_url, migrate=True)) as host:
        session = await create(host)
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(every_s=600), ONE_STEP, session))
        await host.delete(session)
        await make_due(host, schedule)
        ended = await until(host, schedule.id, lambda each: each.last_error)
        assert (ended.last_error, ended.next_at_s) == ({"type": "session-not-found", "session_id": session}, None)


async def test_what_falls_into_a_pause_is_left_out(store_url: str) -> None:
    async with hosting([counter()], open_store(store_url, migrate=True)) as host:
        session = await create(host)
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(every_s=1.0), ONE_STEP, session, is_paused=True))
        assert schedule.next_at_s is None
        await host.schedules.fire_due()
        assert (await host.schedules.get(schedule.id)).last_at_s is None
        resumed_at_s = current_time_s()
        resumed = await host.schedules.pause(schedule.id, False)
        assert resumed.next_at_s is not None
        assert resumed_at_s < resumed.next_at_s <= current_time_s() + 1.001
        assert (await host.schedules.pause(schedule.id, False)).is_paused is False
        assert (await host.schedules.pause(schedule.id, True)).next_at_s is None


async def test_a_schedule_of_a_machine_that_is_not_hosted_here_waits_for_who_hosts_it(postgres_url: str) -> None:
    async with (
        hosting([counter()], open_store(postgres_url, migrate=True)) as host,
        hosting([greeter()], open_store(postgres_url)) as other,
    ):
        wanted = NewSessionRequest("greeter")
        run = RunRequest({"name": "Ada"}, max_steps=1)
        schedule = await other.create_schedule(ScheduleRequest(Rhythm(every_s=600), run, session=wanted))
        await make_due(host, schedule)
        fired = await until(host, schedule.id, lambda each: each.last_run_id)
        assert await over(other, fired.last_run_id or "") is RunStatus.FINISHED


async def test_replicas_begin_one_run_for_each_time(postgres_url: str) -> None:
    async with (
        hosting([counter()], open_store(postgres_url, migrate=True)) as one,
        hosting([counter()], open_store(postgres_url)) as other,
    ):
        wanted = NewSessionRequest("counter")
        schedule = await one.create_schedule(ScheduleRequest(Rhythm(every_s=600), ONE_STEP, session=wanted))
        for _ in range(5):
            await make_due(one, schedule)
            await asyncio.gather(*(host.schedules.fire_due() for host in (one, other) * 3))
        found = await one.list_sessions(SessionFilter(machine="counter"), 100, None)
        assert len(found.sessions) == 5
        for session in found.sessions:
            assert len(await one.store.list_runs(session.id, after_event_id=-1)) == 1
