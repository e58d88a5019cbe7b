"""What goes into a store and comes out of it: frozen values, no rows, no SQL.

Times are Unix seconds (float, UTC). Event ids are integers that grow within a session. `seq` counts the steps of a session
from 0; a session without a step has `seq` -1. JSON-able mappings only in `metadata`, `parameters` and `error`;
state values and results may be anything that `app.engine.serde` can write.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from app.engine.frozen import frozen
from app.engine.operations import StoredOperation
from app.engine.serde import UnreadableValue

__all__ = [
    "Commit",
    "Delivery",
    "EncodedStep",
    "FailureRecord",
    "History",
    "Key",
    "KeyRecord",
    "LoadedSession",
    "NewSession",
    "RunEnd",
    "RunRecord",
    "RunStart",
    "RunStatus",
    "SessionDetails",
    "SessionFilter",
    "SessionPage",
    "SessionRecord",
    "SessionStatus",
    "StepCommit",
    "StepKind",
    "StepRecord",
    "Undelivered",
]


class SessionStatus(StrEnum):
    """What a session can do next. `running` is known to the replica that runs it and is never stored."""

    IDLE = "idle"  # has a next action and waits for a request
    RUNNING = "running"
    ENDED = "ended"  # no transition leads on
    FAILED = "failed"  # its last run failed; it may be run again


class RunStatus(StrEnum):
    QUEUED = "queued"  # accepted, and not begun yet
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepKind(StrEnum):
    ACTION = "action"
    EDIT = "edit"  # a person changed the state by PATCH
    ROLLBACK = "rollback"  # a run was taken back: the session stands where that run began
    FORK = "fork"  # reserved


@frozen
class Key:
    """What makes a request the same one when it comes again: `digest` of where it goes and its key, `request` of what it asks.

    `answer` is kept if no run stands for it.
    """

    digest: bytes
    request: bytes
    created_at_s: float
    answer: Mapping[str, Any] | None = None


@frozen
class KeyRecord:
    """A key that was used: the answer to its request is `answer`, or what the run gave.

    `is_partial` says that some of the answer cannot be read back: it holds an UnreadableValue there.
    """

    request: bytes
    run_id: str | None
    answer: Mapping[str, Any] | None
    is_partial: bool = False


@frozen
class NewSession:
    """A session to create. `seq` and `prior_action` differ from -1 and None only for a fork.

    `state` becomes the snapshot at `seq`; steps before it are not there. With `is_claimed` it belongs to this replica at once.
    It expires when nothing has happened in it for `ttl_s` seconds; None: never.
    """

    id: str
    machine: str
    machine_version: str
    state: Mapping[str, Any]
    next_action: str | None
    created_at_s: float
    event_id: int
    partition_key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    seq: int = -1
    prior_action: str | None = None
    parent_session_id: str | None = None
    parent_seq: int | None = None
    key: Key | None = None
    is_claimed: bool = False
    ttl_s: float | None = None


@frozen
class SessionRecord:
    """A session without its state."""

    id: str
    machine: str
    machine_version: str
    partition_key: str | None
    metadata: Mapping[str, Any]
    status: SessionStatus
    seq: int
    prior_action: str | None
    next_action: str | None
    created_at_s: float
    updated_at_s: float
    parent_session_id: str | None
    parent_seq: int | None
    last_event_id: int
    has_run: bool = False  # a run of it has begun and has not ended
    ttl_s: float | None = None
    trimmed_event_id: int = 0  # what happened up to there is not known any more
    claim_no: int = 0  # how often it was claimed until it was read

    @property
    def expires_at_s(self) -> float | None:
        """When it expires, if nothing happens in it until then."""
        return None if self.ttl_s is None else self.updated_at_s + self.ttl_s


@frozen
class LoadedSession:
    """A session with its state as of `record.seq`.

    `unreadable` names the keys whose values cannot be read back: in `state` each of them is an UnreadableValue, or holds one.
    """

    record: SessionRecord
    state: dict[str, Any]
    unreadable: Mapping[str, UnreadableValue] = field(default_factory=dict)


@frozen
class RunStart:
    """A run that begins. `parameters` is what the client asked for (inputs, halts, limits).

    `webhook` holds the `url` that is told of its end, and perhaps a `secret`.
    """

    run_id: str
    event_id: int
    started_at_s: float
    parameters: Mapping[str, Any]
    key: Key | None = None
    webhook: Mapping[str, Any] | None = None


@frozen
class EncodedStep:
    """The values of a step as they are stored, a blob that is not deflated yet. A run that ends with it is still to be added."""

    blob: bytes = field(repr=False)
    has_references: bool


@frozen
class StepCommit:
    """Step `seq` of a session; valid only if the session stands at `seq - 1`.

    `state` is the whole state after the step: the store reads it only when it decides to write a snapshot.
    `first_event_id` is the id of its `step.started`, `event_id` that of its `step.finished`. Of a step that is no action's,
    `action` is the one that the session then stands after; empty for none. `encoded` is what `operations` and `result` are as
    text; without it the store makes it, and refuses the commit if it cannot.
    """

    seq: int
    action: str
    operations: tuple[StoredOperation, ...]
    result: Any
    state: Mapping[str, Any]
    next_action: str | None
    started_at_s: float
    finished_at_s: float
    first_event_id: int
    event_id: int
    kind: StepKind = StepKind.ACTION
    encoded: EncodedStep | None = field(default=None, repr=False)


@frozen
class FailureRecord:
    """An attempt at step `seq` that raised. `traceback` holds frames and lines of code, never values."""

    seq: int
    action: str
    error_type: str
    message: str
    traceback: str
    started_at_s: float
    finished_at_s: float
    first_event_id: int
    event_id: int
    run_id: str | None = None


@frozen
class RunEnd:
    """How a run ended: `reason` for a finished one, `error` (a problem as a mapping) for a failed one."""

    run_id: str
    status: RunStatus
    event_id: int
    finished_at_s: float
    steps: int
    reason: str | None = None
    error: Mapping[str, Any] | None = None


@frozen
class SessionDetails:
    """What of a session is no state, and may be changed by hand."""

    metadata: Mapping[str, Any]
    partition_key: str | None
    ttl_s: float | None


@frozen
class Commit:
    """What changes for one session at one moment: all of it is stored, or nothing.

    It is refused if the session was claimed again after the claim `claim_no`, or if it does not stand where the step begins or,
    without a step, at `after_seq`. None stands for any claim, and for anywhere.
    """

    session_id: str
    status: SessionStatus
    last_event_id: int
    run_start: RunStart | None = None
    step: StepCommit | None = None
    failure: FailureRecord | None = None
    run_end: RunEnd | None = None
    run_id: str | None = None  # the run that the step or the failure belongs to
    finished: RunStart | None = None  # the run that finishes with this step, if nothing is to be known of it but that
    is_whole_run: bool = False  # nothing of that run can be stored yet
    details: SessionDetails | None = None  # as they are from now on; only together with a step
    claim_no: int | None = None
    after_seq: int | None = None


@frozen
class StepRecord:
    """A committed step as history shows it, with the operations that it stored.

    `unreadable` is what cannot be read back of it, by the keys of the state, and under `result` if it is in the result alone.
    """

    session_id: str
    seq: int
    kind: StepKind
    run_id: str | None
    action: str
    operations: tuple[StoredOperation, ...]
    result: Any
    next_action: str | None
    started_at_s: float
    finished_at_s: float
    first_event_id: int
    event_id: int
    unreadable: Mapping[str, UnreadableValue] = field(default_factory=dict)


@frozen
class Delivery:
    """How far the news of a run's end has got to `url`.

    `due_at_s` is None when nothing more is to be tried. `answer` is what the last attempt got: the status of a response, or what
    kept it from getting one.
    """

    url: str
    due_at_s: float | None = None
    attempts: int = 0
    last_at_s: float | None = None
    answer: str | None = None
    is_delivered: bool = False


@frozen
class RunRecord:
    """A run. One that is queued has the event id 0; `attempts` counts how often it was taken up after its replica died."""

    id: str
    session_id: str
    status: RunStatus
    parameters: Mapping[str, Any]
    started_at_s: float
    finished_at_s: float | None
    steps: int
    reason: str | None
    error: Mapping[str, Any] | None
    started_event_id: int
    finished_event_id: int | None
    attempts: int = 0
    webhook: Delivery | None = None


@frozen
class Undelivered:
    """A run that has ended, of which `delivery` is to be told; `secret` is the one that the run's client gave."""

    run: RunRecord
    delivery: Delivery
    secret: str | None = field(repr=False)


@frozen
class History:
    """How far the history of a session goes back: its first step is `base_seq` + 1, and ended at `oldest_s`.

    `position` is where to go on with a walk over all sessions.
    """

    session_id: str
    machine: str
    position: int
    seq: int
    base_seq: int
    oldest_s: float | None


@frozen
class SessionFilter:
    """Which sessions a list shows; None means any. `metadata` matches by equality of each given key."""

    machine: str | None = None
    status: SessionStatus | None = None
    partition_key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@frozen
class SessionPage:
    """One page, newest first; `next_cursor` is None on the last one."""

    sessions: tuple[SessionRecord, ...]
    next_cursor: str | None
