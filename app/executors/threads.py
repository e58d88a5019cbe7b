"""A bounded pool of threads that is fair between sessions and cannot be used up in silence.

A thread cannot be killed. When nobody waits for its call any more (a timeout, a cancel) it is *abandoned*: the caller goes
on at once, the late result is dropped and counted, and another thread takes its place, up to a limit. Beyond it every
call fails at once with PoolExhausted, until an abandoned thread comes back.

Threads are daemons: an abandoned call must not keep the service from ending.
"""

import asyncio
import math
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar

from app.executors.channel import Channel
from app.executors.errors import ExecutorsClosed, PoolExhausted
from app.executors.fair_queue import FairQueue
from app.executors.jobs import Job, Observe, Stage
from app.executors.pool_stats import PoolStats, Totals
from app.executors.thread_clock import ThreadClock
from app.system.gil import ShortTurns

__all__ = ["FairThreadPool"]

T = TypeVar("T")


class FairThreadPool:
    """Carries out sync calls for one or more event loops in at most `size` threads at a time.

    Calls are queued per key (a session) and served in turn. At most `replacements` further threads stand in for
    abandoned ones. More than `max_queued` waiting calls are refused. `turns` are wanted while any call is being carried out.
    """

    def __init__(
        self, name: str, *, size: int, replacements: int = 0, max_queued: int = 10_000, turns: ShortTurns | None = None
    ) -> None:
        if size < 1 or replacements < 0:
            raise ValueError(f"pool {name!r} needs at least one thread, got size={size}, replacements={replacements}")
        self._name = name
        self._size = size
        self._replacements = replacements
        self._max_queued = max_queued
        self._turns = turns
        self._lock = threading.Lock()
        self._queue: FairQueue[Job[Any]] = FairQueue()
        self._idle: list[_Worker] = []
        self._starter: threading.Thread | None = None
        self._to_start: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._abandoned = 0
        self._closed = False
        self._quiet: list[Callable[[], object]] = []
        self._totals = Totals()

    async def run(
        self, work: Callable[[], T], *, key: str, observe: Observe | None = None, stop: Callable[[], None] | None = None
    ) -> T:
        """Return what `work` returns, carried out in a thread with the caller's context variables.

        `observe` gets the call's figures, on the loop, also when it failed or was given up. Cancelling takes the call
        out of the queue, or abandons its thread; if there is a `stop`, which makes `work` end at once, it calls that and
        keeps the thread. Raises PoolExhausted, ExecutorsClosed, or what `work` raises.
        """
        job = Job(work, key, observe, stop)
        self._submit(job)
        try:
            return await job.future
        except asyncio.CancelledError:
            self._give_up(job)
            raise

    async def stream(
        self,
        make_items: Callable[[], Iterator[T]],
        *,
        key: str,
        observe: Observe | None = None,
        stop: Callable[[], None] | None = None,
    ) -> AsyncGenerator[T, None]:
        """Yield what the iterator yields; it lives and is closed in one thread, a bounded number of items ahead.

        A caller that leaves early makes the iterator end at its next item.
        """
        channel: Channel[T] = Channel()
        job = Job(lambda: channel.pump(make_items()), key, observe, stop)
        self._submit(job)
        job.future.add_done_callback(channel.end)
        try:
            while batch := await channel.take():
                for item in batch:
                    yield item
            await job.future
        finally:
            channel.close()
            if not job.future.done():
                job.future.cancel()
                self._give_up(job)
            elif not job.future.cancelled():
                job.future.exception()  # seen, also when the caller left before it came

    async def close(self, grace_s: float = 5.0) -> None:
        """Refuse new calls, fail the waiting ones with ExecutorsClosed, give the running ones `grace_s` to end."""
        loop = asyncio.get_running_loop()
        quiet = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop did not wait
                loop.call_soon_threadsafe(quiet.set)

        with self._lock:
            self._closed = True
            waiting = self._queue.clear()
            idle, self._idle = self._idle, []
            self._threads -= len(idle)
            if self._busy == 0:
                quiet.set()
            else:
                self._quiet.append(tell)
        for job in waiting:
            job.fail(ExecutorsClosed(f"{self._name}: the service is going down"))
        for worker in idle:
            worker.hand(None)
        self._to_start.put(None)
        try:
            async with asyncio.timeout(grace_s):
                await quiet.wait()
        except TimeoutError:
            return

    @property
    def has_room(self) -> bool:
        """Whether a call would begin at once."""
        with self._lock:
            return bool(self._idle) or self._may_start_a_thread()

    @property
    def is_exhausted(self) -> bool:
        """Whether every thread that there may be is held by a call that was given up: no call can begin."""
        with self._lock:
            return self._usable() <= 0

    def stats(self) -> PoolStats:
        now_s = time.perf_counter()
        with self._lock:
            oldest_s = min((job.queued_at_s for job in self._queue), default=now_s)
            return PoolStats(
                name=self._name,
                size=self._size,
                threads=self._threads,
                busy=self._busy,
                queued=len(self._queue),
                abandoned=self._abandoned,
                oldest_wait_s=now_s - oldest_s,
                is_exhausted=self._usable() <= 0,
                **asdict(self._totals),
            )

    # what the callers' side does under the lock

    def _submit(self, job: Job[Any]) -> None:
        is_new = False
        with self._lock:
            self._refuse_when_useless()
            if self._idle:
                worker = self._idle.pop()
            elif self._may_start_a_thread():
                worker = _Worker()
                self._threads += 1
                is_new = True
            else:
                self._queue.put(job.key, job)
                return
            self._begin(job)
        worker.hand(job)
        if is_new:
            self._start_thread(worker)

    def _refuse_when_useless(self) -> None:
        if self._closed:
            raise ExecutorsClosed(f"{self._name}: the service is going down")
        if self._usable() <= 0:
            self._totals.refused += 1
            raise self.exhausted()
        if len(self._queue) >= self._max_queued:
            self._totals.refused += 1
            raise PoolExhausted(
                f"{self._name}: {len(self._queue)} calls wait already",
                pool=self._name,
                retry_after_s=self._retry_after_s(),
            )

    def exhausted(self) -> PoolExhausted:
        """Return the error that says that no call can begin."""
        return PoolExhausted(
            f"{self._name}: all {self._size} threads and {self._replacements} replacements are held by abandoned calls",
            pool=self._name,
            retry_after_s=self._retry_after_s(),
        )

    def _retry_after_s(self) -> int:
        mean_s = self._totals.mean_work_s or 1.0
        return max(1, min(60, math.ceil(mean_s * (len(self._queue) + 1) / self._size)))

    def _usable(self) -> int:
        """How many threads may work for somebody: fewer than `size` once the replacements are used up."""
        return min(self._size, self._size + self._replacements - self._abandoned)

    def _may_start_a_thread(self) -> bool:
        return self._threads - self._abandoned < self._usable()

    def _begin(self, job: Job[Any]) -> None:
        job.stage = Stage.RUNNING
        if self._turns is not None and self._busy + self._abandoned == 0:
            self._turns.begin()
        self._busy += 1

    def _give_up(self, job: Job[Any]) -> None:
        """Nobody waits for `job` any more: forget it, stop it, or abandon the thread that is at it."""
        if job.stop is not None:
            job.stop()
        with self._lock:
            if job.stage is Stage.QUEUED:
                self._queue.discard(job.key, job)
                job.stage = Stage.DONE
            if job.stage is not Stage.RUNNING or job.stop is not None:
                return
            job.stage = Stage.ABANDONED
            self._busy -= 1
            self._abandoned += 1
            listeners = self._take_listeners()
            error = self.exhausted() if self._usable() <= 0 else None
            waiting = self._queue.clear() if error is not None else []
            self._totals.refused += len(waiting)
            successor = self._replace() if error is None else None
        for tell in listeners:
            tell()
        for job_in_vain in waiting:
            job_in_vain.fail(error or ExecutorsClosed(self._name))
        if successor is not None:
            self._start_thread(successor)

    def _replace(self) -> "_Worker | None":
        """Return a worker for the next call that waits, in place of an abandoned one; None if none waits or may start."""
        if not self._may_start_a_thread():
            return None
        job = self._queue.take()
        if job is None:
            return None  # the next call starts its own thread
        self._threads += 1
        self._totals.replaced += 1
        self._begin(job)
        worker = _Worker()
        worker.hand(job)
        return worker

    def _start_thread(self, worker: "_Worker") -> None:
        """Have a thread started, by another one: beside threads that compute, a start keeps its caller for 100 ms and more."""
        if self._starter is None:
            self._starter = threading.Thread(target=self._start_threads, name=f"stepwell-{self._name}-starter", daemon=True)
            self._starter.start()
        self._to_start.put(worker)

    def _take_listeners(self) -> "list[Callable[[], object]]":
        """Return those who wait for the pool to be quiet, when it is."""
        listeners: list[Callable[[], object]] = []
        if self._busy == 0 and self._quiet:
            listeners, self._quiet = self._quiet, listeners
        return listeners

    # what the threads do

    def _serve(self, worker: "_Worker") -> None:
        """The life of a thread: take a job, do it, hand its result over, until there is none for it any more."""
        clock = ThreadClock()
        stay = True
        while stay and (job := worker.wait()) is not None:
            while job is not None:
                job.carry_out(clock, self._count_busy)
                job, stay = self._finish(job, worker)
        clock.close()

    def _start_threads(self) -> None:
        while (worker := self._to_start.get()) is not None:
            thread = threading.Thread(target=self._serve, args=(worker,), name=f"stepwell-{self._name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:  # the system has none left; whoever waits must not wait for ever
                self._refuse_begun(worker.wait(), str(exc))

    def _refuse_begun(self, job: Job[Any] | None, reason: str) -> None:
        with self._lock:
            self._threads -= 1
            self._busy -= 1
            self._totals.refused += 1
        if job is not None:
            job.fail(PoolExhausted(f"{self._name}: {reason}", pool=self._name, retry_after_s=self._retry_after_s()))

    def _count_busy(self) -> int:
        return self._busy

    def _finish(self, job: Job[Any], worker: "_Worker") -> "tuple[Job[Any] | None, bool]":
        """Settle `job`; return what this thread does next, and whether it stays."""
        with self._lock:
            self._totals.add(job.usage)
            if job.stage is Stage.ABANDONED:
                self._abandoned -= 1
                self._totals.late_results += 1
            else:
                self._busy -= 1
            job.stage = Stage.DONE
            listeners = self._take_listeners()
            following = None
            stay = not self._closed and self._threads - self._abandoned <= self._size
            if not stay:
                self._threads -= 1
            elif (following := self._queue.take()) is not None:
                self._begin(following)
            else:
                self._idle.append(worker)
            if self._turns is not None and self._busy + self._abandoned == 0:
                self._turns.end()
        job.hand_over()
        for tell in listeners:
            tell()
        return following, stay


class _Worker:
    """A thread's letter box: one job at a time, or None to go home."""

    __slots__ = ("_bell", "_job")

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()
        self._job: Job[Any] | None = None

    def hand(self, job: Job[Any] | None) -> None:
        self._job = job
        self._bell.release()

    def wait(self) -> Job[Any] | None:
        self._bell.acquire()
        job, self._job = self._job, None
        return job
