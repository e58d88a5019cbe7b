"""Runs of a session that wait begin in the order in which they were accepted, whoever waits for them."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.store import Store
from app.sessions.errors import SessionBusy
from app.sessions.host import SessionHost
from app.sessions.requests import OnBusy, RunRequest
from tests.machines import Gate, gated
from tests.sessions.hosting import create, hosting

LIMIT_S = 120.0


def diary() -> Machine:
    """`note` appends its input."""

    @action(reads=[], writes=["notes"])
    async def note(state: State, token: int) -> State:
        await asyncio.sleep(0)
        return state.append(notes=token)

    return Machine(
        "diary",
        lambda: (
            ApplicationBuilder()
            .with_actions(note)
            .with_transitions(("note", "note"))
            .with_state(notes=[])
            .with_entrypoint("note")
        ),
    )


def noting(token: int) -> RunRequest:
    return RunRequest({"token": token}, max_steps=1, on_busy=OnBusy.ENQUEUE)


async def notes(host: SessionHost, session: str, count: int) -> Sequence[Any]:
    """The notes of a session once there are so many."""
    async with asyncio.timeout(LIMIT_S):
        while len(found := (await host.get(session)).state["notes"]) < count:  # noqa: ASYNC110  # a state gives no sign
            await asyncio.sleep(0.01)
    return list(found)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Store:
    urls = {"memory": lambda: "memory://", "sqlite": lambda: f"sqlite:///{tmp_path}/sessions.db"}
    url = urls.get(request.param, lambda: request.getfixturevalue("postgres_store_url"))()
    return open_store(url, migrate=True)


async def test_background_runs_begin_in_the_order_in_which_they_were_accepted(store: Store) -> None:
    async with hosting([diary()], store) as host:
        sessions = [await create(host, "diary") for _ in range(60)]

        async def ask(session: str) -> None:
            for token in range(5):
                await host.queue(session, noting(token))

        await asyncio.gather(*map(ask, sessions))
        assert [await notes(host, session, 5) for session in sessions] == [[0, 1, 2, 3, 4]] * 60


async def test_waited_for_runs_and_background_runs_stand_in_one_line(store: Store) -> None:
    async with hosting([diary()], store) as host:
        sessions = [await create(host, "diary") for _ in range(30)]
        choice = random.Random(15)
        waiting: list[asyncio.Task[Any]] = []

        async def ask(session: str) -> None:
            for token in range(8):
                if choice.random() < 0.5:
                    await host.queue(session, noting(token))
                else:
                    asked = asyncio.create_task(host.start(session, noting(token)))
                    waiting.append(asked)
                    live = host.residents.get(session)
                    before = None
                    while not asked.done() and before is None:  # until it stands in the line
                        await asyncio.sleep(0)
                        live = host.residents.get(session)
                        before = None if live is None else next((t for t in live.line if t.order.request == noting(token)), None)

        await asyncio.gather(*map(ask, sessions))
        for asked in waiting:
            await (await asked).outcome()
        assert [await notes(host, session, 8) for session in sessions] == [list(range(8))] * 30


async def test_a_run_that_is_not_to_wait_does_not_overtake_one_that_was_accepted(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        await host.get(session)
        await host.start(session, RunRequest(max_steps=1))  # it is in memory
        async with asyncio.timeout(LIMIT_S):
            while (await host.record(session)).seq < 0:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0)
            accepted = await host.queue(session, RunRequest(halt_after=("hold",), on_busy=OnBusy.ENQUEUE))
        with pytest.raises(SessionBusy) as caught:
            await host.start(session, RunRequest(max_steps=1))
        assert caught.value.run_id == accepted.id
        gate.open()


async def test_more_runs_wait_for_one_session_than_its_line_takes_of_those_who_ask(store: Store) -> None:
    async with hosting([diary()], store) as host:
        session = await create(host, "diary")
        count = 1_100
        for token in range(count):
            await host.queue(session, noting(token))
        assert await notes(host, session, count) == list(range(count))


async def test_the_runs_of_a_thousand_sessions_begin_in_their_order(database_url: str) -> None:
    async with hosting([diary()], open_store(database_url)) as host:
        sessions = [await create(host, "diary") for _ in range(1_000)]

        async def ask(part: Sequence[str]) -> None:
            for token in range(3):
                await asyncio.gather(*(host.queue(session, noting(token)) for session in part))

        await asyncio.gather(*(ask(sessions[start::8]) for start in range(8)))
        assert [await notes(host, session, 3) for session in sessions] == [[0, 1, 2]] * 1_000
