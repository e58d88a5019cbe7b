"""Threads of the host's own for turning large values into text and back: Python code that would hold the event loop.

Nothing of a user's waits or runs here. There are two, so that one session's large value does not hold up all others.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from app.system.gil import ShortTurns

__all__ = ["run_aside"]

T = TypeVar("T")

_THREADS = 2


async def run_aside(function: Callable[[], T]) -> T:
    """Return what `function` gives, called in a thread of the host. Meanwhile threads give the interpreter back quickly."""
    return await asyncio.get_running_loop().run_in_executor(_pool(), _with_short_turns, function)


def _with_short_turns(function: Callable[[], T]) -> T:
    turns = ShortTurns()
    turns.begin()
    try:
        return function()
    finally:
        turns.end()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="encoding")
