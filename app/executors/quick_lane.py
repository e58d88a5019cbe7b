"""One thread for sync calls that are known to be over at once: they go to it many at a time, and come back many at a time.

To wake a thread for a call, and the loop for its result, costs several times as much as a call that only changes a few values;
with a thread for each of many such calls, all of them compete for the GIL. A call that turns out to take its time has the thread
for itself: what waits behind it, and what comes meanwhile, goes to the pool.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from app.executors.jobs import Job, Observe, Stage
from app.executors.thread_clock import ThreadClock
from app.executors.threads import FairThreadPool

__all__ = ["QuickLane"]

T = TypeVar("T")

_PATIENCE_S = 0.01
_MOST_AT_ONCE = 32  # results that wait for each other


class _Diverted(Exception):
    """The call has not begun, and is to be carried out by the pool."""


class QuickLane:
    """Carries out quick calls of one event loop, the one that it is first asked on; `pool` takes the others."""

    def __init__(self, pool: FairThreadPool) -> None:
        self._pool = pool
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._finished: deque[Job[Any]] = deque()
        self._began_s: float | None = None  # when the call under way was begun
        self._pending = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def run(self, work: Callable[[], T], *, key: str, observe: Observe | None = None) -> T:
        """Return what `work` returns, as the pool's `run` does, and raise the same."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._start(loop)
        if self._is_closed or self._is_held_up() or loop is not self._loop:
            return await self._pool.run(work, key=key, observe=observe)
        job = Job(work, key, observe, None)
        self._pending += 1
        self._waiting.put(job)
        if self._timer is None:
            self._timer = loop.call_later(_PATIENCE_S, self._look)
        try:
            return await job.future
        except _Diverted:
            return await self._pool.run(work, key=key, observe=observe)
        finally:
            job.stage = Stage.DONE  # a call that was cancelled before it began is left out

    def close(self) -> None:
        """Take no more calls; the thread ends when it has done those that it has."""
        self._is_closed = True
        self._waiting.put(None)
        if self._timer is not None:
            self._timer.cancel()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        threading.Thread(target=self._serve, args=(loop,), name="stepwell-quick", daemon=True).start()

    def _is_held_up(self) -> bool:
        began_s = self._began_s
        return began_s is not None and time.perf_counter() - began_s > _PATIENCE_S

    def _look(self) -> None:
        """Do not let what is finished, or has not begun, wait for a call that takes its time."""
        self._settle()
        if self._is_held_up():
            with suppress(Empty):
                while (job := self._waiting.get_nowait()) is not None:
                    self._pending -= 1
                    if not job.future.done():
                        job.future.set_exception(_Diverted())
        self._timer = None
        if self._pending and self._loop is not None:
            self._timer = self._loop.call_later(_PATIENCE_S, self._look)

    def _settle(self) -> None:
        while self._finished:
            job = self._finished.popleft()
            self._pending -= 1
            job.settle()

    # what the thread does

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        clock = ThreadClock(counts_delay=False)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            while (job := self._waiting.get()) is not None:
                self._carry_out(job, clock)
                with suppress(Empty):
                    while len(self._finished) < _MOST_AT_ONCE:
                        following = self._waiting.get_nowait()
                        if following is None:
                            self._waiting.put(None)  # for the outer loop
                            break
                        self._carry_out(following, clock)
                loop.call_soon_threadsafe(self._settle)

    def _carry_out(self, job: Job[Any], clock: ThreadClock) -> None:
        if job.stage is Stage.QUEUED:
            self._began_s = time.perf_counter()
            job.carry_out(clock, _alone)
            self._began_s = None
        self._finished.append(job)


def _alone() -> int:
    return 1
