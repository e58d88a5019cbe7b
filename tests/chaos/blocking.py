"""Machines whose actions take something that everybody in their process shares, for the harms `fill` and `hold`.

Each call leaves one line outside of the service.
"""

import asyncio
import os
import time
from pathlib import Path

from app.engine import ApplicationBuilder, ApplicationContext, State, action

FOLDER = Path(os.environ["LEDGER_FOLDER"])
FILLING_CALLS = 64  # the loop's default executor has six threads on two cores, and 32 at most
EACH_S = 2.0
HELD_S = 10.0
LARGE_BYTES = 100_000  # a step above 64 kB is deflated in a thread

_calls = os.open(FOLDER / "blocking-calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def called(context: ApplicationContext) -> None:
    os.write(_calls, f"{context.app_id} {context.sequence_id} {os.getpid()}\n".encode())


@action(reads=["n"], writes=["n"])
async def fill(state: State, __context: ApplicationContext) -> State:
    called(__context)
    await asyncio.gather(*(asyncio.to_thread(time.sleep, EACH_S) for _ in range(FILLING_CALLS)))
    return state.increment(n=1)


@action(reads=["n"], writes=["n"])
async def hold(state: State, __context: ApplicationContext) -> State:
    called(__context)
    time.sleep(HELD_S)  # noqa: ASYNC251  # that is the harm
    return state.increment(n=1)


@action(reads=["n"], writes=["n", "text"])
async def grow(state: State, __context: ApplicationContext) -> State:
    called(__context)
    return state.increment(n=1).update(text=os.urandom(LARGE_BYTES // 2).hex())


def _of(name: str, one: object) -> ApplicationBuilder:
    return ApplicationBuilder().with_actions(one).with_transitions((name, name)).with_state(n=0).with_entrypoint(name)


def fills() -> ApplicationBuilder:
    return _of("fill", fill)


def holds() -> ApplicationBuilder:
    return _of("hold", hold)


def grows() -> ApplicationBuilder:
    return _of("grow", grow)
