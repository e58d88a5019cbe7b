"""The runs of this process: starts them, keeps them from being lost, and brings them to an end when the service ends."""

import asyncio
from collections.abc import Callable, Iterator

from app.executors.ladder import Executors
from app.persistence.store import Store
from app.sessions.ids import new_id
from app.sessions.live import LiveSession
from app.sessions.requests import RunRequest
from app.sessions.run import SHUTDOWN, Run

__all__ = ["ActiveRuns"]

_SECURED_AFTER_S = 0.25  # a run that has not committed a step by then gets a row of its own
_LAST_WORDS_S = 5.0  # for runs that were cancelled at the end of the grace to store their end


class ActiveRuns:
    """Owns the task of each run until it has ended. `on_end` is told of each end."""

    def __init__(self, store: Store, executors: Executors, on_end: Callable[[Run], None]) -> None:
        self._store = store
        self._executors = executors
        self._on_end = on_end
        self._runs: dict[str, Run] = {}
        self._unsecured: dict[str, tuple[float, Run]] = {}  # oldest first
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def get(self, run_id: str) -> Run | None:
        """Return the run if it is under way."""
        return self._runs.get(run_id)

    def start(self, live: LiveSession, request: RunRequest) -> Run:
        """Start a run of an idle session."""
        run = Run(new_id(), live, request, self._store, self._executors, self._ended)
        self._runs[run.id] = run
        self._unsecured[run.id] = asyncio.get_running_loop().time(), run
        self._all_ended.clear()
        run.start()
        return run

    async def secure_starts(self) -> None:
        """Store the start of every run that takes its time over its first step: a crash then leaves a trace of it."""
        now_s = asyncio.get_running_loop().time()
        due = []
        for started_s, run in self._unsecured.values():
            if now_s - started_s < _SECURED_AFTER_S:
                break
            due.append(run)
        for run in due:
            self._unsecured.pop(run.id, None)
        await asyncio.gather(*(run.secure() for run in due))

    async def drain(self, grace_s: float) -> None:
        """Let each step under way commit and end its run there; what is not done after `grace_s` is cancelled."""
        for run in self:
            run.stop_after_step(SHUTDOWN)
        if await self._end_within(grace_s):
            return
        for run in self:
            run.cancel(SHUTDOWN)
        await self._end_within(_LAST_WORDS_S)

    async def _end_within(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_ended.wait()
        except TimeoutError:
            return False
        return True

    def _ended(self, run: Run) -> None:
        del self._runs[run.id]
        self._unsecured.pop(run.id, None)
        if not self._runs:
            self._all_ended.set()
        self._on_end(run)
