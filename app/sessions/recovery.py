"""What a crash leaves behind: runs that the store has as unfinished and that nobody runs. They go on from their last step."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from app.persistence.records import Commit, RunEnd, RunRecord, RunStatus, SessionRecord, SessionStatus
from app.persistence.replicas import ClaimedElsewhere
from app.persistence.store import RunNotFound, SessionNotFound, Store, StoreUnavailable
from app.sessions.errors import MachineNotHosted, SessionsError, ShuttingDown
from app.sessions.run_desk import RunDesk
from app.system.clocks import current_time_s, event_time_us

__all__ = ["Recovery"]

T = TypeVar("T")

_PAGE = 1_000
_ALL = 1_000_000
_START = (-math.inf, "")  # of the runs, by their start and id
_AT_ONCE = 16
_QUEUED_TOO_LONG_S = 5.0  # a run that has waited so long was forgotten by who was to begin it
_UNHOSTED_TOO_LONG_S = 60.0  # for another replica to host the machine of a run

logger = logging.getLogger(__name__)


class Recovery:
    """Finds what nobody runs, and has it taken up. `own` makes a session this replica's, hosted or not."""

    def __init__(self, store: Store, desk: RunDesk, own: Callable[[str], Awaitable[SessionRecord]]) -> None:
        self._store = store
        self._desk = desk
        self._own = own
        self._unhosted: dict[str, tuple[float, RunRecord]] = {}
        self._looking = asyncio.Lock()
        self._looked_at = _START

    async def after_start(self) -> None:
        """Go on with everything that is unfinished, if no other process can have it; what waits goes into the queue."""
        if self._store.replicas.id is None:
            found = await self._store.unfinished_runs(_ALL)
            await self._take_up_all([run for run in found if run.status is not RunStatus.QUEUED])
            for run in found:
                if run.status is RunStatus.QUEUED:
                    self._store.queue.put(run.id)

    async def now_and_then(self) -> None:
        """Go on with what dead replicas have left behind, and with what this one had to leave. Raises StoreUnavailable."""
        if self._desk.is_closed:  # others find what this replica leaves behind
            return
        async with self._looking:
            await self._many(self.look_after, list(self._desk.resumer.left))
            before_s = current_time_s() - _QUEUED_TOO_LONG_S
            found = await self._store.replicas.orphans(queued_before_s=before_s, limit=_PAGE)
            unhosted = {run.id: run for _, run in self._unhosted.values()}
            await self._take_up_all(list({**unhosted, **{run.id: run for run in found}}.values()))

    async def look_for_lost(self) -> None:
        """Go on with runs that are under way in this replica's sessions by the store, and not here: there should be none.

        The runs are looked through in parts, with every call the next one. Raises StoreUnavailable.
        """
        if self._desk.is_closed:
            return
        claimant = self._store.replicas.id
        found = await self._store.running_runs(claimed_by=claimant, after=self._looked_at, limit=_PAGE)
        self._looked_at = (found[-1].started_at_s, found[-1].id) if len(found) == _PAGE else _START
        await self._many(self._find, [run for run in found if not self._desk.has(run.id)])

    async def _find(self, run: RunRecord) -> None:
        """Take a run up, unless it was only between two owners, or has ended, when it was looked for."""
        with contextlib.suppress(ClaimedElsewhere, SessionNotFound, RunNotFound, SessionsError):
            await self._desk.alive(run.session_id)
            stored = await self._store.get_run(run.id)
            is_left = run.session_id in self._desk.resumer.left
            if stored.status is RunStatus.RUNNING and not (is_left or self._desk.has(run.id)):
                logger.error("a run that nobody had is taken up", extra={"run_id": run.id, "session_id": run.session_id})
                await self.take_up(stored)

    async def _take_up_all(self, runs: Sequence[RunRecord]) -> None:
        """Go on with these runs, first with those with which a process has died before: the others leave them to themselves."""
        await self._many(self.take_up, [run for run in runs if run.attempts > 0])
        await self._many(self.take_up, [run for run in runs if run.attempts <= 0])

    async def _many(self, does: Callable[[T], Awaitable[None]], what: Sequence[T]) -> None:
        """Do it with each of these, some at the same time: a dead replica may have had hundreds of runs."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(each: T) -> None:
            async with places:
                await does(each)

        for answer in await asyncio.gather(*map(one, what), return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    async def take_up(self, run: RunRecord) -> None:
        """Go on with a stored run, if nobody else does. Raises StoreUnavailable."""
        names = {"run_id": run.id, "session_id": run.session_id}
        try:
            await self._desk.take_up(run)
            self._unhosted.pop(run.id, None)
        except (ClaimedElsewhere, SessionNotFound):
            self._unhosted.pop(run.id, None)  # somebody else was faster
        except ShuttingDown:
            pass  # others find it as this replica did
        except MachineNotHosted as exc:
            await self.gave_up(run, exc)
        except StoreUnavailable:
            raise
        except Exception:  # the border: one run that cannot go on must not keep the others from it
            logger.exception("a run could not be taken up", extra=names)

    async def gave_up(self, run: RunRecord, error: MachineNotHosted) -> bool:
        """Return whether this run has ended because nobody has hosted its machine for long."""
        seen_s, _ = self._unhosted.setdefault(run.id, (time.monotonic(), run))
        if time.monotonic() - seen_s <= _UNHOSTED_TOO_LONG_S:
            return False
        names = {"run_id": run.id, "session_id": run.session_id}
        logger.warning("a run ends because nobody hosts its machine", extra={**names, "error": str(error)})
        await self._give_up(run, error)
        return True

    async def look_after(self, session_id: str) -> None:
        """Read a session again whose last run could not be brought to an end in the store: that does the rest."""
        if self._desk.is_closed:
            return
        live = None
        with contextlib.suppress(ClaimedElsewhere, SessionNotFound, SessionsError):
            live = await self._desk.alive(session_id)
        if live is None or not live.is_stale:  # else what is under way there has to end first
            await self._desk.resumer.forget(session_id, live)

    async def _give_up(self, run: RunRecord, error: SessionsError) -> None:
        self._unhosted.pop(run.id, None)
        try:
            session = await self._own(run.session_id)
        except (ClaimedElsewhere, SessionNotFound):
            return
        now_s = current_time_s()
        event_id = max(session.last_event_id + 1, event_time_us())
        told = {"type": "machine-not-hosted", "message": str(error)}
        end = RunEnd(run.id, RunStatus.FAILED, event_id, now_s, run.steps, error=told)
        await self._store.commit(
            Commit(
                run.session_id,
                SessionStatus.FAILED,
                event_id,
                run_end=end,
                run_id=run.id,
                claim_no=session.claim_no,
                after_seq=session.seq,
            )
        )
