"""The port through which stored runs that wait get to whoever has room for them, and the queue of a process that is alone."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = ["Back", "LocalQueue", "RunQueue", "Take"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Back:
    """A run that goes back into the queue: for the replica `to` if that is given, for any otherwise; after so long."""

    after_s: float = 0.0
    to: str | None = None


# takes a run by its id, and returns when it has ended or needs the queue no more; or how it goes back
Take: TypeAlias = Callable[[str], Awaitable[Back | None]]


class RunQueue(Protocol):
    """Hands out runs that wait, each to one taker at a time, no more than a limit at once."""

    async def open(self, take: Take) -> None:
        """Begin to hand out."""
        ...

    def put(self, run_id: str) -> None:
        """Say that a run has been stored that waits."""
        ...

    async def tend(self) -> None:
        """Do what has to be done from time to time. Raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Hand out nothing more."""
        ...

    async def end(self) -> None:
        """Return when nothing is handed out any more; what is still taken then is broken off."""
        ...


class LocalQueue:
    """The queue of the only process of a store: what is stored and waits is put here again at the next start."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._take: Take | None = None
        self._waiting: deque[str] = deque()
        self._taken: set[asyncio.Task[None]] = set()

    async def open(self, take: Take) -> None:
        self._take = take
        self._hand_out()

    def put(self, run_id: str) -> None:
        self._waiting.append(run_id)
        self._hand_out()

    async def tend(self) -> None:
        pass

    def close(self) -> None:
        self._take = None

    async def end(self) -> None:
        for task in self._taken:
            task.cancel()
        if self._taken:
            await asyncio.wait(self._taken)

    def _hand_out(self) -> None:
        while self._take is not None and self._waiting and len(self._taken) < self._limit:
            task = asyncio.get_running_loop().create_task(self._carry_out(self._take, self._waiting.popleft()))
            self._taken.add(task)
            task.add_done_callback(self._done)

    async def _carry_out(self, take: Take, run_id: str) -> None:
        try:
            back = await take(run_id)
        except Exception:  # the border of a task that nobody awaits
            logger.exception("a run could not be taken from the queue", extra={"run_id": run_id})
            return
        if back is not None:
            asyncio.get_running_loop().call_later(back.after_s, self.put, run_id)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._taken.discard(task)
        self._hand_out()
