"""The SELECTs, built once; SQLAlchemy keeps them compiled. They read the same on SQLite and PostgreSQL."""

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Select,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.sql.dml import Delete
from sqlalchemy.sql.selectable import TextualSelect

from app.persistence.records import RunStatus, SessionFilter, SessionStatus
from app.persistence.tables import METADATA, failures, keys, labels, runs, sessions, snapshots, steps
from app.persistence.wave_rows import label_of

__all__ = [
    "CHILDREN",
    "DELETE_SESSION",
    "FAILURES",
    "HISTORIES",
    "IS_IT",
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
    "STEP_AFTER_TIME",
    "UNFINISHED_RUNS",
    "UNFINISHED_RUNS_OF",
    "label_count",
    "sessions_page",
]

_unfinished = runs.alias("unfinished")
# Every look at a session asks for this: one that has expired is gone, whenever its rows are deleted.
_is_there = or_(
    sessions.c.ttl_s.is_(None),
    sessions.c.updated_at + sessions.c.ttl_s > bindparam("now", callable_=time.time, type_=Double),
    exists().where(_unfinished.c.session_key == sessions.c.key, _unfinished.c.finished_event_id.is_(None)),
)
IS_IT = (sessions.c.id == bindparam("session_id")) & _is_there
_key = select(sessions.c.key).where(IS_IT).scalar_subquery()

_has_run = (
    exists()
    .where(runs.c.session_key == sessions.c.key, runs.c.finished_event_id.is_(None), runs.c.status == RunStatus.RUNNING.value)
    .label("has_run")
)
_running = select(runs.c.session_key).where(runs.c.finished_at.is_(None), runs.c.status == RunStatus.RUNNING.value)

SESSION = select(sessions, _has_run).where(IS_IT)
SESSION_WITH_SNAPSHOT = (
    select(sessions, _has_run, snapshots.c.state)
    .join_from(
        sessions,
        snapshots,
        (snapshots.c.session_key == sessions.c.key) & (snapshots.c.seq == sessions.c.snapshot_seq),
        isouter=True,
    )
    .where(IS_IT)
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


def _first_after(column: str) -> TextualSelect:
    """Return the select of the first seq of which `column`, which grows with seq, is above `:after`, by halving.

    It needs no other index than the one that is there anyway. `high` is the oldest seq known to come after (or the one after
    the last).
    """
    return text(f"""
    WITH RECURSIVE halves (key, low, high) AS (
        SELECT key, base_seq, seq + 1 FROM sessions WHERE id = :session_id
        UNION ALL
        SELECT h.key,
            CASE WHEN s.{column} > :after THEN h.low ELSE (h.low + h.high) / 2 END,
            CASE WHEN s.{column} > :after THEN (h.low + h.high) / 2 ELSE h.high END
        FROM halves AS h LEFT JOIN steps AS s ON s.session_key = h.key AND s.seq = (h.low + h.high) / 2
        WHERE h.high - h.low > 1
    )
    SELECT high FROM halves WHERE high - low <= 1
""").columns(literal_column("high"))  # noqa: S608  # a column of ours


STEPS_AFTER_EVENT = (
    select(steps)
    .where(steps.c.session_key == _key, steps.c.seq >= _first_after("event_id").scalar_subquery())
    .order_by(steps.c.seq)
    .limit(bindparam("limit"))
)

STEP_AFTER_TIME = _first_after("finished_at")

FAILURES = (
    select(failures)
    .where(failures.c.session_key == _key, failures.c.event_id > bindparam("after_event_id"))
    .order_by(failures.c.event_id)
    .limit(bindparam("limit"))
)

_run = select(runs, sessions.c.id.label("session_id")).join_from(runs, sessions, sessions.c.key == runs.c.session_key)
RUN = _run.where(runs.c.id == bindparam("run_id"), _is_there)
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

HISTORIES = (
    select(
        sessions.c.key,
        sessions.c.id,
        sessions.c.machine,
        sessions.c.seq,
        sessions.c.base_seq,
        steps.c.finished_at.label("oldest"),
    )
    .join_from(sessions, steps, (steps.c.session_key == sessions.c.key) & (steps.c.seq == sessions.c.base_seq + 1), isouter=True)
    .where(sessions.c.key > bindparam("after"))
    .order_by(sessions.c.key)
    .limit(bindparam("limit"))
)

KEY = select(keys).where(keys.c.digest == bindparam("digest"))

DELETE_SESSION = delete(sessions).where(IS_IT).returning(sessions.c.key)
# whatever points to a session goes with it, in tables that are yet to come as well
CHILDREN: tuple[Delete, ...] = tuple(
    delete(table).where(table.c.session_key.in_(bindparam("keys", expanding=True)))
    for table in METADATA.sorted_tables
    if "session_key" in table.c
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
        _is_there,
        *(column == value for column, value in conditions.items() if value is not None),
    )


def label_count(name: str, value: str, most: int) -> Select[Any]:
    """Return the statement that counts the sessions with a label, up to `most`."""
    some = select(labels.c.session_key).where(labels.c.label == label_of(name, value)).limit(most).subquery()
    return select(func.count()).select_from(some)
