"""Where large values become text, and text values: Python code that would hold the event loop.

Nothing of a user's waits here. There are two threads, so that one session's large value does not hold up all others.
"""

from collections.abc import Callable
from typing import TypeVar

from app.system.gil import in_short_turns
from app.system.host_threads import HostThreads

__all__ = ["run_aside"]

T = TypeVar("T")

_threads = HostThreads("encoding", 2)


async def run_aside(function: Callable[[], T]) -> T:
    """Return what `function` gives, called in a thread of the host. Meanwhile threads give the interpreter back quickly."""
    return await _threads.run(in_short_turns, function)
