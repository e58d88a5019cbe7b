"""Sync work that a test holds in its hand, and ways to wait for what other threads do."""

import asyncio
import threading
import time
from collections.abc import Callable


class Gate:
    """Sync work that has begun when `entered` says so and ends when it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self) -> str:
        self.entered.release()
        assert self._open.wait(60)
        return "through"

    def open(self) -> None:
        self._open.set()


AT_ONCE_S = 10
"""What "at once" may take on a machine that has much else to do, where waiting would take for ever."""


async def until(condition: Callable[[], bool], every_s: float = 0.001) -> None:
    """Wait for what another thread is about to bring about."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another thread brings it about, and has no event to set
            await asyncio.sleep(every_s)


def set_when(condition: Callable[[], bool]) -> threading.Event:
    """Return an event that another thread sets once `condition` holds, for a loop that is held until then."""
    event = threading.Event()

    def look() -> None:
        end_s = time.monotonic() + 60
        while not condition() and time.monotonic() < end_s:
            time.sleep(0.005)
        event.set()

    threading.Thread(target=look, daemon=True).start()
    return event


async def begun(gate: Gate, times: int = 1) -> None:
    for _ in range(times):
        assert await asyncio.to_thread(gate.entered.acquire, True, 60)
