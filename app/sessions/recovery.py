"""What a crash leaves behind: runs that the store has as running and that nobody runs."""

import logging
import time

from app.persistence.records import Commit, RunEnd, RunRecord, RunStatus, SessionStatus
from app.persistence.store import Store

__all__ = ["close_interrupted_runs"]

_PAGE = 100

logger = logging.getLogger(__name__)


async def close_interrupted_runs(store: Store) -> int:
    """End each unfinished run as failed with the error `interrupted`; return how many. Their committed steps stand."""
    closed = 0
    while runs := await store.unfinished_runs(_PAGE):
        for run in runs:
            await store.commit(await _end_of(store, run))
            closed += 1
    if closed:
        logger.warning("runs were interrupted by the end of the service and are closed as failed", extra={"runs": closed})
    return closed


async def _end_of(store: Store, run: RunRecord) -> Commit:
    session = await store.get_session(run.session_id)
    now_s = time.time()
    event_id = max(session.last_event_id + 1, int(now_s * 1e6))
    error = {"type": "interrupted", "message": "the service ended before the run did"}
    steps = await _count_steps(store, run)
    end = RunEnd(run.id, RunStatus.FAILED, event_id, now_s, steps, error=error)
    return Commit(run.session_id, SessionStatus.FAILED, event_id, run_end=end, run_id=run.id)


async def _count_steps(store: Store, run: RunRecord) -> int:
    count, after = 0, run.started_event_id
    while page := await store.steps_after_event(run.session_id, after, _PAGE):
        count += sum(step.run_id == run.id for step in page)
        after = page[-1].event_id
    return count
