"""One call on its way through a pool of threads, and the figures that are taken on the way."""

import asyncio
import contextvars
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

from app.engine.frozen import frozen
from app.engine.quitting import quit_of
from app.executors.thread_clock import ThreadClock

__all__ = ["Job", "Observe", "Stage", "Usage"]

T = TypeVar("T")


@frozen
class Usage:
    """What one call took: seconds in the queue, on the clock and on the CPU.

    `delayed_s` of the clock's it was ready to run and other processes had the cores. `neighbours` is how many calls the pool
    was carrying out as this one began or ended, itself included: with the GIL between them a call that only computes gets
    about one `neighbours`-th of the clock.
    """

    waited_s: float
    wall_s: float
    cpu_s: float
    neighbours: int = 1
    delayed_s: float = 0.0


Observe: TypeAlias = Callable[[Usage], None]


class Stage(Enum):
    QUEUED = 0
    RUNNING = 1
    ABANDONED = 2  # runs on, but nobody wants its result any more
    DONE = 3


class Job(Generic[T]):
    """`work`, to be carried out once in a worker thread, and the future of its result in the loop that asked.

    The pool that owns it guards `stage` with its lock.
    """

    __slots__ = (
        "_context",
        "_error",
        "_loop",
        "_observe",
        "_value",
        "_work",
        "future",
        "key",
        "queued_at_s",
        "stage",
        "stop",
        "usage",
    )

    def __init__(self, work: Callable[[], T], key: str, observe: Observe | None, stop: Callable[[], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._work: Callable[[], T] | None = work
        self._observe = observe
        self._value: T | None = None
        self._error: BaseException | None = None
        self.future: asyncio.Future[T] = self._loop.create_future()
        self.key = key
        self.queued_at_s = time.perf_counter()
        self.stage = Stage.QUEUED
        self.stop = stop
        self.usage: Usage | None = None

    def carry_out(self, clock: ThreadClock, count_neighbours: Callable[[], int]) -> None:
        """Do the work in the calling thread and keep what it gave, or raised. Never raises."""
        neighbours = count_neighbours()
        work = self._work
        self._work = None
        assert work is not None, "a job is carried out once"  # noqa: S101 - for the type checker
        cpu_before_s, delayed_before_s = clock.read()
        started_at_s = time.perf_counter()
        try:
            self._value = self._context.run(work)
        except BaseException as exc:  # the border: what user code raises belongs to whoever asked for it
            self._error = fit_for_a_future(exc)
        wall_s = time.perf_counter() - started_at_s
        cpu_s, delayed_s = clock.read()
        self.usage = Usage(
            waited_s=started_at_s - self.queued_at_s,
            wall_s=wall_s,
            cpu_s=cpu_s - cpu_before_s,
            neighbours=max(1, neighbours, count_neighbours()),
            delayed_s=delayed_s - delayed_before_s,
        )

    def hand_over(self) -> None:
        """Give the result to the loop that asked for it, if that loop is still there."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.settle)

    def fail(self, error: Exception) -> None:
        """End the job with `error` without having carried it out."""
        self._error = error
        self.hand_over()

    def settle(self) -> None:
        """Give the result to whoever waits for it. On the loop that asked."""
        if self._observe is not None and self.usage is not None:
            self._observe(self.usage)
        error, self._error = self._error, None
        if self.future.done():
            return
        if error is None:
            self.future.set_result(self._value)  # type: ignore[arg-type] # set by carry_out when there is no error
        else:
            self.future.set_exception(error)


def fit_for_a_future(error: BaseException) -> Exception:
    """Return `error`, or what to raise in its place where it would end the loop or could not be set on a future."""
    if isinstance(error, StopIteration):
        replacement = RuntimeError("sync code raised StopIteration")
        replacement.__cause__ = error
        return replacement
    return error if isinstance(error, Exception) else quit_of(error)
