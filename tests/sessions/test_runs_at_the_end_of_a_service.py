"""What becomes of a run when its service is told to end: it goes on elsewhere, or at the next start, as after a crash."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.engine import ApplicationBuilder, State, action, streaming_action
from app.engine.machine import Machine
from app.engine.retry import Retry
from app.persistence.factory import open_store
from app.persistence.records import Key, RunRecord, RunStatus
from app.persistence.store import RunNotFound
from app.sessions.errors import RunHandedOver, ShuttingDown
from app.sessions.host import SessionHost
from app.sessions.requests import Durability, OnBusy, RunRequest
from tests.sessions.hosting import all_events, create, events_until, hosting, types_of

LIMIT_S = 45.0
STEPS = 3


class Held:
    """The second step of a run is held, once, at the place that is named."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.reached = asyncio.Event()
        self.was_held = False

    async def at(self, place: str) -> None:
        if place == self.place and not self.was_held:
            self.was_held = True
            self.reached.set()
            await asyncio.sleep(600)

    def machine(self) -> Machine:
        @action(reads=["n"], writes=["n"])
        async def first(state: State) -> State:
            await self.at("in the first step")
            return state.update(n=state["n"] + 1)

        @action(reads=["n"], writes=["n"], retry=Retry(attempts=9, wait_initial_s=600, wait_max_s=600))
        async def second(state: State) -> State:
            await self.at("in a step")
            if self.place == "in a back-off" and not self.was_held:
                self.was_held = True
                self.reached.set()
                raise ConnectionError
            return state.update(n=state["n"] + 1)

        @streaming_action(reads=["n"], writes=["n"])
        async def third(state: State) -> AsyncGenerator[tuple[dict[str, Any], State | None], None]:
            yield {"item": 1}, None
            await self.at("in a stream")
            yield {}, state.update(n=state["n"] + 1)

        def build() -> ApplicationBuilder[Any]:
            builder = ApplicationBuilder().with_actions(first, second, third).with_entrypoint("first").with_state(n=0)
            return builder.with_transitions(("first", "second"), ("second", "third"))

        return Machine("m", build)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_store_url"))
    return f"sqlite:///{tmp_path}/sessions.db"


class Pair:
    """A host that is told to end, and who goes on: another replica, or the same one at its next start."""

    def __init__(self, held: Held, url: str, stack: contextlib.AsyncExitStack) -> None:
        self._held = held
        self._url = url
        self._stack = stack
        self._other: SessionHost | None = None
        self.host: SessionHost

    async def start(self) -> None:
        self.host = await self.open(shutdown_grace_s=0.3)
        if not self._url.startswith("sqlite"):
            self._other = await self.open()

    async def open(self, **settings: Any) -> SessionHost:
        return await self._stack.enter_async_context(hosting([self._held.machine()], open_store(self._url), **settings))

    async def successor(self) -> SessionHost:
        if self._other is None:
            await self.host.__aexit__(None, None, None)
            self._other = await self.open()
        return self._other


@contextlib.asynccontextmanager
async def two_hosts(held: Held, url: str) -> AsyncIterator[Pair]:
    async with asyncio.timeout(LIMIT_S), contextlib.AsyncExitStack() as stack:
        pair = Pair(held, url, stack)
        await pair.start()
        yield pair


async def ended(host: SessionHost, session: str, run_id: str) -> RunRecord:
    async with asyncio.timeout(LIMIT_S):
        while True:
            with contextlib.suppress(RunNotFound):
                record = await host.store.get_run(run_id)
                if record.finished_at_s is not None:
                    return record
            await asyncio.sleep(0.05)


PLACES = ["in the first step", "in a step", "in a stream", "in a back-off"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", ["waited for", "streamed", "with a key", "in the background", "exit", "async"])
async def test_a_run_that_has_begun_goes_on_with_what_it_has_committed(url: str, place: str, way: str) -> None:
    held = Held(place)
    request = RunRequest(durability={"exit": Durability.EXIT, "async": Durability.ASYNC}.get(way, Durability.SYNC))
    async with two_hosts(held, url) as pair:
        host = pair.host
        session = await create(host, "m")
        following = asyncio.create_task(events_until(host, session))
        if way == "in the background":
            run_id = (await host.queue(session, request)).id
        else:
            key = Key(b"digest", b"request", 0.0) if way == "with a key" else None
            run = await host.start(session, request, key=key)
            run_id = run.id
        await held.reached.wait()
        await host.drain()
        told = types_of(await following)
        assert not {"run.finished", "run.failed", "run.cancelled"} & set(told), "the stream can be resumed"
        if way != "in the background":
            with pytest.raises(RunHandedOver) as gone:
                await run.outcome()
            assert gone.value.run_id == run_id
        other = await pair.successor()
        record = await ended(other, session, run_id)
        assert (record.status, record.steps, record.reason) == (RunStatus.FINISHED, STEPS, "end")
        assert (await other.get(session)).state["n"] == STEPS
        events = types_of(await all_events(other, session))
        assert events.count("run.finished") == 1
        assert events.count("step.finished") == STEPS


async def test_a_run_that_is_handed_over_again_and_again_is_not_given_up(url: str) -> None:
    session = run_id = ""
    for number in range(5):
        held = Held("in a step")
        async with hosting([held.machine()], open_store(url), shutdown_grace_s=0.1) as host:
            if number == 0:
                session = await create(host, "m")
                run_id = (await host.start(session, RunRequest())).id
            async with asyncio.timeout(LIMIT_S):
                await held.reached.wait()
    held = Held("nowhere")
    async with hosting([held.machine()], open_store(url)) as host:
        assert (await ended(host, session, run_id)).status is RunStatus.FINISHED


@pytest.mark.parametrize("has_key", [False, True])
async def test_a_run_that_waits_in_the_process_alone_is_refused(url: str, has_key: bool) -> None:
    held = Held("in a step")
    async with two_hosts(held, url) as pair:
        host = pair.host
        session = await create(host, "m")
        first = await host.start(session, RunRequest())
        await held.reached.wait()
        key = Key(b"digest", b"request", 0.0) if has_key else None
        waiting = asyncio.create_task(host.start(session, RunRequest(on_busy=OnBusy.ENQUEUE, max_steps=1), key=key))
        await asyncio.sleep(0.05)
        await host.drain()
        with pytest.raises(ShuttingDown) as refused:
            await waiting
        assert not isinstance(refused.value, RunHandedOver)
        other = await pair.successor()
        assert (await ended(other, session, first.id)).steps == STEPS


async def test_a_run_that_was_accepted_for_later_begins_elsewhere(url: str) -> None:
    held = Held("in a step")
    async with two_hosts(held, url) as pair:
        host = pair.host
        session = await create(host, "m")
        first = await host.start(session, RunRequest(max_steps=2))
        await held.reached.wait()
        later = await host.queue(session, RunRequest(on_busy=OnBusy.ENQUEUE, max_steps=1))
        await host.drain()
        other = await pair.successor()
        assert (await ended(other, session, first.id)).steps == 2
        assert (await ended(other, session, later.id)).steps == 1


@pytest.mark.parametrize("who", ["a client", "a time limit", "a run that interrupts", "a deletion"])
async def test_who_else_ends_a_run_ends_it_for_good(url: str, who: str) -> None:
    held = Held("in a step")
    async with two_hosts(held, url) as pair:
        host = pair.host
        session = await create(host, "m")
        run = await host.start(session, RunRequest(timeout_s=0.2 if who == "a time limit" else None))
        await held.reached.wait()
        if who == "a client":
            await host.cancel_run(run.id)
        elif who == "a run that interrupts":
            await (await host.start(session, RunRequest(max_steps=1, on_busy=OnBusy.INTERRUPT))).outcome()
        elif who == "a deletion":
            await host.delete(session)
        else:
            await ended(host, session, run.id)
        await host.drain()
        other = await pair.successor()
        if who == "a deletion":
            with pytest.raises(RunNotFound):
                await other.store.get_run(run.id)
        else:
            assert (await other.store.get_run(run.id)).status is RunStatus.CANCELLED
