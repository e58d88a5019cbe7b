"""The rows that a wave writes, as tuples in the order in which the writers' SQL names their columns."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, TypeAlias

from app.engine.serde import encode
from app.persistence.codec import pack
from app.persistence.ended_runs import run_key
from app.persistence.records import (
    FailureRecord,
    Key,
    NewSession,
    RunEnd,
    RunStart,
    RunStatus,
    SessionDetails,
    SessionStatus,
    StepCommit,
)
from app.persistence.snapshots import threshold_after

__all__ = [
    "DETAIL_COLUMNS",
    "END_COLUMNS",
    "FAILURE_COLUMNS",
    "KEY_COLUMNS",
    "MOVE_COLUMNS",
    "NEW_SESSION_COLUMNS",
    "RUN_END_COLUMNS",
    "RUN_KEY",
    "RUN_START_COLUMNS",
    "STEP_COLUMNS",
    "Row",
    "details_row",
    "ended_run_row",
    "failure_row",
    "key_row",
    "label_of",
    "labels_of",
    "new_session_row",
    "run_end_row",
    "run_start_row",
    "step_row",
]

Row: TypeAlias = tuple[Any, ...]

_ONE_STEP = {"max_steps": 1}  # by far the most frequent parameters of a run
_PACKED_ONE_STEP = pack(_ONE_STEP)

NEW_SESSION_COLUMNS = (
    "id",
    "machine",
    "machine_version",
    "partition_key",
    "metadata",
    "status",
    "seq",
    "prior_action",
    "next_action",
    "created_at",
    "parent_session_id",
    "parent_seq",
    "last_event_id",
    "snapshot_at",
    "claimed_by",
    "ttl_s",
    "expires_at",
    "state",
)
MOVE_COLUMNS = (
    "id",
    "expected_seq",
    "seq",
    "status",
    "prior_action",
    "next_action",
    "updated_at",
    "last_event_id",
    "log_bytes",
    "snapshot_seq",
    "snapshot_at",
    "key",
    "claim_no",
)
STEP_COLUMNS = (
    "seq",
    "kind",
    "run_id",
    "ended_run",
    "action",
    "next_action",
    "started_at",
    "finished_at",
    "first_event_id",
    "event_id",
    "payload",
)
FAILURE_COLUMNS = ("event_id", "first_event_id", "seq", "run_id", "action", "started_at", "finished_at", "error")
_END_COLUMNS = ("status", "finished_at", "steps", "reason", "error", "finished_event_id")
RUN_START_COLUMNS = ("id", "started_event_id", "started_at", "parameters", "webhook", "webhook_at", *_END_COLUMNS)
RUN_KEY = "run_key"  # behind them in a row, and in no column: the start of a run that is stored in its last step comes too late
RUN_END_COLUMNS = ("id", *_END_COLUMNS)
END_COLUMNS = ("id", RUN_KEY, "finished_event_id")
DETAIL_COLUMNS = ("metadata", "partition_key", "ttl_s", "expires_at")
KEY_COLUMNS = ("digest", "request", "run_id", "answer", "created_at")


def new_session_row(new: NewSession, state: bytes, claimed_by: str | None) -> Row:
    status = SessionStatus.ENDED if new.next_action is None else SessionStatus.IDLE
    return (
        new.id,
        new.machine,
        new.machine_version,
        new.partition_key,
        pack(encode(dict(new.metadata))),
        status.value,
        new.seq,
        new.prior_action,
        new.next_action,
        new.created_at_s,
        new.parent_session_id,
        new.parent_seq,
        new.event_id,
        threshold_after(len(state)),
        claimed_by,
        new.ttl_s,
        None if new.ttl_s is None else new.created_at_s + new.ttl_s,
        state,
    )


def label_of(name: str, value: str) -> bytes:
    """Return the digest under which a session with this metadata is found."""
    return blake2b(f"{name}\0{value}".encode(), digest_size=16).digest()


def labels_of(metadata: Mapping[str, Any]) -> list[bytes]:
    return [label_of(name, value) for name, value in metadata.items() if isinstance(value, str)]


def step_row(step: StepCommit, run_id: str | None, payload: bytes, *, ends_run: bool) -> Row:
    return (
        step.seq,
        step.kind._value_,  # `value` costs as much as the rest of the row
        None if ends_run else run_id,
        run_key(run_id) if ends_run and run_id is not None else None,
        step.action,
        step.next_action,
        step.started_at_s,
        step.finished_at_s,
        step.first_event_id,
        step.event_id,
        payload,
    )


def details_row(details: SessionDetails, changed_at_s: float) -> Row:
    expires_at_s = None if details.ttl_s is None else changed_at_s + details.ttl_s
    return (pack(encode(dict(details.metadata))), details.partition_key, details.ttl_s, expires_at_s)


def failure_row(failure: FailureRecord, run_id: str | None) -> Row:
    return (
        failure.event_id,
        failure.first_event_id,
        failure.seq,
        failure.run_id or run_id,
        failure.action,
        failure.started_at_s,
        failure.finished_at_s,
        pack(encode([failure.error_type, failure.message, failure.traceback])),
    )


def run_start_row(start: RunStart, end: RunEnd | None) -> Row:
    """Return the row of a run that begins, and ends too if `end` is given."""
    ended = (RunStatus.RUNNING.value, None, 0, None, None, None) if end is None else _end_values(end)
    webhook = None if start.webhook is None else pack(encode(dict(start.webhook)))
    due_at_s = None if webhook is None else start.started_at_s
    parameters = _PACKED_ONE_STEP if start.parameters == _ONE_STEP else pack(encode(dict(start.parameters)))
    return (start.run_id, start.event_id, start.started_at_s, parameters, webhook, due_at_s, *ended, run_key(start.run_id))


def key_row(key: Key, run_id: str | None) -> Row:
    answer = None if key.answer is None else pack(encode(dict(key.answer)))
    return (key.digest, key.request, run_id, answer, key.created_at_s)


def ended_run_row(started: Row, ended: Row) -> Row:
    """Return the row of a run of which the beginning and the end were two commits."""
    return (*started[: -len(_END_COLUMNS) - 1], *ended[1:], started[-1])


def run_end_row(end: RunEnd) -> Row:
    return (end.run_id, *_end_values(end))


def _end_values(end: RunEnd) -> Row:
    error = pack(encode(dict(end.error))) if end.error is not None else None
    return (end.status._value_, end.finished_at_s, end.steps, end.reason, error, end.event_id)
