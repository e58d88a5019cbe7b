"""A thread that asks the event loop, many times a second, whether it is still there, and says who keeps it when it is not.

Nobody is named for a lag that others cause, threads that compute or a busy machine, nor for the sum of many short callbacks:
only what itself has held the loop for most of the budget.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

from app.executors.blame import Base, Blame, CodeOwner, base_of_callback, blame, capture, inside, owner_of_task
from app.executors.lateness import Cause, LoopClocks, Reading, cause_of, kept_from_gil_s
from app.executors.notices import Place
from app.system.gil import ShortTurns

__all__ = ["LoopStats", "LoopWatchdog", "Stall"]

MOST = 0.4
"""Of the budget: for so long somebody must have been seen to hold the loop before it is named."""
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
    """How late the loop has been, in seconds, and how often it was asked, was later than the budget, and was so because of
    computing threads or of a busy machine.
    """

    last_lag_s: float
    longest_lag_s: float
    probes: int
    late: int
    starved: int


@dataclass(slots=True, eq=False)
class _Probe:
    """One question to the loop, until it answers.

    `due_s` is when the watchdog meant to go on, and `last` what it read before. `holder` has been seen to hold the loop
    since `since`.
    """

    loop: asyncio.AbstractEventLoop
    thread_id: int
    clocks: LoopClocks
    begun: Reading
    last: Reading
    since: Reading
    due_s: float
    asked_s: float
    holder: object = None
    found: Stall | None = None


class _Answer:
    """What the loop gives, when it comes to it."""

    __slots__ = ("_lock", "given_s")

    def __init__(self) -> None:
        self._lock = _held()
        self.given_s = 0.0

    def give(self) -> None:
        self.given_s = time.perf_counter()
        self._lock.release()

    def comes_within(self, seconds: float) -> bool:
        # the second look is for what came while the caller's thread waited for the GIL
        return self._lock.acquire(timeout=seconds) or self._lock.acquire(blocking=False)


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
        loop = asyncio.get_running_loop()
        loop.call_soon(self._learn_base)
        ids = threading.get_ident(), threading.get_native_id()
        self._thread = threading.Thread(target=self._watch, args=(loop, *ids), name="stepwell-watchdog", daemon=True)
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

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int, native_id: int) -> None:
        # the loop is closed, or its thread is gone: nothing is left to watch
        with suppress(RuntimeError, OSError), closing(LoopClocks(thread_id, native_id)) as clocks:
            last = clocks.read()
            pause_s = self._budget_s / 2
            while not self._stop.acquire(timeout=pause_s):
                probe = _Probe(loop, thread_id, clocks, last, last, last, last.at_s + pause_s, time.perf_counter())
                last = self._ask(probe)
                self._turns.check()
        self._turns.end()

    def _ask(self, probe: _Probe) -> Reading:
        """Ask the loop, and wait for its answer; after each step that lets go of the GIL, see how long that took."""
        self._look_if_kept(probe)
        answer = _Answer()
        probe.due_s = time.perf_counter()
        probe.loop.call_soon_threadsafe(answer.give)
        self._look_if_kept(probe)
        patience_s = self._budget_s / 2
        probe.due_s = time.perf_counter() + patience_s
        while not answer.comes_within(patience_s):
            if self._is_stopped:
                return probe.last
            self._look(probe)
            patience_s = self._budget_s / 4
            probe.due_s = time.perf_counter() + patience_s
        ended_s = answer.given_s
        if time.perf_counter() - ended_s >= self._budget_s / 2:  # it has gone on to something that keeps the GIL
            probe.asked_s = probe.due_s = ended_s
            self._look(probe)
            ended_s = time.perf_counter()
        now = probe.clocks.read()
        self._note(probe, now, ended_s - probe.asked_s)
        return now

    def _look_if_kept(self, probe: _Probe) -> None:
        """Whoever has kept the GIL from this thread has not gone on yet: nobody else has had a turn."""
        if time.perf_counter() - probe.due_s >= self._budget_s / 2:
            self._look(probe)

    def _look(self, probe: _Probe) -> None:
        """See who holds the loop, and name it if that is clear by now."""
        frames, task = inside(capture(probe.thread_id), self._base), asyncio.current_task(probe.loop)
        now = probe.clocks.read()
        holder = task or (frames[-1].frame if frames else None)
        if kept_from_gil_s(probe.last, now, probe.due_s) >= self._budget_s / 2:
            probe.holder, probe.since = holder, probe.last
            probe.asked_s = min(probe.asked_s, probe.due_s)
        elif holder is None or holder != probe.holder:
            probe.holder, probe.since = holder, now
        probe.last = now
        is_due = now.at_s - probe.asked_s >= self._budget_s and now.at_s - probe.since.at_s >= MOST * self._budget_s
        if probe.found is None and frames and is_due and cause_of(probe.since, now, self._budget_s) is Cause.ITSELF:
            probe.found = self._accuse(blame(frames, owner_of_task(task), self._owner_of_code))

    def _accuse(self, found: Blame) -> Stall:
        stall = self._stalls.get(found.place)
        if stall is None:
            stall = self._stalls[found.place] = Stall(found)
        stall.count += 1
        self._on_stall(stall)
        return stall

    def _note(self, probe: _Probe, now: Reading, lag_s: float) -> None:
        self._probes += 1
        self._last_lag_s = lag_s
        self._longest_lag_s = max(self._longest_lag_s, lag_s)
        if probe.found is not None:
            probe.found.total_s += lag_s
            probe.found.longest_s = max(probe.found.longest_s, lag_s)
        if lag_s >= self._budget_s:
            self._late += 1
            cause = Cause.ITSELF if probe.found is not None else cause_of(probe.begun, now, self._budget_s)
            self._starved += cause is not Cause.ITSELF
            if cause is Cause.THREADS:
                self._turns.extend(RELIEF_S)


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
