"""The machines that the measured service hosts: as little as an action can do, so that what is measured is the service."""

import asyncio
import time

from app.engine import ApplicationBuilder, State, action

BLOCKING_S = 0.2


@action(reads=["count"], writes=["count"])
async def count(state: State) -> State:
    return state.update(count=state["count"] + 1)


@action(reads=["count"], writes=["count"])
def block(state: State) -> State:
    time.sleep(BLOCKING_S)
    return state.update(count=state["count"] + 1)


@action(reads=["count"], writes=["count"])
async def wait(state: State, seconds: float) -> State:
    await asyncio.sleep(seconds)
    return state.update(count=state["count"] + 1)


def counting() -> ApplicationBuilder:
    return _loop(ApplicationBuilder().with_actions(count), "count")


def blocking() -> ApplicationBuilder:
    return _loop(ApplicationBuilder().with_actions(block), "block")


def waiting() -> ApplicationBuilder:
    return _loop(ApplicationBuilder().with_actions(wait), "wait")


def _loop(builder: ApplicationBuilder, name: str) -> ApplicationBuilder:
    return builder.with_transitions((name, name)).with_state(count=0).with_entrypoint(name)
