"""What a user's code raises that is no Exception fails its step like any other error, wherever it is raised."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from app.engine import ApplicationBuilder, State, action, lmda, streaming_action
from app.engine.actions import Action
from app.engine.conditions import on_error
from app.engine.hooks import PostRunStepHook, PostRunStepHookAsync, PreRunStepHook, PreRunStepHookAsync
from app.engine.machine import Machine
from app.engine.parallelism import MapStates
from app.engine.retry import Retry
from app.persistence.factory import open_store
from app.persistence.records import RunStatus
from app.sessions.errors import ActionFailed
from app.sessions.events import EventType
from app.sessions.requests import RunRequest
from tests.sessions.hosting import all_events, create, events_until, hosting, types_of


class PanicException(BaseException):
    """As extension modules written in Rust raise it."""


class Unspeakable(BaseException):
    """An error of which nobody can make a text."""

    def __str__(self) -> str:
        raise PanicException("in __str__")


class Interrupting(BaseException):
    def __str__(self) -> str:
        raise KeyboardInterrupt("in __str__")


ERRORS: list[Callable[[], BaseException]] = [
    lambda: PanicException("index out of bounds"),
    lambda: GeneratorExit("gone"),
    lambda: BaseExceptionGroup("two", [PanicException("one"), ValueError("other")]),
    lambda: asyncio.CancelledError("by itself"),
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt("typed"),
    Unspeakable,
    Interrupting,
]
Raise = Callable[[], None]
Build = Callable[[Raise], ApplicationBuilder[Any]]


def _alone(only: Any) -> ApplicationBuilder[Any]:
    return ApplicationBuilder().with_actions(only=only).with_entrypoint("only").with_state(n=0)


def in_an_async_action(fail: Raise) -> ApplicationBuilder[Any]:
    @action(reads=[], writes=["n"])
    async def only(state: State) -> State:
        await asyncio.sleep(0)
        fail()
        return state.update(n=1)

    return _alone(only)


def in_a_sync_action(fail: Raise) -> ApplicationBuilder[Any]:
    @action(reads=[], writes=["n"], executor="thread")
    def only(state: State) -> State:
        fail()
        return state.update(n=1)

    return _alone(only)


def in_an_async_stream(fail: Raise) -> ApplicationBuilder[Any]:
    @streaming_action(reads=[], writes=["n"])
    async def only(state: State) -> AsyncGenerator[tuple[dict[str, Any], State | None], None]:
        yield {"item": 1}, None
        fail()
        yield {"n": 1}, state.update(n=1)

    return _alone(only)


def in_a_sync_stream(fail: Raise) -> ApplicationBuilder[Any]:
    @streaming_action(reads=[], writes=["n"], executor="thread")
    def only(state: State) -> Generator[tuple[dict[str, Any], State | None], None, None]:
        yield {"item": 1}, None
        fail()
        yield {"n": 1}, state.update(n=1)

    return _alone(only)


def in_a_condition(fail: Raise) -> ApplicationBuilder[Any]:
    @action(reads=[], writes=["n"])
    async def only(state: State) -> State:
        return state.update(n=1)

    def holds(_state: State) -> bool:
        fail()
        return True

    return _alone(only).with_transitions(("only", "only", lmda(holds, ["n"])))


def in_a_reducer(fail: Raise) -> ApplicationBuilder[Any]:
    class Only(Action):
        reads = []  # noqa: RUF012  # as users write it
        writes = ["n"]  # noqa: RUF012

        async def run(self, state: State, **_: Any) -> dict[str, Any]:  # type: ignore[override]  # async, as Burr allows
            return {"n": 1}

        def update(self, result: dict[str, Any], state: State) -> State:
            fail()
            return state.update(**result)

    return _alone(Only())


def in_an_async_hook_before(fail: Raise) -> ApplicationBuilder[Any]:
    class Hook(PreRunStepHookAsync):
        async def pre_run_step(self, **_: Any) -> None:
            fail()

    return in_an_async_action(lambda: None).with_hooks(Hook())


def in_a_sync_hook_before(fail: Raise) -> ApplicationBuilder[Any]:
    class Hook(PreRunStepHook):
        def pre_run_step(self, **_: Any) -> None:
            fail()

    return in_an_async_action(lambda: None).with_hooks(Hook())


def in_a_branch(fail: Raise) -> ApplicationBuilder[Any]:
    @action(reads=["n"], writes=["n"])
    async def branch(state: State) -> State:
        if state["n"] == 1:
            fail()
        return state.update(n=state["n"] + 1)

    class Only(MapStates):
        reads = property(lambda _self: ["n"])  # type: ignore[assignment]  # as users write it
        writes = property(lambda _self: ["n"])  # type: ignore[assignment]

        def is_async(self) -> bool:
            return True

        def states(self, state: State, context: Any, inputs: dict[str, Any]) -> Generator[State, None, None]:
            for n in range(3):
                yield state.update(n=n)

        def action(self, state: State, inputs: dict[str, Any]) -> Any:
            return branch

        async def reduce(self, state: State, states: AsyncGenerator[State, None]) -> State:  # type: ignore[override]
            return state.update(n=sum([each["n"] async for each in states]))

    return _alone(Only())


PLACES: list[Build] = [
    in_an_async_action,
    in_a_sync_action,
    in_an_async_stream,
    in_a_sync_stream,
    in_a_condition,
    in_a_reducer,
    in_an_async_hook_before,
    in_a_sync_hook_before,
    in_a_branch,
]


def raising(make: Callable[[], BaseException]) -> Raise:
    def fail() -> None:
        raise make()

    return fail


def name_of(make: Callable[[], BaseException]) -> str:
    kind = type(make())
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


@pytest.fixture(params=ERRORS, ids=lambda make: type(make()).__name__)
def make(request: pytest.FixtureRequest) -> Callable[[], BaseException]:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", PLACES)
async def test_it_fails_the_step_under_its_own_name_and_the_next_run_begins(
    place: Build, make: Callable[[], BaseException]
) -> None:
    async with hosting([Machine("m", lambda: place(raising(make)))], open_store("memory://")) as host:
        session = await create(host, "m")
        for _ in range(2):
            run = await host.start(session, RunRequest(max_steps=2))
            async with asyncio.timeout(30):
                with pytest.raises(ActionFailed) as failed:
                    await run.outcome()
            assert failed.value.error_type == name_of(make)
            assert failed.value.seq == 0
            assert (await host.history.get_run(run.id)).status is RunStatus.FAILED
        assert types_of(await all_events(host, session))[-1] == "run.failed"


async def test_a_background_run_that_fails_by_it_is_called_once(store_url: str, make: Callable[[], BaseException]) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise make()

    url = "memory://" if store_url == "memory:" else store_url
    async with hosting([Machine("m", lambda: in_an_async_action(fail))], open_store(url)) as host:
        session = await create(host, "m")
        queued = await host.queue(session, RunRequest(max_steps=1))
        async with asyncio.timeout(30):
            assert (await events_until(host, session))[-1].type is EventType.RUN_FAILED
        assert (await host.history.get_run(queued.id)).status is RunStatus.FAILED
        await host.drain()
    assert len(calls) == 1


async def test_retry_and_on_error_treat_it_as_any_other_error(make: Callable[[], BaseException]) -> None:
    calls = []

    @action(reads=[], writes=["n"], retry=Retry(attempts=2, wait_initial_s=0, wait_max_s=0, wait_jitter_s=0))
    async def tries(state: State) -> State:
        calls.append(1)
        raise make()

    @action(reads=[], writes=["n"])
    async def instead(state: State) -> State:
        return state.update(n=7)

    def build() -> ApplicationBuilder[Any]:
        builder = ApplicationBuilder().with_actions(tries, instead).with_entrypoint("tries").with_state(n=0)
        return builder.with_transitions(("tries", "instead", on_error(type(make()))))

    async with hosting([Machine("m", build)], open_store("memory://")) as host:
        outcome = await host.step(await create(host, "m"), {})
    assert (outcome.action, outcome.state["n"], len(calls)) == ("instead", 7, 2)


SCRIPT_ENDS = (KeyboardInterrupt, SystemExit)


async def test_in_a_script_the_hooks_hear_of_it_and_it_leaves_as_it_was_raised(make: Callable[[], BaseException]) -> None:
    heard: list[Exception | None] = []

    class Sync(PostRunStepHook):
        def post_run_step(self, *, exception: Exception | None, **_: Any) -> None:
            heard.append(exception)

    class Async(PostRunStepHookAsync):
        async def post_run_step(self, *, exception: Exception | None, **_: Any) -> None:
            heard.append(exception)

    kind = type(make())
    for build, is_async in ((in_a_sync_action, False), (in_an_async_action, True)):
        heard.clear()
        builder = build(raising(make)).with_hooks(Async() if is_async else Sync())
        if is_async:
            app = await builder.abuild()
            with pytest.raises(kind):
                await app.astep()
        else:
            with pytest.raises(kind):
                builder.build().step()
        assert [type(each).__name__ for each in heard] == ([] if issubclass(kind, SCRIPT_ENDS) else ["ActionQuit"])


async def test_a_cancel_of_a_run_in_a_script_stays_a_cancel() -> None:
    entered = asyncio.Event()
    heard: list[Any] = []

    class Heard(PostRunStepHookAsync):
        async def post_run_step(self, **_: Any) -> None:
            heard.append(1)

    @action(reads=[], writes=["n"], retry=3)
    async def only(state: State) -> State:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("while it was cancelled")

    app = await _alone(only).with_hooks(Heard()).abuild()
    running = asyncio.create_task(app.astep())
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert heard == []
