"""The items of an async streaming action that has a time limit, whether or not the action can be cancelled."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from app.engine.effects import END
from app.engine.errors import ActionTimeout
from app.engine.timeouts import LeaveBehind, end_soon

__all__ = ["TimedStream"]


class TimedStream:
    """Takes items from one iterator, in one task: a generator may hold what belongs to the task that it began in.

    `timeout_s` is for all items together; what their consumer takes does not count.
    """

    def __init__(self, action: str, timeout_s: float, items: AsyncIterator[Any], leave_behind: LeaveBehind) -> None:
        self._action = action
        self._timeout_s = timeout_s
        self._left_s = timeout_s
        self._items = items
        self._leave_behind = leave_behind
        self._wanted: asyncio.Queue[asyncio.Future[Any] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def take(self) -> Any:
        """Return the next item, or END. Raises ActionTimeout, and what the action raises."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._give())
        item: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._wanted.put_nowait(item)
        began_s = time.monotonic()
        try:
            await asyncio.wait([item], timeout=max(self._left_s, 0))
        except asyncio.CancelledError:
            await self._stop(item)
            raise
        self._left_s -= time.monotonic() - began_s
        if item.done():
            return item.result()
        await self._stop(item)
        raise ActionTimeout(self._action, self._timeout_s)

    async def aclose(self) -> None:
        """Close the iterator, in its own task. One that was left behind closes itself when it ends."""
        task, self._task = self._task, None
        if task is None:
            return
        self._wanted.put_nowait(None)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await end_soon(task, self._leave_behind)
            raise

    async def _stop(self, item: "asyncio.Future[Any]") -> None:
        item.cancel()
        task, self._task = self._task, None
        if task is not None:
            await end_soon(task, self._leave_behind)

    async def _give(self) -> None:
        try:
            while (item := await self._wanted.get()) is not None:
                try:
                    given = await anext(self._items, END)
                except BaseException as error:  # handed over to who waits for the item
                    if item.done():
                        raise
                    item.set_exception(error)
                    return
                if item.done():  # nobody waits any more, and the action has swallowed that it was cancelled
                    return
                item.set_result(given)
        finally:
            close = getattr(self._items, "aclose", None)  # an iterator that is no generator has none
            if close is not None:
                await close()
