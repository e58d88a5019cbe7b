"""Why an event loop does not come along: what the system counts about its thread, and what follows from it.

A loop can be late without anything that runs on it being to blame: other threads compute and have the GIL, or other
processes have the cores. Whoever happens to be running then must not be named for it.
"""

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from app.executors.thread_clock import ThreadClock

__all__ = ["Cause", "LoopClocks", "Reading", "cause_of", "kept_from_gil_s"]

HALF, QUARTER, NEXT_TO_NOTHING = 0.5, 0.25, 0.05
SWITCHES = 4
"""Whoever waits for the GIL wakes up once per switch interval to ask for it; after so many it can be told from a sleeper."""


class Cause(Enum):
    """Who makes the loop late: what runs on it, other threads of this process, or other processes."""

    ITSELF = auto()
    THREADS = auto()
    MACHINE = auto()


@dataclass(frozen=True, slots=True)
class Reading:
    """What was counted until `at_s`, in seconds.

    `loop_delayed_s`: the loop's thread was ready and had no core. `loop_turns`: how often it was given one; None where the
    system does not say. `is_ready`: it wants to go on, rather than to wait for something. `watcher_delayed_s`: as the
    first, of the thread that reads.
    """

    at_s: float
    loop_cpu_s: float
    process_cpu_s: float
    loop_delayed_s: float = 0.0
    loop_turns: int | None = None
    is_ready: bool = False
    watcher_delayed_s: float = 0.0


def cause_of(since: Reading, now: Reading, budget_s: float) -> Cause:
    """Return what has kept the loop from `since` to `now`. More than the budget of CPU is its own doing in any case."""
    held_s = now.at_s - since.at_s
    own_s = now.loop_cpu_s - since.loop_cpu_s
    if own_s >= min(HALF * held_s, budget_s) or _is_asleep(since, now):
        return Cause.ITSELF
    if now.process_cpu_s - since.process_cpu_s - own_s >= QUARTER * held_s:
        return Cause.THREADS
    if now.is_ready or now.loop_delayed_s - since.loop_delayed_s >= QUARTER * held_s:
        return Cause.MACHINE
    return Cause.ITSELF


def kept_from_gil_s(last: Reading, now: Reading, due_s: float) -> float:
    """Return for how long the thread that reads has waited for the GIL since `due_s`, when it meant to go on."""
    return max(0.0, now.at_s - due_s - (now.watcher_delayed_s - last.watcher_delayed_s))


def _is_asleep(since: Reading, now: Reading) -> bool:
    """Whether the loop's thread waits for something that is neither the GIL nor a core."""
    held_s = now.at_s - since.at_s
    if since.loop_turns is None or now.loop_turns is None or now.is_ready or held_s < SWITCHES * sys.getswitchinterval():
        return False
    return now.loop_turns - since.loop_turns <= 1 and now.loop_cpu_s - since.loop_cpu_s <= NEXT_TO_NOTHING * held_s


class LoopClocks:
    """Reads what is counted about a loop's thread; made and used by the thread that watches it, and closed by it."""

    def __init__(self, thread_id: int, native_id: int) -> None:
        self._cpu_clock = time.pthread_getcpuclockid(thread_id)
        self._own = ThreadClock()
        self._files: list[int] = []
        with suppress(OSError):  # no Linux, or one that does not count
            for name in ("schedstat", "stat"):
                self._files.append(os.open(f"/proc/self/task/{native_id}/{name}", os.O_RDONLY | os.O_CLOEXEC))

    def read(self) -> Reading:
        """Raises OSError when the thread has ended."""
        at_s, loop_cpu_s, process_cpu_s = time.perf_counter(), time.clock_gettime(self._cpu_clock), time.process_time()
        if len(self._files) < 2:
            return Reading(at_s, loop_cpu_s, process_cpu_s)
        schedstat, stat = self._files
        _, delayed_ns, turns = os.pread(schedstat, 64, 0).split()
        state = os.pread(stat, 256, 0).rpartition(b") ")[2][:1]
        _, watcher_delayed_s = self._own.read()
        return Reading(
            at_s,
            loop_cpu_s,
            process_cpu_s,
            int(delayed_ns) / 1e9,
            int(turns),
            is_ready=state == b"R",
            watcher_delayed_s=watcher_delayed_s,
        )

    def close(self) -> None:
        self._own.close()
        while self._files:
            os.close(self._files.pop())
