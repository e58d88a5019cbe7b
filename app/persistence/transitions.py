"""What a commit does to the records of its session, in plain functions. The SQL stores say the same in SQL."""

from dataclasses import replace

from app.persistence.records import (
    Commit,
    Delivery,
    NewSession,
    RunEnd,
    RunRecord,
    RunStart,
    RunStatus,
    SessionDetails,
    SessionRecord,
    SessionStatus,
    StepKind,
)
from app.persistence.store import SessionNotFound
from app.persistence.texts import is_storable, require_key, require_name, require_storable

__all__ = [
    "after_commit",
    "check_commit",
    "check_new",
    "created",
    "ended_run",
    "has_expired",
    "started_run",
    "updated_at_s",
    "with_details",
]


def check_new(new: NewSession) -> None:
    """Raises TextUnstorable."""
    require_key("the session id", new.id)
    require_key("the machine's name", new.machine)
    require_key("the partition key", new.partition_key)
    require_storable("the machine's version", new.machine_version)
    require_storable("the parent's id", new.parent_session_id)
    require_storable("an action's name", [new.next_action, new.prior_action])
    require_storable("the metadata", new.metadata)


def check_details(details: SessionDetails) -> None:
    """Raises TextUnstorable."""
    require_key("the partition key", details.partition_key)
    require_storable("the metadata", details.metadata)


def check_commit(commit: Commit) -> None:
    """Raises TextUnstorable, SessionNotFound for an id that no session can have, ValueError for what no commit can be."""
    if commit.status is SessionStatus.RUNNING:
        raise ValueError("a session is not stored as running: give the status that it has when nobody runs it")
    if not is_storable(commit.session_id):
        raise SessionNotFound(commit.session_id)
    step, failure, start, end, run_id = commit.step, commit.failure, commit.run_start, commit.run_end, commit.run_id
    if commit.details is not None:
        check_details(commit.details)
    require_key("the run's id", run_id)
    if start is not None and start.run_id != run_id:
        require_key("the run's id", start.run_id)
    if end is not None:
        if end.run_id != run_id:
            require_key("the run's id", end.run_id)
        require_name(end.reason)
    if commit.finished is not None and (step is None or end is None or end.status is not RunStatus.FINISHED or end.error):
        raise ValueError("a run that is stored in its last step finishes with it, in the same commit")
    if step is not None:
        require_name(step.action)
        require_name(step.next_action)
    if failure is not None:
        require_key("the run's id", failure.run_id)
        require_name(failure.action)


def created(new: NewSession) -> SessionRecord:
    """Return the record of a session that has just been created."""
    return SessionRecord(
        id=new.id,
        machine=new.machine,
        machine_version=new.machine_version,
        partition_key=new.partition_key,
        metadata=dict(new.metadata),
        status=SessionStatus.IDLE if new.next_action is not None else SessionStatus.ENDED,
        seq=new.seq,
        prior_action=new.prior_action,
        next_action=new.next_action,
        created_at_s=new.created_at_s,
        updated_at_s=new.created_at_s,
        parent_session_id=new.parent_session_id,
        parent_seq=new.parent_seq,
        last_event_id=new.event_id,
        ttl_s=new.ttl_s,
    )


def updated_at_s(commit: Commit) -> float | None:
    """Return the time of the last thing in `commit`, None for an empty one."""
    if commit.run_end:
        return commit.run_end.finished_at_s
    if commit.failure:
        return commit.failure.finished_at_s
    if commit.step:
        return commit.step.finished_at_s
    return commit.run_start.started_at_s if commit.run_start else None


def after_commit(record: SessionRecord, commit: Commit) -> SessionRecord:
    """Return the session after `commit`. An edit moves `seq` and may change what is next, but no action ran."""
    after = replace(
        record,
        status=commit.status,
        last_event_id=max(record.last_event_id, commit.last_event_id),
        updated_at_s=max(record.updated_at_s, updated_at_s(commit) or 0.0),
    )
    if step := commit.step:
        prior = record.prior_action if step.kind is StepKind.EDIT else step.action or None
        after = replace(after, seq=step.seq, prior_action=prior, next_action=step.next_action)
    return after if commit.details is None else with_details(after, commit.details)


def with_details(record: SessionRecord, details: SessionDetails) -> SessionRecord:
    """Return the session with these `details`."""
    metadata, partition_key, ttl_s = dict(details.metadata), details.partition_key, details.ttl_s
    return replace(record, metadata=metadata, partition_key=partition_key, ttl_s=ttl_s)


def has_expired(record: SessionRecord, now_s: float) -> bool:
    """Whether nothing has happened in the session for its `ttl_s`. One with a run under way does not expire: ask before."""
    return record.ttl_s is not None and record.updated_at_s + record.ttl_s <= now_s


def started_run(session_id: str, start: RunStart) -> RunRecord:
    return RunRecord(
        id=start.run_id,
        session_id=session_id,
        status=RunStatus.RUNNING,
        parameters=dict(start.parameters),
        started_at_s=start.started_at_s,
        finished_at_s=None,
        steps=0,
        reason=None,
        error=None,
        started_event_id=start.event_id,
        finished_event_id=None,
        webhook=None if start.webhook is None else Delivery(start.webhook["url"], start.started_at_s),
    )


def ended_run(run: RunRecord, end: RunEnd) -> RunRecord:
    return replace(
        run,
        status=end.status,
        finished_at_s=end.finished_at_s,
        steps=end.steps,
        reason=end.reason,
        error=end.error,
        finished_event_id=end.event_id,
    )
