"""The SELECTs, built once; SQLAlchemy keeps them compiled. They read the same on SQLite and PostgreSQL."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.sql.dml import Delete

from app.persistence.records import RunStatus, SessionFilter, SessionStatus
from app.persistence.tables import failures, keys, labels, runs, sessions, snapshots, steps
from app.persistence.wave_rows import label_of

__all__ = [
    "CHILDREN",
    "DELETE_SESSION",
    "FAILURES",
    "KEY",
    "NEAREST_SNAPSHOT",
    "PAYLOADS",
    "RUN",
    "RUNS",
    "SESSION",
    "SESSION_WITH_SNAPSHOT",
    "STEP",
    "STEPS",
    "STEPS_AFTER_EVENT",
    "UNFINISHED_RUNS",
    "UNFINISHED_RUNS_OF",
    "label_count",
    "sessions_page",
]

_key = select(sessions.c.key).where(sessions.c.id == bindparam("session_id")).scalar_subquery()

_has_run = (
    exists()
    .where(runs.c.session_key == sessions.c.key, runs.c.finished_event_id.is_(None), runs.c.status == RunStatus.RUNNING.value)
    .label("has_run")
)
_running = select(runs.c.session_key).where(runs.c.finished_at.is_(None), runs.c.status == RunStatus.RUNNING.value)

SESSION = select(sessions, _has_run).where(sessions.c.id == bindparam("session_id"))
SESSION_WITH_SNAPSHOT = (
    select(sessions, _has_run, snapshots.c.state)
    .join_from(
        sessions,
        snapshots,
        (snapshots.c.session_key == sessions.c.key) & (snapshots.c.seq == sessions.c.snapshot_seq),
        isouter=True,
    )
    .where(sessions.c.id == bindparam("session_id"))
)
NEAREST_SNAPSHOT = (
    select(snapshots.c.seq, snapshots.c.state)
    .where(snapshots.c.session_key == bindparam("key"), snapshots.c.seq <= bindparam("seq"))
    .order_by(snapshots.c.seq.desc())
    .limit(1)
)
PAYLOADS = (
    select(steps.c.payload)
    .where(steps.c.session_key == bindparam("key"), steps.c.seq > bindparam("after_seq"), steps.c.seq <= bindparam("seq"))
    .order_by(steps.c.seq)
)
STEPS = (
    select(steps)
    .where(steps.c.session_key == _key, steps.c.seq > bindparam("after_seq"), steps.c.seq < bindparam("before_seq"))
    .order_by(steps.c.seq)
    .limit(bindparam("limit"))
)
STEP = select(steps).where(steps.c.session_key == _key, steps.c.seq == bindparam("seq"))

# Event ids grow with seq, so the first step after an event is found by halving, on the index that is there anyway.
# `high` is the oldest seq known to come after the event (or the one after the last).
_first_after_event = text("""
    WITH RECURSIVE halves (key, low, high) AS (
        SELECT key, base_seq, seq + 1 FROM sessions WHERE id = :session_id
        UNION ALL
        SELECT h.key,
            CASE WHEN s.event_id > :after_event_id THEN h.low ELSE (h.low + h.high) / 2 END,
            CASE WHEN s.event_id > :after_event_id THEN (h.low + h.high) / 2 ELSE h.high END
        FROM halves AS h LEFT JOIN steps AS s ON s.session_key = h.key AND s.seq = (h.low + h.high) / 2
        WHERE h.high - h.low > 1
    )
    SELECT high FROM halves WHERE high - low <= 1
""").columns(literal_column("high"))
STEPS_AFTER_EVENT = (
    select(steps)
    .where(steps.c.session_key == _key, steps.c.seq >= _first_after_event.scalar_subquery())
    .order_by(steps.c.seq)
    .limit(bindparam("limit"))
)

FAILURES = (
    select(failures)
    .where(failures.c.session_key == _key, failures.c.event_id > bindparam("after_event_id"))
    .order_by(failures.c.event_id)
    .limit(bindparam("limit"))
)

_run = select(runs, sessions.c.id.label("session_id")).join_from(runs, sessions, sessions.c.key == runs.c.session_key)
RUN = _run.where(runs.c.id == bindparam("run_id"))
UNFINISHED_RUNS_OF = _run.where(runs.c.session_key == _key, runs.c.finished_event_id.is_(None)).order_by(runs.c.started_at)
UNFINISHED_RUNS = _run.where(runs.c.finished_at.is_(None)).order_by(runs.c.started_at, runs.c.id).limit(bindparam("limit"))


def _chosen_runs(*conditions: Any) -> Select[Any]:
    chosen = select(runs.c.id).where(runs.c.session_key == _key, *conditions)
    return select(chosen.order_by(runs.c.finished_event_id).limit(bindparam("limit")).subquery())


# two ranges of one index: runs that ended after the event, and those that have not ended (started after it or not, they are few)
_ended_after = _chosen_runs(runs.c.finished_event_id > bindparam("after_event_id"))
_started_after = _chosen_runs(runs.c.finished_event_id.is_(None), runs.c.started_event_id > bindparam("after_event_id"))
RUNS = (
    _run.where(runs.c.id.in_(union_all(_ended_after, _started_after))).order_by(runs.c.started_event_id).limit(bindparam("limit"))
)

KEY = select(keys).where(keys.c.digest == bindparam("digest"))

DELETE_SESSION = delete(sessions).where(sessions.c.id == bindparam("session_id")).returning(sessions.c.key)
CHILDREN: tuple[Delete, ...] = tuple(
    delete(table).where(table.c.session_key == bindparam("key")) for table in (steps, snapshots, failures, runs, labels, keys)
)


def sessions_page(which: SessionFilter, before: int | None, limit: int) -> Select[Any]:
    """Return the statement for one page, newest first. Every filter alone is served by an index in that order.

    With labels it is the first of them whose index is walked: it should be the rarest.
    """
    statement = select(sessions, _has_run).limit(limit)
    position: ColumnElement[int] = sessions.c.key
    for place, (name, value) in enumerate(which.metadata.items()):
        label = labels.alias()
        statement = statement.join(label, (label.c.session_key == sessions.c.key) & (label.c.label == label_of(name, value)))
        position = label.c.session_key if place == 0 else position
    conditions: Mapping[Any, Any] = {
        sessions.c.machine: which.machine,
        sessions.c.status: None if which.status in (None, SessionStatus.RUNNING) else which.status.value,
        sessions.c.partition_key: which.partition_key,
    }
    if which.status is SessionStatus.RUNNING:
        statement = statement.where(sessions.c.key.in_(_running))
    return statement.order_by(position.desc()).where(
        position < before if before is not None else true(),
        *(column == value for column, value in conditions.items() if value is not None),
    )


def label_count(name: str, value: str, most: int) -> Select[Any]:
    """Return the statement that counts the sessions with a label, up to `most`."""
    some = select(labels.c.session_key).where(labels.c.label == label_of(name, value)).limit(most).subquery()
    return select(func.count()).select_from(some)
