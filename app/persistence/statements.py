"""The SELECTs, built once; SQLAlchemy keeps them compiled. They read the same on SQLite and PostgreSQL."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Select,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.sql.dml import Delete
from sqlalchemy.sql.selectable import TextualSelect

from app.persistence.records import RunStatus, StepKind
from app.persistence.tables import METADATA, failures, keys, runs, sessions, snapshots, steps
from app.system.clocks import current_time_s

__all__ = [
    "CHILDREN",
    "DELETE_SESSION",
    "ENDED_RUN",
    "ENDED_RUNS",
    "FAILURES",
    "HAS_RUN",
    "HISTORIES",
    "IS_IT",
    "IS_THERE",
    "KEY",
    "NEAREST_SNAPSHOT",
    "PAYLOADS",
    "PROGRESS_OF_RUN",
    "RUN",
    "RUNNING_RUNS",
    "RUNNING_RUNS_OF_REPLICA",
    "RUNS",
    "SESSION",
    "SESSION_WITH_SNAPSHOT",
    "STEP",
    "STEPS",
    "STEPS_AFTER_EVENT",
    "STEP_AFTER_TIME",
    "UNFINISHED_RUNS",
    "UNFINISHED_RUNS_OF",
    "is_running",
    "some",
]

_unfinished = runs.alias("unfinished")


def is_running(run: FromClause) -> ColumnElement[bool]:
    """Whether a run is under way. The index of those is only used for a literal."""
    return run.c.status == literal_column(f"'{RunStatus.RUNNING.value}'")


def some(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """EXISTS, but looked up for each row: a planner never reads a whole table for a scalar subquery, or joins it."""
    return select(literal_column("1")).where(*conditions).limit(literal_column("1")).scalar_subquery().is_not(None)


# Every look at a session asks for this: one that has expired is gone, whenever its rows are deleted.
IS_THERE = or_(
    sessions.c.ttl_s.is_(None),
    sessions.c.updated_at + sessions.c.ttl_s > bindparam("now", callable_=current_time_s, type_=Double),
    some(_unfinished.c.session_key == sessions.c.key, _unfinished.c.finished_event_id.is_(None)),
)
IS_IT = (sessions.c.id == bindparam("session_id")) & IS_THERE
_key = select(sessions.c.key).where(IS_IT).scalar_subquery()

HAS_RUN = some(runs.c.session_key == sessions.c.key, runs.c.finished_event_id.is_(None), is_running(runs)).label("has_run")

SESSION = select(sessions, HAS_RUN).where(IS_IT)
SESSION_WITH_SNAPSHOT = (
    select(sessions, HAS_RUN, snapshots.c.state)
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

PROGRESS_OF_RUN = select(func.count().label("steps"), func.min(steps.c.seq).label("first_seq")).where(
    steps.c.session_key == _key,
    steps.c.seq >= _first_after("event_id").scalar_subquery(),
    steps.c.run_id == bindparam("run_id"),
    steps.c.kind == StepKind.ACTION.value,
)

STEP_AFTER_TIME = _first_after("finished_at")

FAILURES = (
    select(failures)
    .where(failures.c.session_key == _key, failures.c.event_id > bindparam("after_event_id"))
    .order_by(failures.c.event_id)
    .limit(bindparam("limit"))
)

_run = select(runs, sessions.c.id.label("session_id")).join_from(runs, sessions, sessions.c.key == runs.c.session_key)
RUN = _run.where(runs.c.id == bindparam("run_id"), IS_THERE)
UNFINISHED_RUNS_OF = _run.where(runs.c.session_key == _key, runs.c.finished_event_id.is_(None)).order_by(
    func.coalesce(runs.c.accepted_no, 0), runs.c.started_at, runs.c.id
)
RUNNING_RUNS = (
    _run.where(
        runs.c.finished_at.is_(None),
        is_running(runs),
        tuple_(runs.c.started_at, runs.c.id) > tuple_(bindparam("after_s"), bindparam("after_id")),
    )
    .order_by(runs.c.started_at, runs.c.id)
    .limit(bindparam("limit"))
)
RUNNING_RUNS_OF_REPLICA = RUNNING_RUNS.where(sessions.c.claimed_by == bindparam("claimed_by"))
UNFINISHED_RUNS = _run.where(runs.c.finished_at.is_(None)).order_by(runs.c.started_at, runs.c.id).limit(bindparam("limit"))


def _chosen_runs(*conditions: Any) -> Select[Any]:
    chosen = select(runs.c.id).where(runs.c.session_key == _key, *conditions)
    return select(chosen.order_by(runs.c.finished_event_id).limit(bindparam("limit")).subquery())


# two ranges of one index: runs that ended after the event, and those that have not ended (started after it or not, they are few)
_ended_after = _chosen_runs(runs.c.finished_event_id > bindparam("after_event_id"))
_started_after = _chosen_runs(runs.c.finished_event_id.is_(None), runs.c.started_event_id > bindparam("after_event_id"))
RUNS = _run.where(runs.c.id.in_(union_all(_ended_after, _started_after)))

# runs that are stored in their last step
_of_ended_run = select(steps, sessions.c.id.label("session_id")).join_from(steps, sessions, sessions.c.key == steps.c.session_key)
ENDED_RUN = _of_ended_run.where(steps.c.ended_run == bindparam("run_key"), IS_THERE).limit(1)
_ends_run = (steps.c.session_key == _key, steps.c.ended_run.is_not(None))
# a run ends a little after its last step: the last one of which the step is not after the event may be
_last_before = select(func.max(steps.c.event_id)).where(*_ends_run, steps.c.event_id <= bindparam("after_event_id"))
ENDED_RUNS = (
    _of_ended_run.where(*_ends_run, steps.c.event_id >= func.coalesce(_last_before.scalar_subquery(), 0))
    .order_by(steps.c.event_id)
    .limit(bindparam("limit") + 1)
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
