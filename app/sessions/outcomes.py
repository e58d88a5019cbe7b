"""What a run of the past gave, made again from the store: the same as was answered when it ended."""

from app.persistence.records import RunRecord, RunStatus, SessionStatus
from app.persistence.store import StateUnreadable, Store
from app.sessions.errors import ActionFailed, RunCancelled, RunFailed, SessionsError
from app.sessions.requests import RunOutcome

__all__ = ["PastRun", "outcome_of"]


class PastRun:
    """A run that has ended, to be asked like one that is under way."""

    def __init__(self, record: RunRecord, store: Store) -> None:
        self.id = record.id
        self._record = record
        self._store = store

    async def begun(self) -> None:
        """Return at once."""

    async def outcome(self) -> RunOutcome:
        """Raises ActionFailed, RunFailed, RunCancelled, StepNotFound if its history is trimmed."""
        return await outcome_of(self._store, self._record)


async def outcome_of(store: Store, run: RunRecord) -> RunOutcome:
    """Return how `run`, which has ended, ended. Raises what it ended with, and StateUnreadable."""
    seq = await _last_seq(store, run)
    if run.status is not RunStatus.FINISHED:
        raise _error_of(run, seq)
    step = await store.get_step(run.session_id, seq) if run.steps else None
    for key, value in step.unreadable.items() if step else ():
        raise StateUnreadable(run.session_id, key, value.type_name, value.reason, seq)
    next_action = step.next_action if step else None
    return RunOutcome(
        run.session_id,
        run.id,
        run.status,
        run.reason,
        run.steps,
        seq,
        step.action if step else None,
        step.result if step else None,
        await store.state_at(run.session_id, seq),
        SessionStatus.ENDED if next_action is None else SessionStatus.IDLE,
        next_action,
    )


async def _last_seq(store: Store, run: RunRecord) -> int:
    """The `seq` at which the session stood when the run ended: event ids grow with it."""
    # asked before the steps that follow: one that is taken in between is seen there, and does not count
    now = (await store.get_session(run.session_id)).seq
    following = await store.steps_after_event(run.session_id, run.finished_event_id or 0, limit=1)
    return following[0].seq - 1 if following else now


def _error_of(run: RunRecord, seq: int) -> SessionsError:
    error = run.error or {}
    if run.status is RunStatus.CANCELLED:
        return RunCancelled(run.session_id, run.id, run.reason or "", seq, run.steps)
    if error.get("type") == "step-failed":
        told = error["seq"], error["action"], error["error_type"], error["message"]
        return ActionFailed(run.session_id, run.id, *told, run.steps)
    return RunFailed(run.session_id, run.id, str(error.get("type", "unknown")), str(error.get("message", "")), run.steps)
