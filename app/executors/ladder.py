"""The executor ladder: carries out sync code on the rung that its action, its machine or the service asks for.

`loop` (async actions, no concern of this file) → `thread` → `process` → `dask`. Every call of an action is measured.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from app.engine.actions import Action
from app.engine.mode_warnings import blocking_action
from app.engine.ports import ActionOutcome, BlockingCall
from app.executors import verdicts
from app.executors.dask import DaskRung
from app.executors.errors import CannotTravel, ExecutorsClosed, PoolExhausted, RungUnavailable
from app.executors.jobs import Usage
from app.executors.loop_guard import LoopGuard
from app.executors.measure import ActionFigures, CpuLimits
from app.executors.notices import Notice, NoticeKind, Notify, tell
from app.executors.owner import CallOwner
from app.executors.pool_stats import PoolStats
from app.executors.processes import ProcessRung
from app.executors.quick_lane import QuickLane
from app.executors.roster import Entry, Redirect, Roster
from app.executors.rungs import Rung
from app.executors.threads import FairThreadPool
from app.executors.travel import Errand, MachineSource, pack, pack_action, pack_outcome
from app.executors.watchdog import LoopStats
from app.executors.workers import ForkingLauncher, SpawningLauncher
from app.system.gil import ShortTurns

__all__ = ["ExecutorSettings", "Executors"]

CORES = os.cpu_count() or 1
RESERVED = 8

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How large the rungs are and which one is the default.

    `compute_threads` is how many calls of actions known to be CPU-bound run at once: as many as there are cores, as code that
    computes without the GIL can use those, and no more. `start_method` is "forkserver"
    or "spawn"; `dask` a scheduler's address, "local" or "local:N"; calls wait for `dask_patience_s` if its
    cluster has no worker. A loop that is later than `loop_lag_budget_s` is looked
    into; None leaves it unwatched.
    """

    default: Rung = Rung.THREAD
    threads: int = 64
    thread_replacements: int = 64
    compute_threads: int = max(2, CORES)
    max_queued: int = 10_000
    processes: int = CORES
    process_recycle_after: int = 1_000
    start_method: str = "forkserver"
    dask: str | None = None
    dask_patience_s: float = 60.0
    cpu_limits: CpuLimits = field(default_factory=CpuLimits)
    loop_lag_budget_s: float | None = 0.1
    isolate_blocking: bool = False


class Executors:
    """All rungs of one process. `async with`, or start and close it; one per event loop.

    `notify` is called on the loop, once per thing to tell.
    """

    def __init__(self, settings: ExecutorSettings | None = None, *, notify: Notify | None = None) -> None:
        chosen = self._settings = settings or ExecutorSettings()
        self._notify = notify or _ignore
        self._roster = Roster(chosen.default)
        self._threads = FairThreadPool(
            "thread", size=chosen.threads, replacements=chosen.thread_replacements, max_queued=chosen.max_queued
        )
        # hooks, persisters and quick actions do not wait behind actions that take long, or never return
        self._reserve = FairThreadPool("reserve", size=RESERVED, replacements=RESERVED, max_queued=chosen.max_queued)
        self._quick = QuickLane(self._threads)
        self._compute = FairThreadPool(
            "compute",
            size=chosen.compute_threads,
            replacements=chosen.thread_replacements,
            max_queued=chosen.max_queued,
            turns=ShortTurns(),
        )
        self._processes = ProcessRung(
            SpawningLauncher() if chosen.start_method == "spawn" else ForkingLauncher(),
            size=chosen.processes,
            recycle_after=chosen.process_recycle_after,
            max_queued=chosen.max_queued,
        )
        self._dask = DaskRung(chosen.dask, max_queued=chosen.max_queued, patience_s=chosen.dask_patience_s)
        self._moves: set[asyncio.Task[None]] = set()
        self._guard = LoopGuard(
            self._roster,
            budget_s=chosen.loop_lag_budget_s,
            isolate_blocking=chosen.isolate_blocking,
            publish=self._publish,
            notify=self._notify,
        )

    def register(
        self,
        machine: str,
        *,
        source: MachineSource | None = None,
        executor: str | None = None,
        actions: Iterable[Action] = (),
        redirect: Redirect | None = None,
    ) -> None:
        """Make a machine known before its first call: where other processes find it, and its own choice of a rung.

        `redirect` is its blueprint's: without it no async action can be moved to a private loop. Raises UnknownRung when
        the machine, or one of `actions`, asks for a rung that there is not.
        """
        self._roster.register(machine, source=source, executor=executor, actions=actions, redirect=redirect)

    async def start(self) -> None:
        """Watch the running loop, and start the worker processes and private loops that actions ask for."""
        self._guard.start()
        if any(entry.rung is Rung.DASK for entry in self._roster.entries()):
            self._dask.warm()
        entries = [entry for entry in self._roster.entries() if entry.rung is Rung.PROCESS]
        if entries:
            try:
                await self._processes.warm(*[entry.source for entry in entries if entry.source is not None])
            except RungUnavailable:
                logger.exception("worker processes cannot be started; the calls that need them will be refused")

    async def close(self, grace_s: float = 5.0) -> None:
        """Refuse new calls, give running ones `grace_s` seconds, then leave them behind, or kill their processes."""
        self._guard.stop()
        self._quick.close()
        await asyncio.gather(*[pool.close(grace_s) for pool in self._pools])
        await asyncio.gather(*self._moves)
        self._guard.close()

    async def __aenter__(self) -> "Executors":
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def call(self, call: BlockingCall, *, owner: CallOwner) -> ActionOutcome:
        """Return the outcome of a sync action. Cancelling frees the caller at once on every rung."""
        entry = self._roster.entry(owner.machine, call.action)
        observe = partial(self._observe, entry, owner)
        if entry.rung is Rung.THREAD:
            return await self._call_here(entry, call, owner, observe)
        try:
            errand = partial(_errand, entry, call, is_streaming=False)
            return await self._elsewhere(entry).call(errand, key=owner.session_id, observe=observe)
        except (CannotTravel, RungUnavailable) as exc:
            self._come_back(entry, owner, exc)
            return await self._call_here(entry, call, owner, observe)

    async def stream(self, call: BlockingCall, *, owner: CallOwner) -> AsyncGenerator[Any, None]:
        """Yield the items of a sync streaming action and, last, its ActionOutcome."""
        entry = self._roster.entry(owner.machine, call.action)
        observe = partial(self._observe, entry, owner)
        is_here = entry.rung is Rung.THREAD
        if is_here:
            self._tell_if_blocking(entry, owner)
            items = self._pool_for(entry).stream(call.stream, key=owner.session_id, observe=observe)
        else:
            errand = partial(_errand, entry, call, is_streaming=True)
            items = self._elsewhere(entry).stream(errand, key=owner.session_id, observe=observe)
        last: Any = None
        try:
            async for item in items:
                last = item
                yield item
        except PoolExhausted as exc:
            self._tell_if_exhausted(entry, owner, exc)
            raise
        finally:
            await items.aclose()
        if is_here and isinstance(last, ActionOutcome):
            self._settle(entry, call, last, owner)

    async def call_plain(self, call: Callable[[], T], *, owner: CallOwner) -> T:
        """Return what a sync hook or persister returns, carried out in a thread."""
        pool = self._threads if self._threads.has_room else self._reserve
        return await pool.run(call, key=owner.session_id)

    def describe(self, machine: str) -> Mapping[str, Mapping[str, Any]]:
        """Return, per action of `machine`, the executor it asks for, where it runs now, and its mean times."""
        return {entry.action: entry.report() for entry in self._roster.entries(machine)}

    def figures(self) -> Sequence[tuple[str, str, str, ActionFigures]]:
        """Return machine, action, where it runs now, and its figures, of every sync action that was called."""
        return [
            (each.machine, each.action, each.rung.value, each.figures) for each in self._roster.entries() if each.figures.calls
        ]

    def notices(self, machine: str | None = None) -> tuple[Notice, ...]:
        """Return what has been told so far, about one machine or all."""
        told = [notice for entry in self._roster.entries(machine) for notice in entry.notices.values()]
        return (*told, *self._guard.notices(machine))

    def tell(self, kind: NoticeKind, machine: str, action: str, message: str, session_id: str | None = None) -> None:
        """Tell the user something about an action that was found out elsewhere."""
        for entry in self._roster.entries(machine):
            if entry.action == action:
                self._publish(entry, Notice(kind, machine, action, message, session_id))

    def loop_stats(self) -> LoopStats | None:
        """How late the loop has been; None when nobody watches it."""
        return self._guard.stats()

    def stats(self) -> tuple[PoolStats, ...]:
        """Every pool as it is now."""
        return tuple(pool.stats() for pool in self._pools)

    def require_room(self) -> None:
        """Raises PoolExhausted if the threads of actions are all held by calls that were given up."""
        for pool in (self._threads, self._compute):
            if pool.is_exhausted:
                raise pool.exhausted()

    @property
    def _pools(self) -> "tuple[FairThreadPool | ProcessRung | DaskRung, ...]":
        return (self._threads, self._compute, self._reserve, self._processes, self._dask)

    async def _call_here(
        self, entry: Entry, call: BlockingCall, owner: CallOwner, observe: Callable[[Usage], None]
    ) -> ActionOutcome:
        self._tell_if_blocking(entry, owner)
        try:
            pool = self._quick_pool() if entry.figures.is_quick else self._pool_for(entry)
            outcome = await pool.run(call.perform, key=owner.session_id, observe=observe)
        except PoolExhausted as exc:
            self._tell_if_exhausted(entry, owner, exc)
            raise
        self._settle(entry, call, outcome, owner)
        return outcome

    def _quick_pool(self) -> QuickLane | FairThreadPool:
        return self._reserve if self._threads.is_exhausted else self._quick

    def _pool_for(self, entry: Entry) -> FairThreadPool:
        """Threads for what waits; few threads for what computes: more of them would only share the GIL, and its misery."""
        return self._compute if entry.figures.is_proven(self._settings.cpu_limits) else self._threads

    def _elsewhere(self, entry: Entry) -> ProcessRung | DaskRung:
        return self._dask if entry.rung is Rung.DASK else self._processes

    def _tell_if_blocking(self, entry: Entry, owner: CallOwner) -> None:
        if not entry.is_chosen and NoticeKind.BLOCKING_ACTION not in entry.notices:
            self._publish(entry, verdicts.notice(NoticeKind.BLOCKING_ACTION, entry, owner, str(blocking_action(entry.action))))

    def _tell_if_exhausted(self, entry: Entry, owner: CallOwner, error: PoolExhausted) -> None:
        if NoticeKind.POOL_EXHAUSTED not in entry.notices:
            self._publish(entry, verdicts.exhausted(entry, owner, error))

    def _observe(self, entry: Entry, owner: CallOwner, usage: Usage) -> None:
        is_bound = entry.figures.add(usage, self._settings.cpu_limits)
        if is_bound and entry.rung is Rung.THREAD and NoticeKind.CPU_BOUND_ACTION not in entry.notices:
            self._publish(entry, verdicts.cpu_bound(entry, owner, usage))

    def _settle(self, entry: Entry, call: BlockingCall, outcome: ActionOutcome, owner: CallOwner) -> None:
        """Under `auto`, decide once about an action that has proven to be CPU-bound; beside the step, which goes on."""
        if entry.asked is not Rung.AUTO or entry.is_settled:
            return
        if entry.figures.is_proven(self._settings.cpu_limits):
            entry.is_settled = True
            task = asyncio.get_running_loop().create_task(self._move(entry, call, outcome, owner))
            self._moves.add(task)
            task.add_done_callback(self._moves.discard)

    async def _move(self, entry: Entry, call: BlockingCall, outcome: ActionOutcome, owner: CallOwner) -> None:
        """Carry the action out in processes from now on, or say what of it cannot travel."""
        try:
            await self._threads.run(partial(_try_to_pack, entry, call, outcome), key=owner.session_id)
            await self._processes.warm(*[source for source in (entry.source,) if source is not None])
        except (CannotTravel, RungUnavailable) as exc:
            self._publish(entry, verdicts.stays_in_thread(entry, owner, exc))
        except ExecutorsClosed:
            return
        else:
            entry.rung = Rung.PROCESS
            self._publish(entry, verdicts.moved_to_process(entry, owner))

    def _come_back(self, entry: Entry, owner: CallOwner, error: CannotTravel | RungUnavailable) -> None:
        """What `auto` has moved comes back to the threads when it cannot travel after all. Raises `error` for the others.

        When it was the result that could not travel, the action is carried out a second time: at least once is the promise.
        """
        if entry.asked is not Rung.AUTO:
            raise error
        entry.rung = Rung.THREAD
        self._publish(entry, verdicts.stays_in_thread(entry, owner, error))

    def _publish(self, entry: Entry, notice: Notice) -> None:
        entry.notices[notice.kind] = notice
        tell(notice, entry.place)
        self._notify(notice)


def _errand(entry: Entry, call: BlockingCall, *, is_streaming: bool) -> Errand:
    if entry.source is None:
        raise RungUnavailable(
            f"action {entry.action!r}: machine {entry.machine!r} was not loaded from a path, so no other process can find it",
            rung=Rung.PROCESS,
            retry_after_s=None,
        )
    carried = None if entry.of_graph is call.action else pack_action(call.action)
    return Errand(entry.source, entry.action, is_streaming, pack(call.view, call.inputs, entry.action), carried)


def _try_to_pack(entry: Entry, call: BlockingCall, outcome: ActionOutcome) -> None:
    """Raises what would go wrong if this call were made in another process."""
    _errand(entry, call, is_streaming=False)
    pack_outcome(outcome, entry.action)


def _ignore(_notice: Notice) -> None:
    return None
