"""Items on their way from a thread to an event loop, in order, a bounded number ahead of the reader."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

__all__ = ["Channel"]

T = TypeVar("T")

AHEAD = 64


class Channel(Generic[T]):
    """One writer in a thread (`pump`), one reader on the loop that made it (`take`).

    The writer waits when the reader is `ahead` items behind, and wakes the loop only when the reader waits.
    """

    __slots__ = ("_closed", "_ended", "_items", "_loop", "_room", "_waiter")

    def __init__(self, ahead: int = AHEAD) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[T] = deque()
        self._room = threading.Semaphore(ahead)
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._ended = False

    def pump(self, items: Iterator[T]) -> None:
        """Send every item; in the writer's thread. Closes `items` early when the reader has left."""
        try:
            for item in items:
                self._room.acquire()
                if self._closed:
                    return
                self._items.append(item)
                if self._waiter is not None:
                    self._loop.call_soon_threadsafe(self._wake)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def close(self) -> None:
        """The reader leaves: the writer stops at its next item."""
        self._closed = True
        self._room.release()

    def end(self, _job: Any = None) -> None:
        """No item comes after those sent; on the loop, after the writer's last wake-up."""
        self._ended = True
        self._wake()

    async def take(self) -> list[T]:
        """Return the items that have come since the last time, at least one; an empty list when there are no more."""
        while not self._items and not self._ended:
            self._waiter = self._loop.create_future()
            # look again after saying that we wait, or an item sent in between is slept through
            if not self._items:
                await self._waiter
            self._waiter = None
        batch: list[T] = []
        while self._items:
            batch.append(self._items.popleft())
        if batch:
            self._room.release(len(batch))
        return batch

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
