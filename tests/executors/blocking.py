"""Sync work that a test holds in its hand, and ways to wait for what other threads do."""

import asyncio
import threading
from collections.abc import Callable


class Gate:
    """Sync work that has begun when `entered` says so and ends when it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self) -> str:
        self.entered.release()
        assert self._open.wait(30)
        return "through"

    def open(self) -> None:
        self._open.set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to bring about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - another thread brings it about, and has no event to set
            await asyncio.sleep(0.001)


async def begun(gate: Gate, times: int = 1) -> None:
    for _ in range(times):
        assert await asyncio.to_thread(gate.entered.acquire, True, 20)
