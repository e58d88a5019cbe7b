"""What followers see comes in the order of its ids, whatever is being stored at the same time."""

import asyncio
import time

import pytest

from app.persistence.memory import MemoryStore
from app.persistence.records import Commit, RunStart, RunStatus
from app.persistence.store import StoreUnavailable
from app.sessions.events import Event
from app.sessions.host import SessionHost
from app.sessions.requests import Durability, RunRequest, SessionEdit
from app.sessions.stream import EventStream
from tests.machines import Gate, counter, gated, streamer
from tests.sessions.hosting import all_events, caught_up, create, drop, followed, hosting, types_of


class Slow(MemoryStore):
    """A store that takes its time over the commits that belong to one run."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id
        self.has_come = asyncio.Event()
        self.may_go = asyncio.Event()

    async def commit(self, commit: Commit) -> None:
        if commit.run_id == self._run_id:
            self.has_come.set()
            await self.may_go.wait()
        await super().commit(commit)


async def cancel_slowly(host: SessionHost, store: Slow, session: str) -> "asyncio.Task[object]":
    """Cancel a run that waits, and return when its end is being stored."""
    await store.queue_run(session, RunStart("waiting", 0, time.time(), {}))
    cancelling: asyncio.Task[object] = asyncio.create_task(host.cancel_run("waiting"))
    await store.has_come.wait()
    return cancelling


def require_order(seen: list[Event], *types: str) -> None:
    ids = [event.id for event in seen]
    assert ids == sorted(set(ids))
    assert types_of(seen) == list(types)


@pytest.mark.parametrize("durability", list(Durability))
async def test_a_run_that_begins_while_the_end_of_another_one_is_stored_is_shown_after_it(durability: Durability) -> None:
    store = Slow("waiting")
    async with hosting([counter()], store) as host:
        session = await create(host)
        async with followed(host, session) as seen:
            cancelling = await cancel_slowly(host, store, session)
            run = await host.start(session, RunRequest(max_steps=2, durability=durability))
            await run.begun()
            assert types_of(await all_events(host, session)) == []
            store.may_go.set()
            await cancelling
            assert (await run.outcome()).steps == 2
        steps = ("step.started", "step.finished") * 2
        require_order(seen, "run.cancelled", "run.started", *steps, "run.finished")
        drop(host, session)
        require_order(await all_events(host, session), "run.cancelled", "run.started", *steps, "run.finished")


async def test_steps_that_are_shown_before_they_are_stored_wait_for_the_end_of_another_run() -> None:
    store, gate = Slow("waiting"), Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            run = await host.start(session, RunRequest(max_steps=3, durability=Durability.EXIT))
            await gate.until_reached()
            cancelling = await cancel_slowly(host, store, session)
            gate.open()
            async with asyncio.timeout(60):
                while len(stream_of(host, session).undurable) < 5:  # noqa: ASYNC110  # a run, a step, and another one
                    await asyncio.sleep(0)
            store.may_go.set()
            await cancelling
            assert (await run.outcome()).steps == 3
        step = ("step.started", "step.finished")
        require_order(seen, "run.started", *step, "step.started", "run.cancelled", "step.finished", *step, "run.finished")


async def test_a_step_that_was_shown_before_it_was_stored_is_not_shown_again_after_the_end_of_another_run() -> None:
    gate = Gate()
    async with hosting([gated(gate)], MemoryStore()) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            run = await host.start(session, RunRequest(max_steps=3, durability=Durability.EXIT))
            await gate.until_reached()
            await host.store.queue_run(session, RunStart("waiting", 0, time.time(), {}))
            await host.cancel_run("waiting")
            assert (await host.cancel_run(run.id)).status is RunStatus.CANCELLED
            behind = await all_events(host, session)
        step = ("step.started", "step.finished")
        for each in (seen, behind):
            require_order(each, "run.started", *step, "step.started", "run.cancelled", "step.failed", "run.cancelled")


async def test_a_step_that_begins_while_the_one_before_is_stored_is_known_to_be_stored_later() -> None:
    gate = Gate()
    async with hosting([gated(gate)], MemoryStore()) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            run = await host.start(session, RunRequest(max_steps=2, durability=Durability.ASYNC))
            await gate.until_reached()
            await run.journal.let_finish()
            assert [event.id for event in stream_of(host, session).undurable] == [(await all_events(host, session))[-1].id]
            gate.open()
            await run.outcome()
        step = ("step.started", "step.finished")
        require_order(seen, "run.started", *step, *step, "run.finished")


async def test_an_item_comes_after_the_start_of_its_step_when_the_end_of_another_run_is_stored() -> None:
    store, gate = Slow("waiting"), Gate()
    async with hosting([streamer(2, gate)], store) as host:
        session = await create(host, "streamer")
        async with followed(host, session) as seen:
            cancelling = await cancel_slowly(host, store, session)
            run = await host.start(session, RunRequest(max_steps=1))
            await gate.until_reached()
            store.may_go.set()
            await cancelling
            gate.open()
            await run.outcome()
        items = ("step.item", "step.item")
        require_order(seen, "run.cancelled", "run.started", "step.started", *items, "step.finished", "run.finished")


async def test_a_session_is_read_again_when_what_is_being_stored_of_it_is_stored() -> None:
    store = Slow("waiting")
    async with hosting([counter()], store) as host:
        session = await create(host)
        await host.step(session, {})
        async with followed(host, session) as seen:
            await caught_up(host, session, seen)
            cancelling = await cancel_slowly(host, store, session)
            drop(host, session)
            stepping = asyncio.create_task(host.step(session, {}))
            await asyncio.sleep(0.02)
            assert not stepping.done()
            store.may_go.set()
            await cancelling
            assert (await stepping).seq == 1
        run = ("run.started", "step.started", "step.finished", "run.finished")
        require_order(seen, *run, "run.cancelled", *run)


async def test_a_session_is_free_again_when_an_edit_cannot_find_out_what_is_stored() -> None:
    class Away(MemoryStore):
        fails = False

        async def commit(self, commit: Commit) -> None:
            if commit.run_id == "waiting":
                self.fails = True
                raise StoreUnavailable("the connection was lost", in_doubt=True)
            await super().commit(commit)

        async def get_session(self, session_id: str):  # type: ignore[no-untyped-def]  # as the one it overrides
            if self.fails:
                raise StoreUnavailable("the database is away")
            return await super().get_session(session_id)

    store, gate = Away(), Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        await store.queue_run(session, RunStart("waiting", 0, time.time(), {}))
        live = await host.registry.alive(session)
        with pytest.raises(StoreUnavailable):
            await host.cancel_run("waiting")
        assert not live.is_busy
        store.fails = False
        assert (await host.edit(session, SessionEdit(set={"held": 5}))).state["held"] == 5


def stream_of(host: SessionHost, session: str) -> EventStream:
    live = host.residents.get(session)
    assert live is not None
    return live.stream
