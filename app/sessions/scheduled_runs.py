"""Which schedule has begun a run, and what becomes of it when the run is given up."""

import logging
from collections.abc import Mapping
from typing import Any

from app.persistence.records import RunRecord
from app.persistence.schedules import ScheduleRecord
from app.persistence.store import Store
from app.sessions.requests import RunRequest

__all__ = ["pause_schedules_of", "session_for"]

_BEFORE_TIME = ":"

logger = logging.getLogger(__name__)


def session_for(schedule_id: str, time: str) -> str:
    """Return the id of the session that a schedule makes for a time."""
    return f"{schedule_id}{_BEFORE_TIME}{time}"


async def pause_schedules_of(store: Store, run: RunRecord, error: Mapping[str, Any]) -> None:
    """Pause the schedule that has begun `run`, which is given up: each further run of it would kill the process again.

    Schedules that begin an equal run on the same session count as well: which of them it was is not stored.
    Raises StoreUnavailable.
    """
    maker, _, _ = run.session_id.partition(_BEFORE_TIME)
    for schedule in await store.schedules.that_may_have_begun(run.id, run.session_id, maker):
        if not schedule.is_paused and _has_begun(schedule, run):
            await store.schedules.give_up(schedule.id, {**error, "run_id": run.id})
            names = {"schedule_id": schedule.id, "run_id": run.id, "session_id": run.session_id}
            logger.warning("a schedule is paused: the process died at each attempt of one of its runs", extra=names)


def _has_begun(schedule: ScheduleRecord, run: RunRecord) -> bool:
    if schedule.last_run_id == run.id:
        return True
    if schedule.session_id is None:
        return run.session_id.startswith(session_for(schedule.id, ""))
    return RunRequest.from_parameters(schedule.plan["run"]).parameters() == run.parameters
