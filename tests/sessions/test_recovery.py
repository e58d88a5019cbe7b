"""Runs that were under way when the service ended without a word: they go on from their last step, or end with a reason."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.engine import ApplicationBuilder, ApplicationContext, State, action
from app.engine.machine import Machine
from app.engine.operations import Increment
from app.persistence.factory import open_store
from app.persistence.records import Commit, RunRecord, RunStatus, SessionStatus, StepCommit
from app.persistence.store import Store
from app.sessions.host import SessionHost
from app.sessions.requests import NewSessionRequest, OnBusy, RunRequest
from app.sessions.rhythm import Rhythm
from app.sessions.schedules import ScheduleRequest
from tests.machines import Gate, counter, gated, greeter
from tests.sessions.hosting import all_events, create, hosting, leave_a_run, types_of


async def left_behind(url: str, machine: Machine, steps: int = 0, **parameters: Any) -> tuple[str, str]:
    """What a killed service leaves: a session with an unfinished run `crashed` of so many steps. The machine is a counter."""
    async with hosting([machine], open_store(url)) as host:
        session = await create(host, machine.name)
        await host.step(session, {})
        first = await leave_a_run(host.store, session, "crashed", **parameters)
        for seq in range(1, steps + 1):
            now_s, ids = time.time(), (first + 2 * seq - 1, first + 2 * seq)
            state = {"n": seq + 1}
            step = StepCommit(seq, "count", (Increment("n", 1),), state, state, "count", now_s, now_s, *ids)
            await host.store.commit(Commit(session, SessionStatus.IDLE, ids[1], step=step, run_id="crashed"))
    return session, "crashed"


async def over(host: SessionHost, run_id: str) -> RunRecord:
    """The run when it has ended."""
    async with asyncio.timeout(60):
        while (record := await host.history.get_run(run_id)).finished_at_s is None:  # noqa: ASYNC110  # a run of the past gives no sign
            await asyncio.sleep(0.01)
    return record


async def test_a_run_goes_on_from_its_last_step_with_what_is_left_of_its_limits(database_url: str) -> None:
    session, run_id = await left_behind(database_url, counter(), steps=2, max_steps=5)
    async with hosting([counter()], open_store(database_url)) as host:
        record = await over(host, run_id)
        assert (record.status, record.reason, record.steps) == (RunStatus.FINISHED, "max_steps", 5)
        loaded = await host.get(session)
        assert (loaded.record.seq, loaded.state, loaded.record.status) == (5, {"n": 6}, SessionStatus.IDLE)
        events = await all_events(host, session)
        assert [event.run_id for event in events].count(run_id) == 2 + 2 * 5
        assert types_of(events)[-3:] == ["step.started", "step.finished", "run.finished"]
        assert [event.id for event in events] == sorted({event.id for event in events})


async def test_inputs_reach_the_first_step_only_also_after_a_crash(database_url: str) -> None:
    _, run_id = await left_behind(database_url, counter(), inputs={"by": 10}, max_steps=2)
    async with hosting([counter()], open_store(database_url)) as host:
        await over(host, run_id)
        steps = await host.history.steps((await host.history.get_run(run_id)).session_id, after_seq=0, limit=10)
        assert [step.result["n"] for step in steps] == [11, 12]


async def test_a_run_whose_last_step_was_its_last_ends_as_it_would_have(database_url: str) -> None:
    _, run_id = await left_behind(database_url, counter(), steps=3, max_steps=3)
    async with hosting([counter()], open_store(database_url)) as host:
        assert (await over(host, run_id)).reason == "max_steps"


async def test_a_run_that_is_out_of_time_is_cancelled_when_it_goes_on(database_url: str) -> None:
    gate = Gate()
    async with hosting([gated(gate)], open_store(database_url)) as host:
        session = await create(host, "gated")
        await host.step(session, {})
        await leave_a_run(host.store, session, "late", age_s=60.0, timeout_s=30.0)
    async with hosting([gated(gate)], open_store(database_url)) as host:
        record = await over(host, "late")
        assert (record.status, record.reason) == (RunStatus.CANCELLED, "timeout")


async def test_a_run_that_does_not_get_on_in_three_attempts_ends_as_failed(database_url: str) -> None:
    session, run_id = await left_behind(database_url, counter(), steps=1)
    store = open_store(database_url)
    await store.open()
    assert [await store.begin_attempt(run_id, 1) for _ in range(3)] == [1, 2, 3]
    await store.close()
    async with hosting([counter()], open_store(database_url)) as host:
        record = await over(host, run_id)
        assert (record.status, record.steps, record.error and record.error["type"]) == (RunStatus.FAILED, 1, "recovery-failed")
        assert (await host.get(session)).record.status is SessionStatus.FAILED
        assert types_of(await all_events(host, session))[-1] == "run.failed"
        assert (await host.step(session, {})).seq == 2


@pytest.mark.parametrize("of", ["a session", "new sessions"])
async def test_a_run_of_a_schedule_that_is_given_up_pauses_the_schedule(database_url: str, of: str) -> None:
    wanted = RunRequest({"by": 2}, max_steps=1, is_background=True)
    async with hosting([counter()], open_store(database_url)) as host:
        session = await create(host)
        if of == "a session":
            asked = ScheduleRequest(Rhythm(every_s=86400.0), wanted, session)
        else:
            asked = ScheduleRequest(Rhythm(every_s=86400.0), wanted, session=NewSessionRequest("counter"))
        schedule = await host.create_schedule(asked)
        beside = await host.create_schedule(ScheduleRequest(Rhythm(every_s=86400.0), RunRequest({"by": 3}), session))
        if of == "new sessions":
            session = f"{schedule.id}:20260101T000000.000000Z"
            await host.create(NewSessionRequest("counter", session))
        await leave_a_run(host.store, session, "crashed", **wanted.parameters())
        assert [await host.store.begin_attempt("crashed", 0) for _ in range(3)] == [1, 2, 3]
    async with hosting([counter()], open_store(database_url)) as host:
        record = await over(host, "crashed")
        assert (record.status, record.error and record.error["type"]) == (RunStatus.FAILED, "recovery-failed")
        paused = await host.schedules.get(schedule.id)
        assert (paused.is_paused, paused.next_at_s, paused.last_error) == (
            True,
            None,
            {**(record.error or {}), "run_id": "crashed"},
        )
        assert await host.schedules.get(beside.id) == beside
        resumed = await host.schedules.pause(schedule.id, False)
        assert not resumed.is_paused
        assert resumed.next_at_s is not None


async def test_attempts_count_again_from_one_when_a_run_got_on(database_url: str) -> None:
    _, run_id = await left_behind(database_url, counter(), steps=2, max_steps=3)
    store = open_store(database_url)
    await store.open()
    assert [await store.begin_attempt(run_id, 1) for _ in range(3)] == [1, 2, 3]
    await store.close()
    async with hosting([counter()], open_store(database_url)) as host:
        assert (await over(host, run_id)).status is RunStatus.FINISHED


async def test_a_request_meets_the_run_that_goes_on(database_url: str) -> None:
    gate = Gate()
    async with hosting([gated(gate)], open_store(database_url)) as host:
        session = await create(host, "gated")
        await host.step(session, {})
        await leave_a_run(host.store, session, "crashed", halt_after=["hold"])
    async with hosting([gated(gate)], open_store(database_url)) as host:
        assert (await host.get(session)).record.status is SessionStatus.RUNNING
        waiting = asyncio.create_task(start_and_wait(host, session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE)))
        await gate.until_reached()
        gate.open()
        assert await waiting == 2
        assert (await over(host, "crashed")).steps == 1


async def start_and_wait(host: SessionHost, session: str, request: RunRequest) -> int:
    return (await (await host.start(session, request)).outcome()).seq


async def test_a_run_that_goes_on_can_be_taken_back(database_url: str) -> None:
    gate = Gate()
    async with hosting([gated(gate)], open_store(database_url)) as host:
        session = await create(host, "gated")
        await leave_a_run(host.store, session, "crashed")
    async with hosting([gated(gate)], open_store(database_url)) as host:
        await gate.until_reached()  # one step of it is stored now
    async with hosting([gated(gate)], open_store(database_url)) as host:
        assert (await host.get(session)).record.seq == 0
        taken = await host.start(session, RunRequest(max_steps=1, on_busy=OnBusy.ROLLBACK))
        assert (await taken.outcome()).action == "prepare"
        steps = await host.history.steps(session, after_seq=-1, limit=10)
        assert [step.kind.value for step in steps] == ["action", "rollback", "action"]


async def test_what_is_found_while_the_service_ends_is_left_for_others(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosting([counter()], open_store(database_url)) as host:
        session = await create(host)
        await leave_a_run(host.store, session, "crashed", max_steps=1)
        [found] = await host.store.unfinished_runs_of(session)
        host.begin_drain()
        await host._recovery.take_up(found)
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []
        assert [(run.status, run.attempts) for run in await host.store.unfinished_runs_of(session)] == [(RunStatus.RUNNING, 0)]
    async with hosting([counter()], open_store(database_url)) as host:
        assert (await over(host, "crashed")).steps == 1


async def test_two_runs_that_an_older_version_left_in_one_session_go_on_one_by_one(database_url: str) -> None:
    """The first was left at the end of a service, and the second began there all the same."""
    session, first = await left_behind(database_url, counter(), steps=2, max_steps=4)
    store = open_store(database_url)
    await store.open()
    begun = await leave_a_run(store, session, "second", max_steps=3)
    now_s, ids = time.time(), (begun + 1, begun + 2)
    step = StepCommit(3, "count", (Increment("n", 1),), {"n": 4}, {"n": 4}, "count", now_s, now_s, *ids)
    await store.commit(Commit(session, SessionStatus.IDLE, ids[1], step=step, run_id="second"))
    await store.close()
    async with hosting([counter()], open_store(database_url)) as host:
        records = [await over(host, run_id) for run_id in (first, "second")]
        assert [(record.status, record.steps) for record in records] == [(RunStatus.FINISHED, 4), (RunStatus.FINISHED, 3)]
        steps = await host.history.steps(session, after_seq=0, limit=100)
        assert [step.run_id for step in steps] == [first] * 2 + ["second"] + [first] * 2 + ["second"] * 2


async def test_a_run_of_a_machine_that_nobody_hosts_waits_for_one_who_does(database_url: str) -> None:
    _, run_id = await left_behind(database_url, counter(), steps=1, max_steps=2)
    async with hosting([greeter()], open_store(database_url)) as host:
        assert (await host.history.get_run(run_id)).status is RunStatus.RUNNING
    async with hosting([counter()], open_store(database_url)) as host:
        assert (await over(host, run_id)).status is RunStatus.FINISHED


async def test_a_run_that_nobody_hosts_for_long_ends_with_that_reason(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run_id = await left_behind(database_url, counter(), steps=1)
    monkeypatch.setattr("app.sessions.recovery._UNHOSTED_TOO_LONG_S", 0.0)
    async with hosting([greeter()], open_store(database_url)) as host:
        record = await over(host, run_id)
        assert (record.status, record.error and record.error["type"]) == (RunStatus.FAILED, "machine-not-hosted")


async def test_a_run_that_waited_begins_at_the_next_start(database_url: str) -> None:
    gate = Gate()
    async with hosting([gated(gate)], open_store(database_url)) as host:
        session = await create(host, "gated")
        first = await host.queue(session, RunRequest())
        await gate.until_reached()
        second = await host.queue(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE))
        assert (first.status, second.status) == (RunStatus.QUEUED, RunStatus.QUEUED)
        assert (await host.history.get_run(second.id)).status is RunStatus.QUEUED
    gate.open()
    async with hosting([gated(gate)], open_store(database_url)) as host:
        assert (await host.history.get_run(first.id)).status is RunStatus.RUNNING
        await host.cancel_run(first.id)
        record = await over(host, second.id)
        assert (record.status, record.steps) == (RunStatus.FINISHED, 1)


async def test_an_action_knows_its_attempt_by_the_same_token(tmp_path: Path) -> None:
    seen: list[tuple[str | None, int | None, str]] = []
    gate = Gate()

    @action(reads=[], writes=["done"])
    async def pay(state: State, __context: ApplicationContext) -> State:
        seen.append((__context.run_id, __context.sequence_id, __context.idempotency_token))
        await gate.wait()
        return state.update(done=True)

    machine = Machine("till", lambda: ApplicationBuilder().with_actions(pay).with_entrypoint("pay"))
    url = f"sqlite:///{tmp_path}/till.db"
    async with hosting([machine], open_store(url)) as host:
        loaded = await host.create(NewSessionRequest("till"))
        queued = await host.queue(loaded.record.id, RunRequest())
        await gate.until_reached()
    gate.open()
    async with hosting([machine], open_store(url)) as host:
        await over(host, queued.id)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert seen[0][:2] == (queued.id, 0)


async def test_runs_that_are_stored_look_the_same_as_those_under_way(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)
        queued = await host.queue(session, RunRequest(max_steps=2))
        record = await over(host, queued.id)
        assert replace(record, attempts=0) == replace(await store.get_run(queued.id), attempts=0)
        assert record.parameters == {"max_steps": 2, "respond_async": True}


async def test_a_run_that_is_under_way_in_the_store_and_nowhere_else_is_found(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.sessions.host._LOST_INTERVAL_S", 0.02)
    async with hosting([counter()], open_store(database_url)) as host:
        session = await create(host)
        await host.step(session, {})
        await leave_a_run(host.store, session, max_steps=2)
        record = await over(host, "left")
        assert (record.status, record.steps, record.attempts) == (RunStatus.FINISHED, 2, 1)
        assert [entry.message for entry in caplog.records if entry.levelname == "ERROR"] == ["a run that nobody had is taken up"]


async def test_runs_that_somebody_has_are_not_lost(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    async with hosting([gated(gate)], open_store(database_url)) as host:
        session = await create(host, "gated")
        run = await host.start(session, RunRequest(max_steps=2))
        await gate.until_reached()
        waiting = await host.queue(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE))
        for _ in range(3):
            await host._recovery.look_for_lost()
        gate.open()
        assert (await run.outcome()).steps == 2
        assert (await over(host, waiting.id)).attempts == 0
        assert [entry.message for entry in caplog.records if entry.levelname == "ERROR"] == []
