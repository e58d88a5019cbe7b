"""A run that was accepted and cannot begin when its turn comes ends with a reason, and its session stays as it is."""

import asyncio
from pathlib import Path

import pytest

from app.engine import ApplicationBuilder, InvalidInputs, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.records import RunRecord, RunStatus, SessionStatus
from app.persistence.store import Store
from app.sessions.host import SessionHost
from app.sessions.requests import NewSessionRequest, OnBusy, RunRequest, SessionEdit
from app.sessions.rhythm import Rhythm
from app.sessions.schedules import ScheduleRequest
from tests.machines import Gate
from tests.sessions.hosting import all_events, create, hosting, types_of

LIMIT_S = 60.0


def asking(gate: Gate) -> Machine:
    """`hold` waits at the gate, `greet` needs a name, and so they go on."""

    @action(reads=[], writes=["held"])
    async def hold(state: State) -> State:
        await gate.wait()
        return state.update(held=True)

    @action(reads=[], writes=["greeting"])
    async def greet(state: State, name: str) -> State:
        return state.update(greeting=f"Hello {name}")

    return Machine(
        "asking",
        lambda: (
            ApplicationBuilder()
            .with_actions(hold, greet)
            .with_transitions(("hold", "greet"), ("greet", "hold"))
            .with_entrypoint("hold")
        ),
    )


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/sessions.db"}
    return open_store(urls.get(request.param) or request.getfixturevalue("postgres_store_url"))


async def ended(host: SessionHost, run_id: str) -> RunRecord:
    async with asyncio.timeout(LIMIT_S):
        while (run := await host.history.get_run(run_id)).finished_at_s is None:  # noqa: ASYNC110  # another task's doing
            await asyncio.sleep(0.01)
    return run


async def test_a_run_that_waited_fails_with_a_reason_and_its_session_keeps_its_status(store: Store) -> None:
    gate = Gate()
    async with hosting([asking(gate)], store) as host:
        session = await create(host, "asking")
        first = await host.queue(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE))
        await gate.until_reached()
        nameless = await host.queue(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE))
        mistyped = await host.queue(session, RunRequest({"name": 7}, max_steps=1, on_busy=OnBusy.ENQUEUE))
        named = await host.queue(session, RunRequest({"name": "Ada"}, max_steps=1, on_busy=OnBusy.ENQUEUE))
        gate.open()
        runs = [await ended(host, run.id) for run in (first, nameless, mistyped, named)]
        assert [run.status for run in runs] == [RunStatus.FINISHED, RunStatus.FAILED, RunStatus.FAILED, RunStatus.FINISHED]
        assert [(run.error or {}).get("type") for run in runs] == [None, "inputs-invalid", "inputs-invalid", None]
        assert "misses the inputs ['name']" in (runs[1].error or {})["message"]
        found = await host.get(session)
        assert (found.record.status, found.record.seq, found.state["greeting"]) == (SessionStatus.IDLE, 1, "Hello Ada")
        assert not await host.store.list_failures(session)
        assert types_of(await all_events(host, session)).count("run.failed") == 2


async def test_a_session_is_idle_after_a_run_that_it_could_not_begin(store: Store) -> None:
    gate = Gate()
    async with hosting([asking(gate)], store) as host:
        session = await create(host, "asking")
        first = await host.queue(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE))
        await gate.until_reached()
        second = await host.queue(session, RunRequest(on_busy=OnBusy.ENQUEUE))
        gate.open()
        await ended(host, first.id)
        await ended(host, second.id)
        assert (await host.record(session)).status is SessionStatus.IDLE
        assert (await host.store.get_session(session)).status is SessionStatus.IDLE


async def test_a_schedule_that_could_never_begin_a_run_is_refused(store: Store) -> None:
    async with hosting([asking(Gate())], store) as host:
        session = await create(host, "asking")
        for request in (
            ScheduleRequest(Rhythm(every_s=60), RunRequest({"nmae": "Ada"}), session_id=session),
            ScheduleRequest(Rhythm(every_s=60), RunRequest({"name": "Ada"}), session=NewSessionRequest("asking")),
        ):
            with pytest.raises(InvalidInputs):
                await host.create_schedule(request)


async def test_a_schedule_says_why_its_run_could_not_begin(store: Store) -> None:
    gate = Gate()
    gate.open()
    async with hosting([asking(gate)], store) as host:
        session = await create(host, "asking")
        await host.step(session, {})  # the next action needs a name
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(every_s=1), RunRequest(max_steps=1), session_id=session))
        async with asyncio.timeout(LIMIT_S):
            while (found := await host.schedules.get(schedule.id)).last_error is None:  # noqa: ASYNC110  # another task's doing
                await asyncio.sleep(0.02)
        assert (found.last_error["type"], found.last_run_id) == ("inputs-invalid", None)
        assert "misses the inputs ['name']" in found.last_error["message"]
        assert (await host.record(session)).status is SessionStatus.IDLE
        assert not (await host.history.list_runs(session, limit=10, cursor=None)).runs[1:]


async def test_a_schedule_says_why_its_run_could_not_begin_when_its_turn_came(store: Store) -> None:
    gate = Gate()
    async with hosting([asking(gate)], store) as host:
        session = await create(host, "asking")
        await host.queue(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE))
        await gate.until_reached()
        rhythm, run = Rhythm(every_s=1), RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE)
        schedule = await host.create_schedule(ScheduleRequest(rhythm, run, session_id=session))
        async with asyncio.timeout(LIMIT_S):
            while (found := await host.schedules.get(schedule.id)).last_run_id is None:  # noqa: ASYNC110  # another task's doing
                await asyncio.sleep(0.02)
            await host.schedules.pause(schedule.id, True)
            gate.open()
            while (found := await host.schedules.get(schedule.id)).last_error is None:  # noqa: ASYNC110  # another task's doing
                await asyncio.sleep(0.02)
        assert found.last_error["type"] == "inputs-invalid"
        assert (await host.record(session)).status is SessionStatus.IDLE


async def test_a_run_is_checked_against_the_state_after_an_edit(store: Store) -> None:
    gate = Gate()
    gate.open()
    async with hosting([asking(gate)], store) as host:
        session = await create(host, "asking")
        await host.edit(session, SessionEdit({"held": False}))
        with pytest.raises(InvalidInputs):
            await host.queue(session, RunRequest({"name": "Ada"}))
