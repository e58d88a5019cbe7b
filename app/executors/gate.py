"""A semaphore for one event loop that is fair between keys."""

import asyncio

from app.executors.errors import PoolExhausted
from app.executors.fair_queue import FairQueue

__all__ = ["FairGate"]


class FairGate:
    """Lets `size` callers in at a time; those who wait are served one of each key in turn."""

    def __init__(self, name: str, *, size: int, max_queued: int) -> None:
        self.size = size
        self.inside = 0
        self.refused = 0
        self._name = name
        self._max_queued = max_queued
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(self, key: str) -> None:
        """Return when it is the caller's turn; it must `leave`. Raises PoolExhausted when too many wait."""
        if self.inside < self.size and not self._waiting:
            self.inside += 1
            return
        if len(self._waiting) >= self._max_queued:
            self.refused += 1
            raise PoolExhausted(f"{self._name}: {len(self._waiting)} calls wait already", pool=self._name, retry_after_s=5)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(key, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not self._waiting.discard(key, turn):
                self.leave()  # it was the caller's turn already
            raise

    def leave(self) -> None:
        self.inside -= 1
        self._admit()

    def resize(self, size: int) -> None:
        self.size = size
        self._admit()

    def _admit(self) -> None:
        while self.inside < self.size and (turn := self._waiting.take()) is not None:
            self.inside += 1
            turn.set_result(None)
