"""Runs that were left without an end: they go on when their session is read again, or get the end that could not be stored."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from weakref import WeakValueDictionary

from app.persistence.records import RunRecord, RunStatus
from app.persistence.store import RunNotFound, Store
from app.sessions.endings import close_stored, fail_unreadable
from app.sessions.failures import refused_end
from app.sessions.leftovers import Resumption, UnclosedEnd
from app.sessions.live import LiveSession
from app.sessions.phases import Phase
from app.sessions.requests import RunOrder, RunRequest
from app.sessions.run import Run
from app.sessions.scheduled_runs import pause_schedules_of

__all__ = ["Resumer", "resumption_of", "stored_order"]

MOST_ATTEMPTS = 3  # at a step of a run, while the process dies with each: docs/adr/0041

logger = logging.getLogger(__name__)


class Resumer:
    """Of one host. `start` begins a run on a session that is free; `require_open` raises when nothing may begin any more.

    `accuse` is told of the machine and the action with which processes have died, and of a session.
    """

    def __init__(
        self,
        store: Store,
        start: Callable[[LiveSession, RunOrder, Resumption], Run],
        require_open: Callable[[], None],
        accuse: Callable[[str, str | None, str], None],
    ) -> None:
        self._accuse = accuse
        self._store = store
        self._start = start
        self._require_open = require_open
        self._runs_left: dict[str, Run] = {}  # over here, but the store could not be told, or others go on with them
        self.left: set[str] = set()  # sessions with runs that were left without an end
        self._deciding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def deciding(self, session_id: str) -> asyncio.Lock:
        """Return the lock for taking up the runs of a session, or ending one that nobody has taken up."""
        return self._deciding.setdefault(session_id, asyncio.Lock())

    async def resume_all(self, live: LiveSession) -> None:
        """Go on with what was under way on a session that has just been read, and is not in memory yet.

        More than one run can be under way only in what an older version has stored: the next one goes on when this one has ended.
        """
        async with self.deciding(live.id):
            await self._resume_all(live)

    async def _resume_all(self, live: LiveSession) -> None:
        for record in await self._store.unfinished_runs_of(live.id):
            if record.status is not RunStatus.RUNNING:
                continue
            if live.run is not None:
                live.move(Phase.STALE)
                self.left.add(live.id)
                return
            await self._resume(live, record)

    async def _resume(self, live: LiveSession, record: RunRecord) -> None:
        """Go on with a run that has begun, or end it if that is all that is left to do."""
        self._require_open()
        resumption = await resumption_of(self._store, live, record)
        left = self._runs_left.get(record.id)
        end = None if left is None else left.unclosed
        if end is not None and end.rolls_back:
            self._start(live, stored_order(record), resumption).cancel(end.reason or "", rolls_back=True)
        elif end is not None:
            await close_stored(self._store, live, record, resumption.steps, end.status, end.reason, end.error)
        elif live.unreadable:
            await fail_unreadable(self._store, live, record, resumption.steps)
        else:
            await self._resume_interrupted(live, record, resumption, has_died=left is None)
        self._runs_left.pop(record.id, None)

    async def _resume_interrupted(self, live: LiveSession, record: RunRecord, resumption: Resumption, *, has_died: bool) -> None:
        """Go on with a run: its process has died, or it was only left here. It counts that before it calls anything."""
        # attempts that were counted after the step under way was first begun
        again = record.attempts if record.steps >= resumption.steps else 0
        attempt = again + 2 if has_died else again + 1
        names = {"run_id": record.id, "session_id": live.id, "machine": live.machine.name, "action": live.next_action}
        if attempt > MOST_ATTEMPTS:
            message = f"the process died at each of {MOST_ATTEMPTS} attempts at its next step, and the run is given up"
            error = {"type": "recovery-failed", "message": message, "action": live.next_action}
            self._accuse(live.machine.name, live.next_action, live.id)
            await pause_schedules_of(self._store, record, error)  # first: after the end nobody would look again
            await close_stored(self._store, live, record, resumption.steps, RunStatus.FAILED, None, error)
            return
        is_suspect = has_died and attempt == MOST_ATTEMPTS
        if is_suspect:
            logger.warning("the process has died more than once with a run under way, which is tried alone now", extra=names)
        else:
            logger.info("an interrupted run goes on", extra={**names, "steps": resumption.steps, "attempt": attempt})
        self._start(live, stored_order(record), replace(resumption, is_counted=has_died, is_suspect=is_suspect))

    def ended(self, run: Run) -> None:
        """A run has ended, one way or another."""
        if run.is_left:
            self._runs_left[run.id] = run
            self.left.add(run.live.id)

    async def forget(self, session_id: str, live: LiveSession | None) -> None:
        """What was left of a session is in order: it has been read again, as `live`, or by another replica.

        Of a run that the store has never heard of nothing comes any more. Raises StoreUnavailable.
        """
        for run in [run for run in self._runs_left.values() if run.live.id == session_id and run.live is not live]:
            is_stored = await self._is_stored(run)
            if self._runs_left.get(run.id) is not run:
                continue  # somebody else has come to the same meanwhile, and told it
            del self._runs_left[run.id]
            if live is not None and not is_stored:
                _show_unstored(run)
                live.stream.forsake(run.id)
        if live is None or not live.is_stale:
            self.left.discard(session_id)

    async def _is_stored(self, run: Run) -> bool:
        try:
            await self._store.get_run(run.id)
        except RunNotFound:
            return False
        return True


def _show_unstored(run: Run) -> None:
    """Tell followers the end of a run that the store does not have, and that nobody will ask for again."""
    order, journal = run.order, run.journal
    if journal.has_begun and journal.end is None and not (order.is_promised or order.is_forwarded):
        end = run.unclosed or UnclosedEnd(RunStatus.FAILED, None, refused_end(run.store_error), rolls_back=False)
        journal.show_end(end.status, end.reason, end.error)


async def resumption_of(store: Store, live: LiveSession, record: RunRecord) -> Resumption:
    """Return where a run of `live` stands that has begun. What others have done after it is not taken back with it."""
    steps, first_seq = await store.progress_of_run(record)
    origin_seq = live.seq - steps
    return Resumption(record, steps, origin_seq if first_seq in (None, origin_seq + 1) else live.seq)


def stored_order(record: RunRecord) -> RunOrder:
    """Return the order of a run that is stored."""
    webhook = None if record.webhook is None else {"url": record.webhook.url}  # the store has the rest
    return RunOrder(record.id, RunRequest.from_parameters(record.parameters), webhook=webhook, is_resumed=True)
