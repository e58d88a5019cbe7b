"""Actions that cannot be cancelled hold nobody: their run ends at once, and what they give afterwards is dropped."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from app.engine import ApplicationBuilder, State, action, streaming_action
from app.engine.conditions import on_error
from app.engine.errors import ActionTimeout
from app.engine.hooks import PostRunStepHookAsync, PreRunStepHookAsync
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.records import RunStatus
from app.persistence.store import SessionNotFound, Store
from app.sessions.errors import RunCancelled
from app.sessions.host import SessionHost
from app.sessions.requests import OnBusy, RunRequest, SessionEdit
from app.sessions.run_desk import RunHandle
from tests.sessions.hosting import all_events, create, hosting

SOON_S = 5.0  # far below what the actions would take, far above the half second that they get
LONG_S = 600.0
LIMIT_S = 60.0


class Stubborn:
    """What a stubborn action waits for: `let_go` ends it. `reached` says that it was called."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._go = asyncio.Event()
        self._thread = threading.Event()
        self.came_back = 0

    def let_go(self) -> None:
        self._go.set()
        self._thread.set()

    async def swallow(self) -> None:
        """Swallow every cancel."""
        self.reached.set()
        while not self._go.is_set():
            with contextlib.suppress(BaseException):
                await self._go.wait()
        self.came_back += 1

    async def clean_up_for_long(self) -> None:
        """Take all the time in the world to clean up."""
        self.reached.set()
        try:
            await asyncio.sleep(LONG_S)
        finally:
            await self._go.wait()
            self.came_back += 1

    async def wait_for_a_thread(self) -> None:
        """Wait for a thread that nobody can stop."""
        self.reached.set()
        await asyncio.to_thread(self._thread.wait, 60)
        self.came_back += 1

    async def shield(self) -> None:
        """Wait for a task that is shielded, again and again."""
        inner = asyncio.ensure_future(self._go.wait())
        self.reached.set()
        while not inner.done():
            try:
                await asyncio.shield(inner)
            except asyncio.CancelledError:
                continue
        self.came_back += 1

    async def fail_instead(self) -> None:
        """Raise another error in place of the cancel."""
        self.reached.set()
        try:
            await self._go.wait()
        except asyncio.CancelledError:
            raise ValueError("no") from None

    async def return_instead(self) -> None:
        """Take a cancel for the end of the work."""
        self.reached.set()
        try:
            await self._go.wait()
        except asyncio.CancelledError:
            return


WAYS = ["swallow", "clean_up_for_long", "wait_for_a_thread", "shield", "fail_instead", "return_instead"]
STAYS = ("swallow", "clean_up_for_long", "shield")
Build = Callable[[Callable[[], Awaitable[None]]], ApplicationBuilder[Any]]


def _with_first(second: Any) -> ApplicationBuilder[Any]:
    @action(reads=[], writes=["n"])
    async def first(state: State) -> State:
        return state.update(n=1)

    builder = ApplicationBuilder().with_actions(first=first, second=second).with_entrypoint("first").with_state(n=0, skip=False)
    return builder.with_transitions(("first", "second"), ("second", "second"))


def in_an_action(wait: Callable[[], Awaitable[None]]) -> ApplicationBuilder[Any]:
    @action(reads=["skip"], writes=["n"], retry=2)
    async def second(state: State) -> State:
        if not state["skip"]:
            await wait()
        return state.update(n=100 if state["skip"] else 666)

    return _with_first(second)


def in_a_stream(wait: Callable[[], Awaitable[None]]) -> ApplicationBuilder[Any]:
    @streaming_action(reads=["skip"], writes=["n"])
    async def second(state: State) -> AsyncGenerator[tuple[dict[str, Any], State | None], None]:
        yield {"item": 1}, None
        if not state["skip"]:
            await wait()
        yield {"item": 2}, None
        yield {}, state.update(n=100 if state["skip"] else 666)

    return _with_first(second)


def in_a_hook(wait: Callable[[], Awaitable[None]]) -> ApplicationBuilder[Any]:
    class Hook(PreRunStepHookAsync):
        async def pre_run_step(self, *, action: Any, state: State, **_: Any) -> None:
            if action.name == "second" and not state["skip"]:
                await wait()

    async def nothing() -> None: ...

    return in_an_action(nothing).with_hooks(Hook())


PLACES: list[Build] = [in_an_action, in_a_stream, in_a_hook]


@pytest.fixture
def any_store(store_url: str) -> Store:
    return open_store("memory://" if store_url == "memory:" else store_url)


async def busy(host: SessionHost, stubborn: Stubborn, **options: Any) -> tuple[str, RunHandle]:
    """A session with one step, and a run of it that is held by a stubborn action."""
    session = await create(host, "m")
    run = await host.start(session, RunRequest(max_steps=3, **options))
    await stubborn.reached.wait()
    return session, run


async def goes_on(host: SessionHost, session: str, stubborn: Stubborn) -> None:
    """The session takes its next step, on what was committed, and what comes late changes nothing of it."""
    await host.edit(session, SessionEdit({"skip": True}))
    outcome = await host.step(session, {})
    assert outcome.state["n"] == 100
    seq, events = outcome.seq, [event.id for event in await all_events(host, session)]
    stubborn.let_go()
    async with asyncio.timeout(SOON_S):
        while len(host.runs.late):  # noqa: ASYNC110  # its end gives no sign
            await asyncio.sleep(0.01)
    assert (await host.get(session)).state["n"] == 100
    assert (await host.record(session)).seq == seq
    assert [event.id for event in await all_events(host, session)] == events


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
async def test_a_cancel_is_stored_and_answered_whatever_the_action_does(any_store: Store, way: str, place: Build) -> None:
    stubborn = Stubborn()
    async with hosting([Machine("m", lambda: place(getattr(stubborn, way)))], any_store) as host:
        session, run = await busy(host, stubborn)
        async with asyncio.timeout(SOON_S):
            record = await host.cancel_run(run.id)
            assert (record.status, record.reason, record.steps) == (RunStatus.CANCELLED, "requested", 1)
            assert (await any_store.get_run(run.id)).status is RunStatus.CANCELLED
            with pytest.raises(RunCancelled):
                await run.outcome()
        assert host.runs.late.left_behind == (way in STAYS)
        await goes_on(host, session, stubborn)
        assert host.runs.late.ended == host.runs.late.left_behind


@pytest.mark.parametrize("on_busy", [OnBusy.INTERRUPT, OnBusy.ROLLBACK])
@pytest.mark.parametrize("way", WAYS)
async def test_a_run_that_pushes_another_aside_begins_at_once(any_store: Store, way: str, on_busy: OnBusy) -> None:
    stubborn = Stubborn()
    async with hosting([Machine("m", lambda: in_an_action(getattr(stubborn, way)))], any_store) as host:
        session, run = await busy(host, stubborn)
        async with asyncio.timeout(SOON_S):
            stubborn.reached.clear()
            other = await host.start(session, RunRequest(max_steps=1, on_busy=on_busy))
            with pytest.raises(RunCancelled):
                await run.outcome()
            if on_busy is OnBusy.ROLLBACK:
                assert (await other.outcome()).state["n"] == 1
            else:
                await stubborn.reached.wait()
                await host.cancel_run(other.id)
        await goes_on(host, session, stubborn)


@pytest.mark.parametrize("way", WAYS)
async def test_a_session_is_deleted_whatever_its_action_does(any_store: Store, way: str) -> None:
    stubborn = Stubborn()
    async with hosting([Machine("m", lambda: in_an_action(getattr(stubborn, way)))], any_store) as host:
        session, run = await busy(host, stubborn)
        async with asyncio.timeout(SOON_S):
            await host.delete(session)
            with pytest.raises(RunCancelled):
                await run.outcome()
        stubborn.let_go()
        with pytest.raises(SessionNotFound):
            await host.get(session)


@pytest.mark.parametrize("way", WAYS)
async def test_the_time_limit_of_a_run_holds(any_store: Store, way: str) -> None:
    stubborn = Stubborn()
    async with hosting([Machine("m", lambda: in_an_action(getattr(stubborn, way)))], any_store) as host:
        session, run = await busy(host, stubborn, timeout_s=0.3)
        async with asyncio.timeout(SOON_S):
            with pytest.raises(RunCancelled, match="timeout"):
                await run.outcome()
        await goes_on(host, session, stubborn)


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_the_time_limit_of_an_action_holds_and_its_error_is_handled(way: str, is_streaming: bool) -> None:
    stubborn = Stubborn()

    @action(reads=[], writes=["n"], timeout_s=0.2)
    async def plain(state: State) -> State:
        await getattr(stubborn, way)()
        return state.update(n=666)

    @streaming_action(reads=[], writes=["n"], timeout_s=0.2)
    async def stream(state: State) -> AsyncGenerator[tuple[dict[str, Any], State | None], None]:
        yield {"item": 1}, None
        await getattr(stubborn, way)()
        yield {}, state.update(n=666)

    @action(reads=[], writes=["n"])
    async def instead(state: State) -> State:
        return state.update(n=7)

    def build() -> ApplicationBuilder[Any]:
        actions: dict[str, Any] = {"slow": stream if is_streaming else plain, "instead": instead}
        builder = ApplicationBuilder().with_actions(**actions).with_entrypoint("slow").with_state(n=0)
        return builder.with_transitions(("slow", "instead", on_error(ActionTimeout)))

    async with asyncio.timeout(LIMIT_S):
        app = await build().abuild()
        assert (await app.arun(halt_after=["instead"]))[2]["n"] == 7  # in the engine alone
        async with hosting([Machine("m", build)], open_store("memory://")) as host:
            session = await create(host, "m")
            assert (await host.step(session, {})).state["n"] == 7
            assert len(host.runs.late) == (way in STAYS)
            stubborn.let_go()


async def test_a_hook_after_the_last_step_that_never_ends_does_not_hold_a_cancel(any_store: Store) -> None:
    stubborn = Stubborn()

    class Hook(PostRunStepHookAsync):
        async def post_run_step(self, *, action: Any, **_: Any) -> None:
            if action.name == "first":
                await stubborn.swallow()

    async def nothing() -> None: ...

    async with hosting([Machine("m", lambda: in_an_action(nothing).with_hooks(Hook()))], any_store) as host:
        session = await create(host, "m")
        run = await host.start(session, RunRequest(max_steps=1))
        await stubborn.reached.wait()
        async with asyncio.timeout(SOON_S):
            await host.cancel_run(run.id)
            assert (await run.outcome()).state["n"] == 1  # it had ended when it was cancelled
            await host.edit(session, SessionEdit({"skip": True}))
        stubborn.let_go()


async def test_after_a_restart_a_cancelled_run_does_not_begin_again(database_url: str) -> None:
    stubborn = Stubborn()
    machine = Machine("m", lambda: in_an_action(stubborn.swallow))
    async with hosting([machine], open_store(database_url)) as host:
        session, run = await busy(host, stubborn)
        await host.cancel_run(run.id)
    stubborn.reached.clear()
    async with hosting([machine], open_store(database_url)) as host:
        assert (await host.history.get_run(run.id)).status is RunStatus.CANCELLED
        assert (await host.record(session)).seq == 0
        assert not stubborn.reached.is_set()
        stubborn.let_go()


async def test_the_service_drains_within_its_grace(any_store: Store) -> None:
    stubborn = Stubborn()
    async with hosting([Machine("m", lambda: in_an_action(stubborn.swallow))], any_store) as host:
        await busy(host, stubborn)
        began_s = time.monotonic()
        async with asyncio.timeout(SOON_S):
            await host.drain()
        assert time.monotonic() - began_s < SOON_S
        stubborn.let_go()
