"""Threads of the host's own, so that nothing it waits for stands in a queue behind user code.

The event loop's default executor belongs to users: `asyncio.to_thread`, and whatever libraries run there. See docs/adr/0038.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["HostThreads", "run_in_own_thread"]

P = ParamSpec("P")
T = TypeVar("T")


class HostThreads:
    """A few threads for one kind of work. They are started when they are needed; whoever makes this closes it."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `call` returns, carried out in one of the threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._size, thread_name_prefix=f"stepwell-{self._name}")
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """Let go of the threads without waiting for them. Calls that have not begun are cancelled."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


async def run_in_own_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `call` returns, carried out in a thread that ends with it: for what is done once."""
    threads = HostThreads("once", 1)
    try:
        return await threads.run(call, *args, **kwargs)
    finally:
        threads.close()
