"""A replica was taken for dead and reads its sessions again, while runs of before are still coming to their end."""

import asyncio

import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.records import RunStatus
from app.persistence.store import ClaimLost
from app.sessions.errors import SessionBusy
from app.sessions.requests import RunRequest
from tests.machines import Gate
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
