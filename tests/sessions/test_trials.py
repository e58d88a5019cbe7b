"""A run with which a process has died twice is tried alone: whatever kills the process beside it would be laid at its door."""

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from app.engine import ApplicationBuilder, ApplicationContext, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.records import RunRecord, RunStatus
from app.sessions.host import SessionHost
from app.sessions.requests import RunRequest
from tests.sessions.hosting import create, hosting, leave_a_run

LIMIT_S = 90.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("database_url" if request.param == "sqlite" else "postgres_store_url"))


class Held:
    """A machine whose only action waits until it is let go. `begun` names the sessions in which it was called."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.let_go: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.machine = Machine("held", lambda: waiting(self))

    async def next(self) -> str:
        async with asyncio.timeout(LIMIT_S):
            return await self.begun.get()


def waiting(held: Held) -> ApplicationBuilder[Any]:
    @action(reads=["n"], writes=["n"])
    async def hold(state: State, __context: ApplicationContext) -> State:
        held.begun.put_nowait(__context.app_id)
        await held.let_go[__context.app_id].wait()
        return state.increment(n=1)

    return ApplicationBuilder().with_actions(hold).with_transitions(("hold", "hold")).with_state(n=0).with_entrypoint("hold")


async def leave_behind(url: str, machine: Machine) -> None:
    """What processes leave that have died once with a run of `once` under way, and twice with one of each other session."""
    async with hosting([machine], open_store(url)) as host:
        for session in ("once", "twice", "twice-too", "queued", "new"):
            await create(host, "held", session)
        for session in ("once", "twice", "twice-too"):
            await leave_a_run(host.store, session, f"run-of-{session}", max_steps=1)
        for session in ("twice", "twice-too"):
            await host.store.begin_attempt(f"run-of-{session}", 0)


async def test_suspects_are_tried_one_by_one_before_what_died_once_and_what_is_queued(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.trials._PATIENCE_S", 600.0)
    held = Held()
    await leave_behind(url, held.machine)
    async with hosting([held.machine], open_store(url)) as host:
        first = await held.next()
        queued = await host.queue("queued", RunRequest(max_steps=1))
        waited_for = await host.start("new", RunRequest(max_steps=1))
        assert await held.next() == "new"  # nobody who waits for an answer is held up
        held.let_go["new"].set()
        await waited_for.outcome()
        held.let_go[first].set()
        second = await held.next()
        assert {first, second} == {"twice", "twice-too"}
        held.let_go[second].set()
        assert {await held.next(), await held.next()} == {"once", "queued"}
        held.let_go["once"].set()
        held.let_go["queued"].set()
        for run in (queued.id, "run-of-once", "run-of-twice", "run-of-twice-too"):
            assert (await over(host, run)).status is RunStatus.FINISHED


async def test_a_suspect_that_takes_long_or_is_cancelled_holds_up_no_other_run(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sessions.trials._PATIENCE_S", 0.1)
    held = Held()
    await leave_behind(url, held.machine)
    async with hosting([held.machine], open_store(url)) as host:
        first = await held.next()
        assert await held.next() == "once"
        await host.cancel_run(f"run-of-{first}")
        second = await held.next()
        assert {first, second} == {"twice", "twice-too"}
        for session in ("once", second):
            held.let_go[session].set()
            assert (await over(host, f"run-of-{session}")).status is RunStatus.FINISHED


async def over(host: SessionHost, run_id: str) -> RunRecord:
    """The run when it has ended."""
    async with asyncio.timeout(LIMIT_S):
        while (record := await host.history.get_run(run_id)).finished_at_s is None:  # noqa: ASYNC110  # a run of the past gives no sign
            await asyncio.sleep(0.01)
    return record
