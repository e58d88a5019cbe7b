"""What has happened in the sessions of a host: their steps and runs, past and under way."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from app.engine.machine import Machine
from app.persistence.records import RunRecord, RunStatus, SessionRecord, StepRecord
from app.persistence.store import Store
from app.sessions.active_runs import ActiveRuns
from app.sessions.errors import PositionTrimmed
from app.sessions.readable import require_readable, require_readable_live, require_readable_steps, state_as_of
from app.sessions.residents import Residents
from app.sessions.run_desk import RunDesk
from app.sessions.run_listing import RunPage, run_page

__all__ = ["History"]

_SAME_S = 1e-3  # as the store rounds times


class History:
    """Reads from memory what is under way, and everything else from the store.

    `record` returns a session as it is now, and `require_open` raises ShuttingDown once the host takes no more changes.
    """

    def __init__(
        self,
        store: Store,
        residents: Residents,
        runs: ActiveRuns,
        desk: RunDesk,
        record: Callable[[str], Awaitable[SessionRecord]],
        machines: Mapping[str, Machine],
        require_open: Callable[[], None],
    ) -> None:
        self._store = store
        self._residents = residents
        self._runs = runs
        self._desk = desk
        self._record = record
        self._machines = machines
        self._require_open = require_open

    async def get_run(self, run_id: str) -> RunRecord:
        """Return a run as it is now. Raises RunNotFound."""
        run = self._runs.get(run_id)
        record = None if run is None else run.journal.record()
        return record or await self._desk.stored(run_id)

    async def run_with_position(self, run_id: str, asked: int | None = None) -> tuple[RunRecord, int]:
        """Return a run and the id after which a follower of it begins: `asked`, or else one below those of its events.

        Raises RunNotFound, PositionTrimmed.
        """
        record, first = await self._run_with_first(run_id)
        after = first if asked is None else asked
        if asked is not None or record.finished_at_s is not None:  # of a run under way everything is kept
            await self.require_kept(record.session_id, after)
        return record, after

    async def _run_with_first(self, run_id: str) -> tuple[RunRecord, int]:
        record = await self.get_run(run_id)
        if record.status is RunStatus.QUEUED:
            position = await self.position(record.session_id)
            record = await self.get_run(run_id)  # again: it may have begun before we looked
            if record.status is RunStatus.QUEUED:
                return record, position
        return record, max(0, (record.started_event_id or record.finished_event_id or 0) - 1)

    async def list_runs(self, session_id: str, *, limit: int, cursor: str | None = None) -> RunPage:
        """Return runs of a session, by their ends, then those that have not ended. Raises SessionNotFound, CursorInvalid."""
        await self._record(session_id)
        live = self._residents.get(session_id)
        current = live.run.journal.record() if live is not None and live.run is not None else None
        return await run_page(self._store, session_id, current, limit, cursor)

    async def steps(self, session_id: str, *, after_seq: int, limit: int) -> Sequence[StepRecord]:
        """Return steps above `after_seq`, oldest first. Raises SessionNotFound, StateUnreadable, MachineNotHosted."""
        steps = await self._store.list_steps(session_id, after_seq=after_seq, limit=limit)
        if not steps or any(step.unreadable for step in steps):
            require_readable_steps(steps, await self._record(session_id), self._machines)
        return steps

    async def step_with_state(self, session_id: str, seq: int) -> tuple[StepRecord, dict[str, Any]]:
        """Return a committed step, and the state after it.

        Raises SessionNotFound, StepNotFound, StateUnreadable, MachineNotHosted.
        """
        session = await self._record(session_id)
        step = await self._store.get_step(session_id, seq)
        require_readable_steps([step], session, self._machines)
        return step, await state_as_of(self._store, session, seq, self._machines)

    async def trim(self, session_id: str, before_seq: int) -> int:
        """Forget the steps below `before_seq`; return the first that is kept. Raises SessionNotFound."""
        self._require_open()
        return await self._store.trim(session_id, before_seq=before_seq)

    async def require_kept(self, session_id: str, event_id: int) -> None:
        """Raise PositionTrimmed if events after `event_id` are gone; 0 asks for what is there. Raises SessionNotFound.

        An event from before the session was created was one of a deleted session of the same id.
        """
        session = await self._store.get_session(session_id)
        first = max(session.trimmed_event_id, int((session.created_at_s - _SAME_S) * 1e6))
        if 0 < event_id < first:
            raise PositionTrimmed(session_id, first)

    async def require_readable(self, session_id: str) -> SessionRecord:
        """Return a session after a look at its state. Raises SessionNotFound, StateUnreadable, MachineNotHosted."""
        record = await self._record(session_id)
        live = self._residents.get(session_id)
        if live is None:
            require_readable(await self._store.load_session(session_id), self._machines)
        else:
            require_readable_live(live)
        return record

    async def position(self, session_id: str) -> int:
        """Return the id of the last event of a session: what comes after it is new. Raises SessionNotFound."""
        return (await self._record(session_id)).last_event_id
