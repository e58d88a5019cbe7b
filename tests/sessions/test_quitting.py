"""What an action can do to its own task, or to the event loop, ends its run with a reason, and nothing else."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from app.engine import ApplicationBuilder, State, action, streaming_action
from app.engine.hooks import PreRunStepHookAsync
from app.engine.machine import Machine
from app.persistence.records import RunStatus
from app.persistence.store import Store
from app.sessions.errors import ActionFailed
from app.sessions.requests import RunRequest
from tests.machines import counter
from tests.sessions.hosting import all_events, create, hosting, types_of


async def quits() -> None:
    sys.exit(3)


async def interrupts() -> None:
    raise KeyboardInterrupt


async def waits_for_what_was_cancelled() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    never.cancel()
    await never


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def has_a_task_that_quits() -> None:
    await asyncio.create_task(quits())


async def has_branches_that_quit() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(quits())
        group.create_task(asyncio.sleep(0))


async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


async def has_a_task_that_stops_the_loop() -> None:
    await asyncio.create_task(stops_the_loop())


WAYS = [
    stops_the_loop,
    has_a_task_that_stops_the_loop,
    quits,
    interrupts,
    waits_for_what_was_cancelled,
    cancels_itself,
    has_a_task_that_quits,
    has_branches_that_quit,
]


def plain(does: Callable[[], Awaitable[None]]) -> ApplicationBuilder[Any]:
    @action(reads=[], writes=["n"])
    async def leave(state: State) -> State:
        await does()
        return state.update(n=1)

    return ApplicationBuilder().with_actions(leave).with_entrypoint("leave").with_state(n=0)


def streaming(does: Callable[[], Awaitable[None]]) -> ApplicationBuilder[Any]:
    @streaming_action(reads=[], writes=["n"])
    async def leave(state: State) -> AsyncGenerator[tuple[dict[str, Any], State | None], None]:
        yield {"item": 1}, None
        await does()
        yield {"n": 1}, state.update(n=1)

    return ApplicationBuilder().with_actions(leave).with_entrypoint("leave").with_state(n=0)


def hooked(does: Callable[[], Awaitable[None]]) -> ApplicationBuilder[Any]:
    class Quits(PreRunStepHookAsync):
        async def pre_run_step(self, **_: Any) -> None:
            await does()

    @action(reads=[], writes=["n"])
    async def leave(state: State) -> State:
        return state.update(n=1)

    return ApplicationBuilder().with_actions(leave).with_entrypoint("leave").with_state(n=0).with_hooks(Quits(), Quits())


@pytest.mark.parametrize("build", [plain, streaming, hooked])
@pytest.mark.parametrize("way", WAYS)
async def test_a_run_whose_action_quits_fails_and_others_go_on(
    store: Store, way: Callable[[], Awaitable[None]], build: Callable[[Callable[[], Awaitable[None]]], ApplicationBuilder[Any]]
) -> None:
    async with hosting([Machine("quitter", lambda: build(way)), counter()], store) as host:
        session, other = await create(host, "quitter"), await create(host)
        run = await host.start(session, RunRequest(max_steps=2))
        with pytest.raises(ActionFailed):
            await run.outcome()
        record = await host.history.get_run(run.id)
        assert record.status is RunStatus.FAILED
        assert types_of(await all_events(host, session))[-1] == "run.failed"
        assert (await host.step(other, {})).seq == 0
