"""One fact about a session, in order, as a value; and how it reads as data.

An event holds what the run had at hand anyway: its data is made only when somebody wants to see it. `app.sessions.replay`
makes the same values from the store, so that a fact reads the same live and later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias, assert_never

from app.engine.edits import Edit, Grow, Put, Remove, Splice
from app.engine.operations import Append, Delete, Extend, Increment, Patch, Set, StoredOperation
from app.persistence.records import FailureRecord, RunEnd, RunStart, RunStatus, StepKind
from app.sessions.times import rfc3339

__all__ = [
    "Body",
    "Event",
    "EventType",
    "ItemGiven",
    "StepDone",
    "StepStarted",
    "WarningGiven",
    "describe",
    "describe_operation",
    "end_type",
    "ends_run",
]


class EventType(StrEnum):
    RUN_STARTED = "run.started"
    STEP_STARTED = "step.started"
    STEP_ITEM = "step.item"
    STEP_FINISHED = "step.finished"
    STEP_FAILED = "step.failed"
    WARNING = "warning"
    RUN_FINISHED = "run.finished"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"


class StepStarted(NamedTuple):
    seq: int
    action: str


class ItemGiven(NamedTuple):
    seq: int
    action: str
    number: int
    item: Any


class StepDone(NamedTuple):
    seq: int
    kind: StepKind
    action: str
    operations: tuple[StoredOperation, ...]
    result: Any
    next_action: str | None
    started_at_s: float
    finished_at_s: float


class WarningGiven(NamedTuple):
    kind: str
    machine: str | None
    action: str | None
    message: str
    details: Mapping[str, Any]


Body: TypeAlias = RunStart | StepStarted | ItemGiven | StepDone | FailureRecord | WarningGiven | RunEnd


@dataclass(slots=True, eq=False)
class Event:
    """`id` grows within a session; `run_id` is None for what no run did. Never changed once made."""

    id: int
    type: EventType
    run_id: str | None
    body: Body


def end_type(status: RunStatus) -> EventType:
    """Return the type of the event that ends a run with `status`."""
    match status:
        case RunStatus.FINISHED:
            return EventType.RUN_FINISHED
        case RunStatus.FAILED:
            return EventType.RUN_FAILED
        case RunStatus.CANCELLED:
            return EventType.RUN_CANCELLED
        case RunStatus.QUEUED | RunStatus.RUNNING:
            raise ValueError("a run that goes on has no last event")
    assert_never(status)


def ends_run(event: Event, run_id: str) -> bool:
    """Whether `event` is the last one of the run."""
    return event.run_id == run_id and isinstance(event.body, RunEnd)


def describe(event: Event, session_id: str) -> dict[str, Any]:
    """Return the data of `event`: JSON-able but for the user's own values in `result`, `item` and `operations`."""
    data: dict[str, Any] = {"session_id": session_id, "run_id": event.run_id}
    match event.body:
        case RunStart() as start:
            data |= {"at": rfc3339(start.started_at_s), "parameters": dict(start.parameters)}
        case StepStarted() as begun:
            data |= {"seq": begun.seq, "action": begun.action}
        case ItemGiven() as given:
            data |= {"seq": given.seq, "action": given.action, "index": given.number, "item": given.item}
        case StepDone() as done:
            data |= {
                "seq": done.seq,
                "kind": done.kind.value,
                "action": done.action if done.kind is StepKind.ACTION else None,
                "result": done.result,
                "operations": [describe_operation(each) for each in done.operations],
                "next_action": done.next_action,
                "started_at": rfc3339(done.started_at_s),
                "finished_at": rfc3339(done.finished_at_s),
            }
        case FailureRecord() as failure:
            data |= {
                "seq": failure.seq,
                "action": failure.action,
                "error": {"type": failure.error_type, "message": failure.message},
                "started_at": rfc3339(failure.started_at_s),
                "finished_at": rfc3339(failure.finished_at_s),
            }
        case WarningGiven() as warning:
            data |= warning._asdict()
        case RunEnd() as end:
            data |= {"at": rfc3339(end.finished_at_s), "steps": end.steps, "reason": end.reason}
            if end.error is not None:
                data["error"] = dict(end.error)
        case _ as never:
            assert_never(never)
    return data


def describe_operation(operation: StoredOperation) -> dict[str, Any]:
    """Return `operation` as data: `op`, `key`, and what it needs."""
    match operation:
        case Set(key, value):
            return {"op": "set", "key": key, "value": value}
        case Append(key, value):
            return {"op": "append", "key": key, "value": value}
        case Extend(key, items):
            return {"op": "extend", "key": key, "items": list(items)}
        case Increment(key, by):
            return {"op": "increment", "key": key, "by": by}
        case Delete(key):
            return {"op": "delete", "key": key}
        case Patch(key, edits):
            return {"op": "patch", "key": key, "edits": [_describe_edit(edit) for edit in edits]}
    assert_never(operation)


def _describe_edit(edit: Edit) -> dict[str, Any]:
    path = list(edit.path)
    match edit:
        case Put(_, value):
            return {"op": "put", "path": path, "value": value}
        case Remove():
            return {"op": "remove", "path": path}
        case Splice(_, index, removed, items):
            return {"op": "splice", "path": path, "index": index, "removed": removed, "items": list(items)}
        case Grow(_, text):
            return {"op": "grow", "path": path, "text": text}
    assert_never(edit)
