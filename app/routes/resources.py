"""Sessions, runs and steps as clients see them: plain dicts, ready to be written as JSON text."""

from collections.abc import Mapping
from typing import Any

from app.engine.state import values_of
from app.persistence.records import (
    Delivery,
    LoadedSession,
    RunRecord,
    RunStatus,
    SessionRecord,
    SessionStatus,
    StepKind,
    StepRecord,
)
from app.sessions.events import describe_operation
from app.sessions.requests import RunOutcome
from app.sessions.times import rfc3339
from app.sessions.webhook_messages import shown_url

__all__ = ["run_answer", "run_resource", "session_resource", "session_with_state", "step_answer", "step_resource"]


def session_resource(record: SessionRecord) -> dict[str, Any]:
    """Return a session without its state."""
    return {
        "id": record.id,
        "machine": record.machine,
        "machine_version": record.machine_version,
        "partition_key": record.partition_key,
        "metadata": dict(record.metadata),
        "status": record.status.value,
        "seq": record.seq,
        "prior_action": record.prior_action,
        "next_action": record.next_action,
        "created_at": rfc3339(record.created_at_s),
        "updated_at": rfc3339(record.updated_at_s),
        "parent_session_id": record.parent_session_id,
        "parent_seq": record.parent_seq,
        "ttl_s": record.ttl_s,
        "expires_at": _expires_at(record),
    }


def _expires_at(record: SessionRecord) -> str | None:
    expires_at_s = None if record.status is SessionStatus.RUNNING else record.expires_at_s
    return None if expires_at_s is None else rfc3339(expires_at_s)


def _values(state: Mapping[str, Any]) -> dict[str, Any]:
    return dict(values_of(state))


def session_with_state(loaded: LoadedSession) -> dict[str, Any]:
    """Return a session as `session_resource` does, with its state; of what cannot be read of it only the keys and the classes."""
    if not loaded.unreadable:
        return {**session_resource(loaded.record), "state": loaded.state}
    readable = {key: value for key, value in loaded.state.items() if key not in loaded.unreadable}
    unreadable = {key: value.type_name for key, value in loaded.unreadable.items()}
    return {**session_resource(loaded.record), "state": readable, "unreadable": unreadable}


def step_answer(outcome: RunOutcome, *, with_state: bool) -> dict[str, Any]:
    """Return what a step gives: where the session stands after it, and the action's result."""
    answer: dict[str, Any] = {
        "session_id": outcome.session_id,
        "run_id": outcome.run_id,
        "seq": outcome.seq,
        "action": outcome.action,
        "result": outcome.result,
        "status": outcome.session_status.value,
        "next_action": outcome.next_action,
    }
    if with_state:
        answer["state"] = _values(outcome.state)
    return answer


def run_answer(outcome: RunOutcome, *, with_state: bool) -> dict[str, Any]:
    """Return what a run gives: the same as its last step, why it ended, and how many steps it took."""
    return {**step_answer(outcome, with_state=with_state), "reason": outcome.reason, "steps": outcome.steps}


def step_resource(step: StepRecord) -> dict[str, Any]:
    """Return a step of the past, with what it did to the state."""
    return {
        "session_id": step.session_id,
        "seq": step.seq,
        "kind": step.kind.value,
        "run_id": step.run_id,
        "action": step.action if step.kind is StepKind.ACTION else None,
        "result": step.result,
        "operations": [describe_operation(each) for each in step.operations],
        "next_action": step.next_action,
        "started_at": rfc3339(step.started_at_s),
        "finished_at": rfc3339(step.finished_at_s),
    }


def run_resource(run: RunRecord) -> dict[str, Any]:
    """Return a run, under way or past."""
    return {
        "id": run.id,
        "session_id": run.session_id,
        "status": run.status.value,
        "reason": run.reason,
        "error": None if run.error is None else dict(run.error),
        "steps": run.steps,
        "parameters": dict(run.parameters),
        "started_at": None if run.status is RunStatus.QUEUED else rfc3339(run.started_at_s),
        "finished_at": None if run.finished_at_s is None else rfc3339(run.finished_at_s),
        "webhook": None if run.webhook is None else _delivery(run.webhook, is_over=run.finished_at_s is not None),
    }


def _delivery(delivery: Delivery, *, is_over: bool) -> dict[str, Any]:
    if not is_over:
        status = "waiting"
    elif delivery.due_at_s is not None:
        status = "pending"
    else:
        status = "delivered" if delivery.is_delivered else "failed"
    next_at_s = delivery.due_at_s if status == "pending" else None
    return {
        "url": shown_url(delivery.url),
        "status": status,
        "attempts": delivery.attempts,
        "last_at": None if delivery.last_at_s is None else rfc3339(delivery.last_at_s),
        "last_answer": delivery.answer,
        "next_at": None if next_at_s is None else rfc3339(next_at_s),
    }
