"""What becomes of those who ask for a session while it is being deleted: each gets an answer, whatever comes of the deletion."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.persistence.factory import open_store
from app.persistence.records import RunStatus
from app.persistence.store import RunNotFound, SessionNotFound, Store, StoreUnavailable
from app.sessions.errors import RunCancelled, SeqMismatch, SessionBusy
from app.sessions.host import SessionHost
from app.sessions.requests import ForkRequest, OnBusy, RunRequest, SessionEdit
from tests.machines import Gate, counter, gated
from tests.sessions.hosting import create, drop, hosting, take_steps

LIMIT_S = 30.0


class HeldStore:
    """Holds deletions of a store until they are let go, and may refuse them then."""

    def __init__(self, store: Store) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.refuses = False
        self._delete = store.delete_session
        store.delete_session = self.delete_session  # type: ignore[method-assign]  # a database that takes its time

    async def delete_session(self, session_id: str) -> None:
        self.reached.set()
        await self.go_on.wait()
        if self.refuses:
            raise StoreUnavailable("the database is away")
        await self._delete(session_id)


@pytest.fixture
def any_store(store_url: str, tmp_path: Path) -> Store:
    return open_store("memory://" if store_url == "memory:" else store_url)


def asked(host: SessionHost, session: str, on_busy: OnBusy) -> "asyncio.Task[Any]":
    async def ask() -> Any:
        return await (await host.start(session, RunRequest(max_steps=1, on_busy=on_busy))).outcome()

    return asyncio.create_task(ask())


async def began(task: "asyncio.Task[Any]") -> None:
    for _ in range(20):
        await asyncio.sleep(0)


WAITING = [OnBusy.ENQUEUE, OnBusy.INTERRUPT, OnBusy.ROLLBACK]


@pytest.mark.parametrize("is_cold", [False, True])
@pytest.mark.parametrize("on_busy", WAITING)
async def test_a_run_that_arrives_during_a_deletion_finds_no_session(any_store: Store, on_busy: OnBusy, is_cold: bool) -> None:
    async with asyncio.timeout(LIMIT_S), hosting([counter()], any_store) as host:
        held = HeldStore(any_store)
        session = await create(host)
        await take_steps(host, session, 1)
        if is_cold:
            drop(host, session)
        deleting = asyncio.create_task(host.delete(session))
        await held.reached.wait()
        runs = [asked(host, session, on_busy) for _ in range(3)]
        await began(runs[0])
        held.go_on.set()
        await deleting
        for run in runs:
            with pytest.raises(SessionNotFound):
                await run


@pytest.mark.parametrize("is_cold", [False, True])
@pytest.mark.parametrize("on_busy", WAITING)
async def test_a_run_that_arrives_during_a_deletion_that_fails_takes_its_step(
    any_store: Store, on_busy: OnBusy, is_cold: bool
) -> None:
    async with asyncio.timeout(LIMIT_S), hosting([counter()], any_store) as host:
        held = HeldStore(any_store)
        held.refuses = True
        session = await create(host)
        await take_steps(host, session, 1)
        if is_cold:
            drop(host, session)
        deleting = asyncio.create_task(host.delete(session))
        await held.reached.wait()
        run = asked(host, session, on_busy)
        await began(run)
        held.go_on.set()
        with pytest.raises(StoreUnavailable):
            await deleting
        assert (await run).seq == 1


async def test_a_run_under_way_is_cancelled_and_those_that_wait_behind_it_find_no_session(any_store: Store) -> None:
    gate = Gate()
    async with asyncio.timeout(LIMIT_S), hosting([gated(gate)], any_store) as host:
        held = HeldStore(any_store)
        session = await create(host, "gated")
        run = await host.start(session, RunRequest(halt_after=("hold",)))
        await gate.until_reached()
        before = asked(host, session, OnBusy.ENQUEUE)
        await began(before)
        deleting = asyncio.create_task(host.delete(session))
        await held.reached.wait()
        during = asked(host, session, OnBusy.ENQUEUE)
        await began(during)
        held.go_on.set()
        await deleting
        with pytest.raises(RunCancelled, match="deleted"):
            await run.outcome()
        for each in (before, during):
            with pytest.raises(SessionNotFound):
                await each


async def test_of_two_deletions_the_second_finds_nothing_or_does_what_the_first_could_not(any_store: Store) -> None:
    async with asyncio.timeout(LIMIT_S), hosting([counter()], any_store) as host:
        held = HeldStore(any_store)
        held.refuses = True
        session = await create(host)
        await take_steps(host, session, 1)
        first, second, third = [asyncio.create_task(host.delete(session)) for _ in range(3)]
        await held.reached.wait()
        held.reached.clear()
        held.go_on.set()
        with pytest.raises(StoreUnavailable):
            await first
        held.refuses = False
        await second
        with pytest.raises(SessionNotFound):
            await third


async def test_an_edit_that_is_under_way_is_stored_before_the_session_is_deleted(any_store: Store) -> None:
    async with asyncio.timeout(LIMIT_S), hosting([counter()], any_store) as host:
        session = await create(host)
        editing = asyncio.create_task(host.edit(session, SessionEdit({"count": 7})))
        await asyncio.sleep(0)
        deleting = asyncio.create_task(host.delete(session))
        assert (await editing).state["count"] == 7
        await deleting
        with pytest.raises(SessionNotFound):
            await host.get(session)


Ask = Callable[[SessionHost, str], Awaitable[Any]]


async def fork(host: SessionHost, session: str) -> Any:
    return await host.fork(session, ForkRequest(0))


async def follow(host: SessionHost, session: str) -> Any:
    return [event async for event in host.follow(session, after=0) if event is None]


async def queue(host: SessionHost, session: str) -> Any:
    queued = await host.queue(session, RunRequest(max_steps=1))
    async with asyncio.timeout(LIMIT_S):
        while (await host.history.get_run(queued.id)).status is not RunStatus.FINISHED:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def edit(host: SessionHost, session: str) -> Any:
    return await host.edit(session, SessionEdit({"count": 7}))


async def look(host: SessionHost, session: str) -> Any:
    return await host.get(session)


async def step(host: SessionHost, session: str) -> Any:
    return await host.step(session, {})


@pytest.mark.parametrize("ask", [fork, follow, queue, edit, look, step])
@pytest.mark.parametrize("refuses", [False, True])
async def test_whatever_is_asked_during_a_deletion_is_answered(any_store: Store, ask: Ask, refuses: bool) -> None:
    async with asyncio.timeout(LIMIT_S), hosting([counter()], any_store) as host:
        held = HeldStore(any_store)
        held.refuses = refuses
        session = await create(host)
        await take_steps(host, session, 1)
        deleting = asyncio.create_task(host.delete(session))
        await held.reached.wait()
        asking = asyncio.create_task(ask(host, session))
        await began(asking)
        held.go_on.set()
        answers = await asyncio.gather(deleting, return_exceptions=True)
        assert isinstance(answers[0], StoreUnavailable) is refuses
        if ask is follow and refuses:
            asking.cancel()  # it goes on following a session that is still there
        (answer,) = await asyncio.gather(asking, return_exceptions=True)
        assert not isinstance(answer, Exception) or isinstance(answer, SessionNotFound | RunNotFound | SessionBusy)


async def test_a_deletion_that_expects_another_position_leaves_all_as_it_is(any_store: Store) -> None:
    async with asyncio.timeout(LIMIT_S), hosting([counter()], any_store) as host:
        session = await create(host)
        await take_steps(host, session, 2)
        with pytest.raises(SeqMismatch):
            await host.delete(session, {0})
        assert (await host.step(session, {})).seq == 2


async def test_runs_and_deletions_at_random_are_all_answered(any_store: Store) -> None:
    async with asyncio.timeout(60), hosting([counter()], any_store) as host:
        for _ in range(10):
            session = await create(host)
            await take_steps(host, session, 1)
            asking = [asked(host, session, on_busy) for on_busy in WAITING for _ in range(5)]
            asking.append(asyncio.create_task(host.delete(session)))
            asking += [asked(host, session, on_busy) for on_busy in WAITING for _ in range(5)]
            answers = await asyncio.gather(*asking, return_exceptions=True)
            for answer in answers:
                assert not isinstance(answer, BaseException) or isinstance(answer, SessionNotFound | RunCancelled)
            with pytest.raises(SessionNotFound):
                await host.get(session)
