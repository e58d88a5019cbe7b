"""From rows to records: the only place that knows both. Rows are taken by the names of their columns."""

from collections.abc import Mapping
from typing import Any

from app.engine.serde import decode_hosted
from app.persistence.codec import Unreadable, decode_payload, unpack
from app.persistence.ended_runs import run_id_of
from app.persistence.records import (
    Delivery,
    FailureRecord,
    RunRecord,
    RunStatus,
    SessionRecord,
    SessionStatus,
    StepKind,
    StepRecord,
)
from app.persistence.replaying import unreadable_of_step

__all__ = ["failure_record", "run_record", "session_record", "step_record"]


def session_record(row: Any) -> SessionRecord:
    return SessionRecord(
        id=row.id,
        machine=row.machine,
        machine_version=row.machine_version,
        partition_key=row.partition_key,
        metadata=decode_hosted(unpack(row.metadata)),
        status=SessionStatus(row.status),
        seq=row.seq,
        prior_action=row.prior_action or None,  # a column that is only ever set to something holds "" for none
        next_action=row.next_action,
        created_at_s=row.created_at,
        updated_at_s=row.updated_at,
        parent_session_id=row.parent_session_id,
        parent_seq=row.parent_seq,
        last_event_id=row.last_event_id,
        has_run=bool(row.has_run),
        ttl_s=row.ttl_s,
        trimmed_event_id=row.trimmed_event_id,
        claim_no=row.claim_no,
    )


def step_record(session_id: str, row: Any, state: Mapping[str, Any] | None = None) -> StepRecord:
    """`state` is the one after the step, as documents, if the payload refers to it."""
    unreadable: Unreadable = []
    operations, result = decode_payload(row.payload, unreadable, state)
    return StepRecord(
        session_id=session_id,
        seq=row.seq,
        kind=StepKind(row.kind),
        run_id=row.run_id if row.ended_run is None else run_id_of(row.ended_run),
        action=row.action,
        operations=operations,
        result=result,
        next_action=row.next_action,
        started_at_s=row.started_at,
        finished_at_s=row.finished_at,
        first_event_id=row.first_event_id,
        event_id=row.event_id,
        unreadable=unreadable_of_step(operations, result) if unreadable else {},
    )


def failure_record(row: Any) -> FailureRecord:
    error_type, message, traceback = decode_hosted(unpack(row.error))
    return FailureRecord(
        seq=row.seq,
        action=row.action,
        error_type=error_type,
        message=message,
        traceback=traceback,
        started_at_s=row.started_at,
        finished_at_s=row.finished_at,
        first_event_id=row.first_event_id,
        event_id=row.event_id,
        run_id=row.run_id,
    )


def run_record(row: Any) -> RunRecord:
    return RunRecord(
        id=row.id,
        session_id=row.session_id,
        status=RunStatus(row.status),
        parameters=decode_hosted(unpack(row.parameters)),
        started_at_s=row.started_at,
        finished_at_s=row.finished_at,
        steps=row.steps,
        reason=row.reason,
        error=None if row.error is None else decode_hosted(unpack(row.error)),
        started_event_id=row.started_event_id,
        finished_event_id=row.finished_event_id,
        attempts=row.attempts,
        webhook=None if row.webhook is None else _delivery(row),
    )


def _delivery(row: Any) -> Delivery:
    url = decode_hosted(unpack(row.webhook))["url"]
    so_far = {} if row.delivery is None else decode_hosted(unpack(row.delivery))
    return Delivery(url, row.webhook_at, **so_far)
