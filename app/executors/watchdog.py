"""A thread that asks the event loop, many times a second, whether it is still there, and says who keeps it when it is not.

A loop that other threads starve of the GIL is not the fault of the code that it happens to be in: such lags are counted,
but nobody is named for them, unless it does not move at all.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from app.executors.blame import Base, Blame, CodeOwner, Stack, base_of_callback, blame, capture, is_starved, owner_of_task
from app.executors.gil import ShortTurns
from app.executors.notices import Place

__all__ = ["LoopStats", "LoopWatchdog", "Stall"]

STILL_SAMPLES = 4
RELIEF_S = 5.0
"""For so long after computing threads have starved the loop, nobody keeps the GIL for more than a short turn."""


@dataclass(slots=True)
class Stall:
    """A place that has held the loop: how often, and for how long, in seconds. Grows while the place keeps doing it."""

    blame: Blame
    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LoopStats:
    """How late the loop has been, in seconds. `starved` counts lags that computing threads caused."""

    last_lag_s: float
    longest_lag_s: float
    probes: int
    late: int
    starved: int


class LoopWatchdog:
    """Watches one loop from `start` to `stop`. `on_stall` is called in the watchdog's thread when a place is first seen to
    hold the loop in a stall, once per stall, while the stall lasts.
    """

    def __init__(self, budget_s: float, *, owner_of_code: CodeOwner, on_stall: Callable[[Stall], None]) -> None:
        self._budget_s = budget_s
        self._owner_of_code = owner_of_code
        self._on_stall = on_stall
        self._stop = _held()  # released to stop; a bare lock, as an Event costs several times as much per look
        self._is_stopped = False
        self._turns = ShortTurns()
        self._thread: threading.Thread | None = None
        self._base: Base = ()
        self._stalls: dict[Place, Stall] = {}
        self._last_lag_s = self._longest_lag_s = 0.0
        self._probes = self._late = self._starved = 0

    def start(self) -> None:
        """Begin to watch the running loop."""
        loop, thread_id = asyncio.get_running_loop(), threading.get_ident()
        loop.call_soon(self._learn_base)
        self._thread = threading.Thread(target=self._watch, args=(loop, thread_id), name="stepwell-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end by itself, at its next look."""
        if not self._is_stopped:
            self._is_stopped = True
            self._stop.release()

    def stalls(self) -> list[Stall]:
        """Every place that has held the loop so far."""
        return list(self._stalls.values())

    def stats(self) -> LoopStats:
        return LoopStats(self._last_lag_s, self._longest_lag_s, self._probes, self._late, self._starved)

    def _learn_base(self) -> None:
        self._base = base_of_callback()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        cpu_clock = time.pthread_getcpuclockid(thread_id)
        with suppress(RuntimeError, OSError):  # the loop is closed, or its thread is gone: nothing is left to watch
            while not self._stop.acquire(timeout=self._budget_s / 2):
                self._probe(loop, thread_id, cpu_clock)
                self._turns.check()
        self._turns.end()

    def _probe(self, loop: asyncio.AbstractEventLoop, thread_id: int, cpu_clock: int) -> None:
        answered = _held()
        sent_s = time.perf_counter()
        loop_cpu_s, all_cpu_s = time.clock_gettime(cpu_clock), time.process_time()
        loop.call_soon_threadsafe(answered.release)
        found: Stall | None = None
        first: Stack | None = None
        samples = 0
        while not answered.acquire(timeout=self._budget_s / 4 if first is not None else self._budget_s):
            if self._is_stopped:
                return
            stack = capture(thread_id)
            first = stack if first is None else first
            samples += 1
            is_still = samples >= STILL_SAMPLES and stack == first
            waited_s = time.perf_counter() - sent_s
            own_s = time.clock_gettime(cpu_clock) - loop_cpu_s
            other_s = time.process_time() - all_cpu_s - own_s
            if found is None and (is_still or not is_starved(waited_s, own_s, other_s)):
                found = self._accuse(blame(stack, self._base, owner_of_task(loop), self._owner_of_code))
        self._note(time.perf_counter() - sent_s, found, is_late=first is not None)

    def _accuse(self, found: Blame | None) -> Stall | None:
        if found is None:
            return None
        stall = self._stalls.get(found.place)
        if stall is None:
            stall = self._stalls[found.place] = Stall(found)
        stall.count += 1
        self._on_stall(stall)
        return stall

    def _note(self, lag_s: float, stall: Stall | None, *, is_late: bool) -> None:
        self._probes += 1
        self._last_lag_s = lag_s
        self._longest_lag_s = max(self._longest_lag_s, lag_s)
        self._late += is_late
        if is_late and stall is None:
            self._starved += 1
            self._turns.extend(RELIEF_S)
        if stall is not None:
            stall.total_s += lag_s
            stall.longest_s = max(stall.longest_s, lag_s)


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
