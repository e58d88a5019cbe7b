"""Durable events, rebuilt from the rows that hold their ids. Reads the store and nothing else.

Streamed items and warnings are not stored: after they have left memory, the result in `step.finished` stands for them.
"""

from collections.abc import AsyncGenerator, Iterable

from app.engine.serde import as_shown
from app.persistence.records import FailureRecord, RunEnd, RunRecord, RunStart, StepKind, StepRecord
from app.persistence.store import SessionNotFound, Store
from app.sessions.errors import PositionTrimmed
from app.sessions.events import Event, EventType, StepDone, StepStarted, end_type

__all__ = ["replay"]

_PAGE = 100


async def replay(store: Store, session_id: str, after: int, through: int) -> AsyncGenerator[Event, None]:
    """Yield the stored events with `after < id <= through`, in order.

    Everything up to `through` must have been committed before the call: what is committed meanwhile may be seen in part.
    After 0 it is what is kept. Raises PositionTrimmed if what follows another `after` is not kept, or not any more when its turn
    comes.
    """
    trimmed = 0
    most_runs = _PAGE
    while after < through:
        runs = await store.list_runs(session_id, after_event_id=after, limit=most_runs)
        steps = await store.steps_after_event(session_id, after, limit=_PAGE)
        failures = await store.list_failures(session_id, after_event_id=after, limit=_PAGE)
        # asked after these reads: what was trimmed amid them is told from what never was
        known_trimmed, trimmed = trimmed, await _trimmed(store, session_id)
        if 0 < after < trimmed:
            raise PositionTrimmed(session_id, trimmed)
        if not after and trimmed > known_trimmed:
            continue
        known_to = through
        if len(runs) == most_runs:
            # one that ends later than all of these has started after them: runs of a session follow each other
            started = [run.started_event_id for run in runs if run.started_event_id > after]
            if not started:  # only runs that were cancelled while they waited: one that was under way then may be missing
                most_runs *= 2
                continue
            known_to = min(known_to, max(started))
        most_runs = _PAGE
        if len(steps) == _PAGE:
            known_to = min(known_to, steps[-1].event_id)
        if len(failures) == _PAGE:
            known_to = min(known_to, failures[-1].event_id)
        events = [*_of_runs(runs), *_of_steps(steps), *_of_failures(failures)]
        events.sort(key=lambda event: event.id)
        for event in events:
            if after < event.id <= known_to:
                yield event
        after = known_to


async def _trimmed(store: Store, session_id: str) -> int:
    """Return the id of the last event that is not kept; 0 if there is none, or no session any more: then it has ended."""
    try:
        return (await store.get_session(session_id)).trimmed_event_id
    except SessionNotFound:
        return 0


def _of_runs(runs: Iterable[RunRecord]) -> Iterable[Event]:
    for run in runs:
        start = RunStart(run.id, run.started_event_id, run.started_at_s, run.parameters)
        if run.started_event_id:  # one that was cancelled while it waited has never started
            yield Event(run.started_event_id, EventType.RUN_STARTED, run.id, start)
        if run.finished_event_id is not None and run.finished_at_s is not None:
            end = RunEnd(run.id, run.status, run.finished_event_id, run.finished_at_s, run.steps, run.reason, run.error)
            yield Event(run.finished_event_id, end_type(run.status), run.id, end)


def _of_steps(steps: Iterable[StepRecord]) -> Iterable[Event]:
    for step in steps:
        if step.kind is StepKind.ACTION:
            begun = StepStarted(step.seq, step.action)
            yield Event(step.first_event_id, EventType.STEP_STARTED, step.run_id, begun)
        operations, result = step.operations, step.result
        if step.unreadable:
            operations, result = as_shown(operations), as_shown(result)
        done = StepDone(
            step.seq,
            step.kind,
            step.action,
            operations,
            result,
            step.next_action,
            step.started_at_s,
            step.finished_at_s,
        )
        yield Event(step.event_id, EventType.STEP_FINISHED, step.run_id, done)


def _of_failures(failures: Iterable[FailureRecord]) -> Iterable[Event]:
    for failure in failures:
        begun = StepStarted(failure.seq, failure.action)
        yield Event(failure.first_event_id, EventType.STEP_STARTED, failure.run_id, begun)
        yield Event(failure.event_id, EventType.STEP_FAILED, failure.run_id, failure)
