"""A replica was taken for dead and reads its sessions again, while runs of before are still coming to their end."""

import asyncio
import time

import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.records import Commit, RunStart, RunStatus, SessionStatus
from app.persistence.store import ClaimLost
from app.routes.event_stream import EventStreams
from app.sessions.errors import SessionBusy
from app.sessions.requests import RunRequest
from tests.machines import Gate, counter
from tests.persistence.making import queried
from tests.sessions.hosting import create, hosting


def stubborn(cancelled: Gate, gate: Gate) -> Machine:
    """One action for ever, which waits at the gate; one that is cancelled there waits at the other gate before it goes."""

    @action(reads=[], writes=["n"])
    async def hold(state: State) -> State:
        try:
            await gate.wait()
        finally:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # it runs in one
                await cancelled.wait()
        return state.increment(n=1)

    return Machine(
        "stubborn",
        lambda: (
            ApplicationBuilder().with_actions(hold).with_transitions(("hold", "hold")).with_state(n=0).with_entrypoint("hold")
        ),
    )


async def test_the_end_of_a_run_of_before_does_not_free_the_session_that_was_read_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.active_runs._TICK_S", 1000.0)  # or it would go on, if its start were stored by then
    cancelled, gate = Gate(), Gate()
    async with hosting([stubborn(cancelled, gate)], open_store(postgres_url, migrate=True)) as host:
        session = await create(host, "stubborn")
        lost = await host.start(session, RunRequest(max_steps=1))
        await gate.until_reached()
        await queried(postgres_url, f"DELETE FROM replicas WHERE id = '{host.store.replicas.id}' RETURNING 1")
        await host.claims.beat()  # it learns of that, and is another one from now on
        await cancelled.until_reached()
        gate.reached.clear()
        run = await host.start(session, RunRequest(max_steps=1))
        await gate.until_reached()
        cancelled.open()
        with pytest.raises(ClaimLost):
            await lost.outcome()
        with pytest.raises(SessionBusy):
            await host.start(session, RunRequest(max_steps=1))
        gate.open()
        assert (await run.outcome()).seq == 0
        assert [(each.status, each.steps) for each in await host.store.list_runs(session)] == [(RunStatus.FINISHED, 1)]


async def test_a_run_goes_on_while_what_it_was_before_is_still_on_its_way_out(postgres_url: str) -> None:
    cancelled, gate = Gate(), Gate()
    async with hosting([stubborn(cancelled, gate)], open_store(postgres_url, migrate=True)) as host:
        session = await create(host, "stubborn")
        queued = await host.queue(session, RunRequest(max_steps=2))
        await gate.until_reached()
        lost = host.runs.get(queued.id)
        assert lost is not None
        await lost.secure()
        await queried(postgres_url, f"DELETE FROM replicas WHERE id = '{host.store.replicas.id}' RETURNING 1")
        await host.claims.beat()
        await cancelled.until_reached()
        gate.open()
        handle = await host.desk.handle(queued.id)
        assert handle is not lost
        assert (await handle.outcome()).steps == 2
        cancelled.open()
        await lost.ended()
        record = await host.history.get_run(queued.id)
        assert (record.status, record.steps, host.runs.get(queued.id)) == (RunStatus.FINISHED, 2, None)


async def test_followers_are_let_go_while_the_service_ends_if_a_run_would_have_to_go_on_for_them(postgres_url: str) -> None:
    async with hosting([counter()], open_store(postgres_url, migrate=True)) as host:
        session = await create(host)
        start = RunStart("left", await host.history.position(session) + 1, time.time(), {"max_steps": 1})
        await host.store.commit(Commit(session, SessionStatus.IDLE, start.event_id, run_start=start, run_id="left"))
        live = host.residents.get(session)
        assert live is not None
        host.residents.remove(live)
        host.begin_drain()

        async def nowhere(*_: object) -> None:
            raise AssertionError("no other replica has it")

        followed = EventStreams(host, nowhere).response(session, after=0)
        assert len([part async for part in followed.body_iterator]) == 1, "the greeting, and no error"
