"""Event loops in threads of their own, for async actions that keep blocking the loop they run on.

Such an action then holds up only itself. What it awaits must not belong to another loop: a client or a lock that was made on
the service's loop stays there, and using it from here is an error of the library that owns it.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from app.executors.guarding import guard_stop, keep_running
from app.executors.jobs import fit_for_a_future

__all__ = ["PrivateLoop"]

T = TypeVar("T")

AHEAD = 64
"""How many items a stream may be ahead of its reader."""


class PrivateLoop:
    """One loop in one daemon thread, of the same kind as the loop that makes it."""

    def __init__(self, name: str) -> None:
        self._loop: asyncio.AbstractEventLoop = type(asyncio.get_running_loop())()
        self._stop = self._loop.stop
        guard_stop(self._loop)
        self._thread = threading.Thread(target=self._live, name=f"stepwell-loop-{name}", daemon=True)
        self._thread.start()

    def redirect(self, call: Callable[..., Any], *, is_streaming: bool) -> Callable[..., Any]:
        """Return what to call in place of an async function, or of an async generator function: it runs here."""
        if is_streaming:
            return lambda *args, **kwargs: self.stream(lambda: call(*args, **kwargs))
        return lambda *args, **kwargs: self.run(lambda: call(*args, **kwargs))

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the coroutine returns. Cancelling frees the caller at once, and cancels it when it next awaits."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_tamed(make), self._loop))

    async def stream(self, make: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """Yield the items of an async generator that lives in one task of this loop."""
        home = asyncio.get_running_loop()
        arrived: asyncio.Queue[list[T] | None] = asyncio.Queue()
        room = asyncio.Semaphore(AHEAD)  # used on the private loop alone

        async def pump() -> None:
            async with aclosing(make()) as items:
                async for item in items:
                    await room.acquire()
                    home.call_soon_threadsafe(arrived.put_nowait, [item])

        pumping = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_tamed(pump), self._loop))
        pumping.add_done_callback(lambda _future: arrived.put_nowait(None))
        try:
            while (boxed := await arrived.get()) is not None:
                self._loop.call_soon_threadsafe(room.release)
                yield boxed[0]
            await pumping
        finally:
            pumping.cancel()
            if not pumping.cancelled():
                pumping.exception()  # seen, also when the reader left before it came

    def close(self) -> None:
        """Cancel what runs here and let the thread end, if it ever comes back to its loop. Does not wait."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop)

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            keep_running(self._loop.run_forever, lambda: True)
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


async def _tamed(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await the coroutine; what would end the loop that it runs on becomes an ordinary error."""
    try:
        return await make()
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as exc:
        raise fit_for_a_future(exc) from exc
