"""How late an event loop is beside threads that compute, by the interval after which a thread has to give up the GIL.

The last column is what the threads get done meanwhile: a shorter interval costs switches. See docs/adr/0016.
"""

import asyncio
import sys
import threading
import time

import uvloop

from benchmarks.measuring import percentile
from benchmarks.tables import show

THREADS = (1, 2, 4, 8)
INTERVALS_MS = (5.0, 1.0, 0.5, 0.2)
TICK_S = 0.005
SECONDS = 3.0


class Burners:
    """Threads that compute until the context ends, and count what they do."""

    def __init__(self, count: int) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._burn, args=(index,)) for index in range(count)]
        self.done = [0] * count

    async def __aenter__(self) -> "Burners":
        await asyncio.to_thread(lambda: [thread.start() for thread in self._threads])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.to_thread(lambda: [thread.join() for thread in self._threads])

    def _burn(self, index: int) -> None:
        while not self._over.is_set():
            sum(range(200))
            self.done[index] += 1


async def measure(threads: int, interval_ms: float) -> list[str]:
    """Return a row of the table."""
    usual_s = sys.getswitchinterval()
    late_ms: list[float] = []
    async with Burners(threads) as burners:
        sys.setswitchinterval(interval_ms / 1e3)
        began_s, before = time.perf_counter(), sum(burners.done)
        while time.perf_counter() - began_s < SECONDS:
            due_s = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            late_ms.append((time.perf_counter() - due_s) * 1e3)
        rate = (sum(burners.done) - before) / (time.perf_counter() - began_s)
        sys.setswitchinterval(usual_s)
    figures = (percentile(late_ms, 0.5), percentile(late_ms, 0.99), max(late_ms))
    return [f"{threads} computing, {interval_ms:g} ms", *(f"{figure:.1f}" for figure in figures), f"{rate / 1e3:.0f}"]


def main() -> None:
    rows = [uvloop.run(measure(threads, interval)) for threads in THREADS for interval in INTERVALS_MS]
    show("Loop lag beside computing threads", ["threads, switch interval", "p50 ms", "p99", "max", "work, 1000/s"], rows)


if __name__ == "__main__":
    main()
