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


@action(reads=["history"], writes=["history", "reply"])
async def answer(state: State, prompt: str, reply: str) -> State:
    """A turn of a chat: what is said on both sides comes from outside."""
    asked, answered = {"role": "user", "content": prompt}, {"role": "assistant", "content": reply}
    return state.append(history=asked).append(history=answered).update(reply=reply)


def counting() -> ApplicationBuilder:
    return _loop(ApplicationBuilder().with_actions(count), "count")


def blocking() -> ApplicationBuilder:
    return _loop(ApplicationBuilder().with_actions(block), "block")


def waiting() -> ApplicationBuilder:
    return _loop(ApplicationBuilder().with_actions(wait), "wait")


def chatting() -> ApplicationBuilder:
    builder = ApplicationBuilder().with_actions(answer).with_transitions(("answer", "answer"))
    return builder.with_state(history=[]).with_entrypoint("answer")


def _loop(builder: ApplicationBuilder, name: str) -> ApplicationBuilder:
    return builder.with_transitions((name, name)).with_state(count=0).with_entrypoint(name)
