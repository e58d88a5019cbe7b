"""The runs of this process: starts them, keeps them from being lost, and brings them to an end when the service ends."""

import asyncio
from collections.abc import Callable, Iterator

from app.executors.ladder import Executors
from app.executors.notices import NoticeKind
from app.persistence.store import Store
from app.sessions.errands import Errands
from app.sessions.late_actions import LateActions
from app.sessions.leftovers import Resumption
from app.sessions.live import LiveSession
from app.sessions.requests import RunOrder
from app.sessions.run import SHUTDOWN, Run
from app.sessions.tally import RunTally
from app.sessions.trials import Trials

__all__ = ["ActiveRuns"]

_TICK_S = 0.015  # a run that has not ended by the second tick gets a row of its own, unless a step has brought it already
_LAST_WORDS_S = 5.0  # for runs that were cancelled at the end of the grace to store their end


class ActiveRuns:
    """Owns the task of each run until it has ended. `on_end` is told of each end."""

    def __init__(self, store: Store, executors: Executors, errands: Errands, on_end: Callable[[Run], None]) -> None:
        self._store = store
        self._executors = executors
        self._errands = errands
        self._on_end = on_end
        self.tally = RunTally()
        self.late = LateActions()
        self.trials = Trials()
        self._all: dict[Run, None] = {}
        # two have the same id while one is on its way out that was lost to another replica, and came back from there
        self._newest: dict[str, Run] = {}
        # runs of which no row may be stored yet, by whether they were there at the last tick
        self._young: dict[Run, None] = {}
        self._old: dict[Run, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._all))

    def get(self, run_id: str) -> Run | None:
        """Return the run if it is under way."""
        return self._newest.get(run_id)

    def start(self, live: LiveSession, order: RunOrder, resumption: Resumption | None = None) -> Run:
        """Start a run of an idle session, or go on with one that is stored."""
        run = Run(order, live, self._store, self._executors, self.late, self.trials, self._ended, resumption)
        self._all[run] = None
        self._newest[run.id] = run
        if resumption is None:
            self._young[run] = None
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        self._all_ended.clear()
        run.start()
        return run

    def accuse(self, machine: str, action: str | None, session_id: str) -> None:
        """Tell the user of an action with which processes have died."""
        message = (
            f"action {action!r} of machine {machine!r} ended the process each time that a run called it; the run is given up"
        )
        if action is not None:
            self._executors.tell(NoticeKind.PROCESS_KILLED, machine, action, message, session_id)

    def abandon(self, run: Run) -> None:
        """Let a run go that another replica may have taken over: it comes to its end, and is under way elsewhere or nowhere."""
        if self._newest.get(run.id) is run:
            del self._newest[run.id]
        run.abandon()

    async def drain(self, grace_s: float) -> None:
        """Let each step under way commit and end its run there; what is not done after `grace_s` is cancelled."""
        for run in self:
            if run.is_pausing:
                run.cancel(SHUTDOWN)
            else:
                run.stop_after_step(SHUTDOWN)
        if await self._end_within(grace_s):
            return
        for run in self:
            run.cancel(SHUTDOWN)
        await self._end_within(_LAST_WORDS_S)

    def _tick(self) -> None:
        """Store the starts of the runs that were there at the tick before: a crash then leaves a trace of them.

        A run that has ended by then needs no more than the row that came with its last step.
        """
        old, self._old, self._young = self._old, self._young, {}
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick) if self._old else None
        for run in old:
            if run.journal.needs_start:
                self._errands.start(run.secure())

    async def _end_within(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_ended.wait()
        except TimeoutError:
            return False
        return True

    def _ended(self, run: Run) -> None:
        del self._all[run]
        if self._newest.get(run.id) is run:
            del self._newest[run.id]
        self._young.pop(run, None)
        self._old.pop(run, None)
        if not self._all:
            self._all_ended.set()
        self.tally.take(run)
        self._on_end(run)
