"""The process rung: sync actions in worker processes, one call per process at a time.

A thread accompanies each call: it packs what has to travel, waits for the reply, and can be left behind. One process per
call means that a crash, a cancel or a timeout costs that call and no other: the process is killed and replaced.
"""

import pickle
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from app.engine.ports import ActionOutcome
from app.executors.errors import RungUnavailable, WorkerDied
from app.executors.jobs import Observe, Usage
from app.executors.pool_stats import PoolStats
from app.executors.threads import FairThreadPool
from app.executors.travel import Errand, Item, MachineSource, Reply, rebuild, unpack
from app.executors.workers import Launcher, WorkerProcess
from app.system.host_threads import run_in_own_thread

__all__ = ["MakeErrand", "ProcessRung"]

MakeErrand = Callable[[], Errand]


class ProcessRung:
    """Carries errands out in at most `size` processes, fair between sessions.

    A process is replaced after `recycle_after` calls, so that what user code leaks does not stay for good.
    """

    def __init__(self, launcher: Launcher, *, size: int, recycle_after: int, max_queued: int = 10_000) -> None:
        self._launcher = launcher
        self._size = size
        self._recycle_after = recycle_after
        self._threads = FairThreadPool("process", size=size, max_queued=max_queued)
        self._lock = threading.Lock()
        self._idle: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._sources: dict[MachineSource, None] = {}
        self._closed = False
        self._died = 0

    async def call(self, make_errand: MakeErrand, *, key: str, observe: Observe | None = None) -> ActionOutcome:
        """Return the outcome of the errand, which is made (and packed) off the loop. Cancelling kills its process.

        Raises WorkerDied, CannotTravel, PoolExhausted, or what the action raises.
        """
        escort = _Escort()
        try:
            return await self._threads.run(lambda: self._last(make_errand, escort), key=key, stop=escort.give_up)
        finally:
            escort.report(observe)

    async def stream(self, make_errand: MakeErrand, *, key: str, observe: Observe | None = None) -> AsyncGenerator[Any, None]:
        """Yield the items and, last, the ActionOutcome. A reader that leaves early kills the process."""
        escort = _Escort()
        items = self._threads.stream(lambda: self._carry(make_errand, escort), key=key, stop=escort.give_up)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()
            escort.report(observe)

    async def warm(self, *sources: MachineSource) -> None:
        """Start the processes that are still missing, and have all of them import `sources`, as every later one will."""
        await self._threads.run(lambda: self._warm(sources), key="")

    async def close(self, grace_s: float = 5.0) -> None:
        """Give running calls `grace_s` to end, then kill every process."""
        await self._threads.close(grace_s)
        await run_in_own_thread(self._end_all)

    def stats(self) -> PoolStats:
        return replace(self._threads.stats(), died=self._died)

    # in the accompanying thread

    def _last(self, make_errand: MakeErrand, escort: "_Escort") -> ActionOutcome:
        *_items, outcome = self._carry(make_errand, escort)
        return outcome  # type: ignore[no-any-return] # the last item always is the outcome

    def _carry(self, make_errand: MakeErrand, escort: "_Escort") -> Iterator[Any]:
        waited_s = time.perf_counter() - escort.asked_s
        errand = make_errand()
        worker = self._send(pickle.dumps(errand), escort)
        is_done = False
        try:
            while True:
                answer: Item | Reply = pickle.loads(worker.receive())  # noqa: S301 - from our own worker
                if isinstance(answer, Reply):
                    is_done = True
                    break
                yield unpack(answer.payload, errand.action)
        except WorkerDied as exc:
            self._died += not escort.has_given_up
            raise WorkerDied(f"action {errand.action!r}: {exc}", exit_code=exc.exit_code) from None
        finally:
            escort.arrived()
            self._put_back(worker, is_usable=is_done)
        escort.usage = Usage(waited_s, answer.wall_s, answer.cpu_s)
        if answer.failure is not None:
            raise rebuild(answer.failure, errand.action)
        yield unpack(answer.outcome or b"", errand.action)

    def _send(self, message: bytes, escort: "_Escort") -> WorkerProcess:
        """Return the worker that has taken the errand. One that proves dead before it has all of it is replaced once."""
        for is_last_try in (False, True):
            worker = self._take()
            escort.accompany(worker)
            try:
                worker.send(message)
                return worker
            except OSError as exc:
                self._put_back(worker, is_usable=False)
                if is_last_try:
                    raise WorkerDied(f"the worker process died before it could be given its call: {exc.strerror}") from exc
        raise AssertionError

    def _take(self) -> WorkerProcess:
        while True:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                worker = self._launch()
            elif worker.is_gone():  # killed by somebody while it had nothing to do
                worker.end()
                continue
            worker.calls += 1
            with self._lock:
                self._busy.add(worker)
            return worker

    def _put_back(self, worker: WorkerProcess, *, is_usable: bool) -> None:
        """Keep `worker` for the next call, or a fresh one in its place."""
        with self._lock:
            self._busy.discard(worker)
        if not is_usable or worker.calls >= self._recycle_after:
            worker.end()
            try:
                worker = self._launch()
            except RungUnavailable:  # whoever needs one next is told
                return
        self._keep(worker)

    def _keep(self, worker: WorkerProcess) -> None:
        with self._lock:
            closed = self._closed
            if not closed:
                self._idle.append(worker)
        if closed:
            worker.end()

    def _warm(self, sources: tuple[MachineSource, ...]) -> None:
        with self._lock:
            unknown = [source for source in sources if source not in self._sources]
            self._sources.update(dict.fromkeys(sources))
            missing = self._size - len(self._idle) - len(self._busy)
            for worker in self._idle:
                _preload(worker, unknown)
        for _ in range(missing):
            self._keep(self._launch())

    def _launch(self) -> WorkerProcess:
        try:
            worker = self._launcher.launch()
        except (OSError, EOFError) as exc:
            raise RungUnavailable(f"no worker process can be started: {exc}", rung="process") from exc
        _preload(worker, list(self._sources))
        return worker

    def _end_all(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for worker in busy:
            worker.kill()
        for worker in idle:
            worker.end()
        self._launcher.close()


def _preload(worker: WorkerProcess, sources: list[MachineSource]) -> None:
    with suppress(OSError):  # it died of an import; the errand will tell
        for source in sources:
            worker.send(pickle.dumps(source))


class _Escort:
    """Ties a call to the process that is at it, so that whoever gives the call up can kill exactly that process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None
        self.has_given_up = False
        self.asked_s = time.perf_counter()
        self.usage: Usage | None = None

    def report(self, observe: Observe | None) -> None:
        """Tell what the action took over there, if it got that far; on the loop."""
        if observe is not None and self.usage is not None:
            observe(self.usage)

    def accompany(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._worker = worker
            if self.has_given_up:
                worker.kill()

    def arrived(self) -> None:
        with self._lock:
            self._worker = None

    def give_up(self) -> None:
        with self._lock:
            self.has_given_up = True
            if self._worker is not None:
                self._worker.kill()
