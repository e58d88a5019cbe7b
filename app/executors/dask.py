"""The Dask rung: sync actions on a cluster, for work that outgrows the machine.

Connects when first needed, to a scheduler's address or to a small cluster of its own on this machine. A scheduler that goes
away fails the calls that it had, at once; the next call connects again. Needs the extra `stepwell[dask]`.
"""

import asyncio
import importlib
import itertools
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from app.engine.ports import ActionOutcome
from app.executors.errors import ExecutorsClosed, RungUnavailable, WorkerDied
from app.executors.gate import FairGate
from app.executors.jobs import Observe, Usage
from app.executors.pool_stats import PoolStats, Totals
from app.executors.processes import MakeErrand
from app.executors.remote import carry_out_on_dask
from app.executors.threads import FairThreadPool
from app.executors.travel import Errand, Reply, rebuild, unpack

__all__ = ["DaskRung"]

CONNECT_TIMEOUT_S = 3.0
BIRTH_TIMEOUT_S = 30.0
"""A worker of our own has to be started first, perhaps on a machine that has much else to do."""
DOWN_FOR_S = 2.0
"""After a failed try to connect, calls fail at once for so long."""
RECOUNT_S = 2.0
"""A cluster grows and shrinks: so often its threads are counted while it has something to do."""
PER_THREAD = 2
"""Calls under way per thread of the cluster: one at work, one that is already there when it ends."""


@dataclass(slots=True, eq=False)
class _Link:
    """One connection to a scheduler. Items come under `topic`; `threads` is how many the cluster had at `counted_s`.

    `manned_s` is when it had any. A cluster that scales itself has none until somebody asks for something.
    """

    client: Any
    cluster: Any
    executor: Executor
    topic: str
    threads: int
    counted_s: float = field(default_factory=time.monotonic)
    manned_s: float = field(default_factory=time.monotonic)

    def recount(self) -> None:
        """Count the cluster's threads again, if that was some time ago. Blocks."""
        now_s = time.monotonic()
        if now_s - self.counted_s < RECOUNT_S:
            return
        self.counted_s = now_s
        with suppress(Exception):  # whoever has gone away is found out about by the calls
            self.threads = sum(self.client.sync(self.client.scheduler.ncores, callback_timeout=CONNECT_TIMEOUT_S).values())
            if self.threads:
                self.manned_s = now_s

    @property
    def is_up(self) -> bool:
        return bool(self.client.status == "running")

    def close(self) -> None:
        for each in (self.client, self.cluster):
            if each is not None:
                with suppress(Exception):  # it may be gone already, in any of many ways
                    each.close(timeout=2)


class DaskRung:
    """Carries errands out on the cluster at `address`: "tcp://host:8786", or "local" or "local:4" for one of its own.

    The workers need the same version of this package, the machine's files under the same paths, and what those import.
    """

    def __init__(self, address: str | None, *, max_queued: int = 10_000, patience_s: float = 60.0) -> None:
        """A call waits for `patience_s` for a cluster without any worker to get one."""
        self._address = address
        self._patience_s = patience_s
        self._threads = FairThreadPool("dask", size=8)  # to connect, pack and submit: all of it blocks
        self._gate = FairGate("dask", size=8, max_queued=max_queued)
        self._lock = threading.Lock()
        self._link: _Link | None = None
        self._down_until_s = 0.0
        self._why_down = ""
        self._numbers = itertools.count()
        self._receivers: dict[int, Callable[[bytes], object]] = {}
        self._closed = False
        self._chores: set[asyncio.Task[Any]] = set()
        self._abandoned = 0
        self._totals = Totals()

    async def call(self, make_errand: MakeErrand, *, key: str, observe: Observe | None = None) -> ActionOutcome:
        """Return the outcome of the errand. Cancelling frees the caller; what a worker has begun, it ends in vain.

        Raises RungUnavailable, WorkerDied, CannotTravel, or what the action raises.
        """
        asked_s = time.monotonic()
        await self._gate.enter(key)
        waited_s = time.monotonic() - asked_s
        try:
            reply, action = await self._carry(make_errand, key, next(self._numbers), asked_s)
        finally:
            self._gate.leave()
        return self._outcome(reply, action, waited_s, observe)

    async def stream(self, make_errand: MakeErrand, *, key: str, observe: Observe | None = None) -> AsyncGenerator[Any, None]:
        """Yield the items, as they come over the scheduler, and the ActionOutcome last."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        number = next(self._numbers)
        self._receivers[number] = lambda payload: loop.call_soon_threadsafe(arrived.put_nowait, payload)
        asked_s = time.monotonic()
        await self._gate.enter(key)
        waited_s = time.monotonic() - asked_s
        carrying = loop.create_task(self._carry(make_errand, key, number, asked_s))
        carrying.add_done_callback(lambda _task: arrived.put_nowait(None))
        count = 0
        try:
            while (payload := await arrived.get()) is not None:
                count += 1
                yield unpack(payload, "")
            reply, action = await carrying
            while count < reply.items:  # they travel by the scheduler, the reply directly
                count += 1
                yield unpack(await self._straggler(arrived, action), action)
        finally:
            carrying.cancel()
            await asyncio.wait([carrying])
            self._gate.leave()
            del self._receivers[number]
        yield self._outcome(reply, action, waited_s, observe)

    async def _straggler(self, arrived: "asyncio.Queue[bytes | None]", action: str) -> bytes:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await arrived.get() or b""
        except TimeoutError as exc:
            raise RungUnavailable(f"action {action!r}: items were lost on the way from the Dask worker", rung="dask") from exc

    def warm(self) -> None:
        """Begin to connect; whoever cannot wait for it, or finds that it failed, tries for itself."""

        async def connect() -> None:
            with suppress(RungUnavailable, ExecutorsClosed):
                await self._threads.run(self._connected, key="")

        self._do(connect())

    async def close(self, grace_s: float = 5.0) -> None:
        """Disconnect; a cluster of our own ends. What is under way has until `grace_s`."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._gate.inside:  # noqa: ASYNC110 - at the very end, where a few ms do not matter
                    await asyncio.sleep(0.01)
        await asyncio.gather(*self._chores, return_exceptions=True)
        link, self._link = self._link, None
        if link is not None:
            await self._threads.run(link.close, key="")
        await self._threads.close(grace_s)

    def stats(self) -> PoolStats:
        return PoolStats(
            name="dask",
            size=self._gate.size,
            threads=0 if self._link is None else self._link.threads,
            busy=self._gate.inside,
            queued=self._gate.waiting,
            abandoned=self._abandoned,
            oldest_wait_s=0.0,
            **{**asdict(self._totals), "refused": self._gate.refused},
        )

    async def _carry(self, make_errand: MakeErrand, key: str, number: int, asked_s: float) -> tuple[Reply, str]:
        errand, link, future = await self._threads.run(lambda: self._submit(make_errand, number, asked_s), key=key)
        answered = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell(_future: Any) -> None:
            with suppress(RuntimeError):  # the loop did not wait
                loop.call_soon_threadsafe(answered.set)

        future.add_done_callback(tell)
        try:
            while not await self._answered_or_manned(answered, link, asked_s):
                pass
        except (asyncio.CancelledError, RungUnavailable):
            self._abandon(future)
            raise
        return self._read(future, errand), errand.action

    async def _answered_or_manned(self, answered: asyncio.Event, link: _Link, asked_s: float) -> bool:
        """Wait a while for the answer; return whether it came. Raises RungUnavailable when nobody is there to give one."""
        self._gate.resize(max(1, link.threads * PER_THREAD))
        with suppress(TimeoutError):
            await asyncio.wait_for(answered.wait(), RECOUNT_S)
            return True
        await self._threads.run(link.recount, key="")
        self._require_workers(link, asked_s)
        return False

    def _require_workers(self, link: _Link, asked_s: float) -> None:
        if not link.threads and time.monotonic() - max(link.manned_s, asked_s) >= self._patience_s:
            raise RungUnavailable(f"the Dask cluster at {self._address} has no worker", rung="dask")

    def _read(self, future: "Future[Reply]", errand: Errand) -> Reply:
        if future.cancelled():
            raise RungUnavailable(
                f"action {errand.action!r}: the Dask scheduler at {self._address} went away while a worker was at it", rung="dask"
            )
        error = future.exception()
        if error is None:
            return future.result()
        if type(error).__name__ == "KilledWorker":
            self._totals.died += 1
            raise WorkerDied(f"action {errand.action!r}: the Dask workers that tried it died")
        raise RungUnavailable(f"action {errand.action!r}: the Dask worker cannot take it: {error}", rung="dask") from error

    def _outcome(self, reply: Reply, action: str, waited_s: float, observe: Observe | None) -> ActionOutcome:
        usage = Usage(waited_s, reply.wall_s, reply.cpu_s)
        self._totals.add(usage)
        if observe is not None:
            observe(usage)
        if reply.failure is not None:
            raise rebuild(reply.failure, action)
        outcome: ActionOutcome = unpack(reply.outcome or b"", action)
        return outcome

    def _abandon(self, future: "Future[Reply]") -> None:
        """Have the scheduler forget a call. What a worker is at, it goes on with, until it ends or sends an item."""
        self._abandoned += 1

        async def forget() -> None:
            with suppress(Exception):  # the scheduler has gone, and all of its calls with it
                await self._threads.run(future.cancel, key="")
            self._abandoned -= 1
            self._totals.late_results += 1

        self._do(forget())

    def _do(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    # in a thread

    def _submit(self, make_errand: MakeErrand, number: int, asked_s: float) -> "tuple[Errand, _Link, Future[Reply]]":
        errand = make_errand()
        link = self._connected()
        link.recount()
        self._require_workers(link, asked_s)
        try:
            return errand, link, link.executor.submit(carry_out_on_dask, errand, link.topic, number)
        except Exception as exc:  # closed, closing, or broken off in one of many ways
            message = f"action {errand.action!r}: the Dask scheduler at {self._address} is gone"
            raise RungUnavailable(message, rung="dask") from exc

    def _connected(self) -> _Link:
        with self._lock:
            if self._closed:
                raise ExecutorsClosed("dask: the service is going down")
            link = self._link
            if link is not None and link.is_up:
                return link
            if time.monotonic() < self._down_until_s:
                raise RungUnavailable(self._why_down, rung="dask", retry_after_s=int(DOWN_FOR_S) + 1)
            self._link = None
            if link is not None:
                link.close()
            self._link = self._connect()
            return self._link

    def _connect(self) -> _Link:
        if self._address is None:
            raise RungUnavailable(
                "no Dask scheduler is set: STEPWELL_DASK=tcp://host:8786, or local", rung="dask", retry_after_s=None
            )
        try:
            distributed: Any = importlib.import_module("distributed")
        except ImportError as exc:
            raise RungUnavailable("executor 'dask' needs `pip install stepwell[dask]`", rung="dask", retry_after_s=None) from exc
        logging.getLogger("distributed").setLevel(logging.WARNING)  # importing it has set it to INFO
        cluster = client = None
        try:
            kind, _, size = self._address.partition(":")
            if kind == "local":
                cluster = distributed.LocalCluster(
                    n_workers=int(size) if size else None,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=":0",
                    preload=["app.executors.dask_preload"],
                )
            client = distributed.Client(cluster or self._address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
            if cluster is not None:
                client.wait_for_workers(1, timeout=BIRTH_TIMEOUT_S)
            link = _Link(
                client, cluster, client.get_executor(pure=False), f"stepwell-{client.id}", sum(client.nthreads().values())
            )
            client.subscribe_topic(link.topic, self._receive)
            return link
        except Exception as exc:
            _Link(client, cluster, None, "", 0).close()  # type: ignore[arg-type] # only to close what has been opened
            self._down_until_s = time.monotonic() + DOWN_FOR_S
            self._why_down = f"the Dask scheduler at {self._address} cannot be used: {type(exc).__name__}: {exc}"
            raise RungUnavailable(self._why_down, rung="dask", retry_after_s=int(DOWN_FOR_S) + 1) from exc

    def _receive(self, event: Any) -> None:
        """An item has come over the scheduler; in the client's thread."""
        number, payload = event[1]
        receive = self._receivers.get(number)
        if receive is not None:
            with suppress(RuntimeError):  # the loop did not wait
                receive(payload)
