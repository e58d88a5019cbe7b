"""Machines that treat the event loop badly, each in one way, and one that only wants its own steps taken in time."""

import asyncio
import os
import time
from typing import Any

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import machine

SLEEP_S = 0.2
CPU_S = 0.4


def burn(cpu_s: float = CPU_S) -> int:
    """Compute for so long, holding the GIL as Python code does."""
    end_s, total = time.thread_time() + cpu_s, 0
    while time.thread_time() < end_s:
        total += sum(range(200))
    return total


@action(reads=["count"], writes=["count"])
async def count(state: State[Any]) -> State[Any]:
    return state.increment(count=1)


@action(reads=["count"], writes=["count"])
def sleep(state: State[Any]) -> State[Any]:
    time.sleep(SLEEP_S)
    return state.increment(count=1)


@action(reads=["count"], writes=["count"])
def compute(state: State[Any]) -> State[Any]:
    burn()
    return state.increment(count=1)


@action(reads=["count"], writes=["count"])
async def block(state: State[Any]) -> State[Any]:
    time.sleep(SLEEP_S)  # noqa: ASYNC251 - the mistake that is measured
    return state.increment(count=1)


@action(reads=["count"], writes=["count", "blob"])
async def fill(state: State[Any]) -> State[Any]:
    """Fill the loop's default executor for a second, and commit a large step."""
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(64)))
    return state.update(count=state["count"] + 1, blob=os.urandom(80_000).hex())


def counting() -> ApplicationBuilder[Any]:
    return _loop("count", count)


def sleeping() -> ApplicationBuilder[Any]:
    return _loop("sleep", sleep)


@machine(executor="thread")
def computing_in_threads() -> ApplicationBuilder[Any]:
    return _loop("compute", compute)


@machine(executor="auto")
def computing_in_auto() -> ApplicationBuilder[Any]:
    return _loop("compute", compute)


@machine(executor="process")
def computing_in_processes() -> ApplicationBuilder[Any]:
    return _loop("compute", compute)


@machine(executor="dask")
def computing_on_dask() -> ApplicationBuilder[Any]:
    return _loop("compute", compute)


def blocking() -> ApplicationBuilder[Any]:
    return _loop("block", block)


def filling() -> ApplicationBuilder[Any]:
    return _loop("fill", fill)


def _loop(name: str, function: Any) -> ApplicationBuilder[Any]:
    builder = ApplicationBuilder().with_actions(**{name: function}).with_transitions((name, name))
    return builder.with_state(count=0).with_entrypoint(name)
