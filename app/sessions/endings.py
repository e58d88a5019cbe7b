"""The end of a run that is in the store and that nobody runs: cancelled while it waited, or given up."""

import logging
from collections.abc import Mapping
from typing import Any

from app.persistence.records import RunRecord, RunStatus, SessionStatus
from app.persistence.store import Store, StoreError
from app.sessions.journal import Journal
from app.sessions.live import LiveSession
from app.sessions.phases import Phase
from app.sessions.readable import unreadable_error
from app.sessions.requests import RunOrder, RunRequest

__all__ = ["close_stored", "fail_unreadable"]

logger = logging.getLogger(__name__)


async def close_stored(
    store: Store,
    live: LiveSession,
    record: RunRecord,
    steps: int,
    status: RunStatus,
    reason: str | None,
    error: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Store and show the end of a run of `live`, after so many steps; return the run as it is then.

    Raises what the store raises: the session has to be read again then. Another run that is under way there goes on.
    """
    journal = Journal(RunOrder(record.id, RunRequest()), live, store)
    journal.resume(record, steps)
    if record.status is RunStatus.QUEUED:
        session_status = live.status  # it has done nothing to the session
    elif status is RunStatus.FAILED:
        session_status = SessionStatus.FAILED
    else:
        session_status = SessionStatus.ENDED if live.next_action is None else SessionStatus.IDLE

    async def stored_up_to() -> int:
        return (await store.get_session(live.id)).last_event_id

    try:
        await journal.close(status, session_status, reason, error)
    except StoreError:
        live.move(Phase.STALE)
        if journal.is_in_doubt:
            live.stream.doubt(stored_up_to)
        raise
    return journal.record() or record


async def fail_unreadable(store: Store, live: LiveSession, record: RunRecord, steps: int) -> None:
    """End a stored run of a session whose state cannot be read. Raises as `close_stored`."""
    error = unreadable_error(live.unreadable, live.id)
    names = {"run_id": record.id, "session_id": live.id, "machine": live.machine.name}
    logger.warning("a run ends because the state of its session cannot be read", extra={**names, "error": error["message"]})
    await close_stored(store, live, record, steps, RunStatus.FAILED, None, error)
