"""What the service hands to its store for a request of one step, made without the service."""

import time
from collections.abc import Mapping
from typing import Any

from app.engine.operations import Increment, Operation
from app.persistence.records import Commit, RunEnd, RunStart, RunStatus, SessionStatus, StepCommit
from app.sessions.ids import new_id

__all__ = ["one_step_run", "session_id"]

_COUNT: tuple[Operation, ...] = (Increment("n", 1),)


def session_id(number: int) -> str:
    """Return the id of a session, as long as those that the service gives out."""
    return f"01934f0e-7c1a-7000-8000-{number:012d}"


def one_step_run(
    number: int, seq: int, operations: tuple[Operation, ...] = _COUNT, state: Mapping[str, Any] | None = None
) -> Commit:
    """Return step `seq` of a session, with the run that begins and finishes there."""
    at_s, event_id, run_id = time.time(), 10 * seq + 10, new_id()
    now = {"n": seq} if state is None else state
    start = RunStart(run_id, event_id, at_s, {"max_steps": 1})
    return Commit(
        session_id=session_id(number),
        status=SessionStatus.IDLE,
        last_event_id=event_id + 3,
        run_start=start,
        step=StepCommit(seq, "count", operations, {"n": seq}, now, "count", at_s, at_s, event_id + 1, event_id + 2),
        run_end=RunEnd(run_id, RunStatus.FINISHED, event_id + 3, at_s, 1, "max_steps"),
        run_id=run_id,
        finished=start,
        is_whole_run=True,
    )
