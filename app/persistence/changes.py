"""Changes that need a transaction of their own, on whichever database: what no session's next step waits for."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Insert, bindparam, case, delete, func, insert, literal, null, select, update
from sqlalchemy.exc import IntegrityError

from app.engine.serde import encode
from app.persistence.codec import pack
from app.persistence.records import RunStart, RunStatus
from app.persistence.statements import CHILDREN, DELETE_SESSION, IS_IT, is_running
from app.persistence.store import KeyTaken, RunNotFound, SessionNotFound
from app.persistence.tables import ACCEPTED, keys, runs, sessions
from app.persistence.wave_rows import KEY_COLUMNS, key_row

__all__ = ["Enqueue", "begin_attempt", "delete_children", "delete_session", "purge_keys", "queue_run", "uncount_attempts"]

Enqueue: TypeAlias = Callable[[Connection, str, str], None]  # stores the job of a run: connection, session id, run id

_QUEUED = (
    "id",
    "session_key",
    "status",
    "parameters",
    "webhook",
    "webhook_at",
    "started_at",
    "steps",
    "started_event_id",
    "accepted_no",
)
_earlier = runs.alias("earlier")


def _insert_queued(accepted_no: ColumnElement[int]) -> Insert:
    return insert(runs).from_select(
        _QUEUED,
        select(
            bindparam("run_id"),
            sessions.c.key,
            literal(RunStatus.QUEUED.value),
            bindparam("parameters", type_=runs.c.parameters.type),
            bindparam("webhook", type_=runs.c.webhook.type),
            bindparam("webhook_at", type_=runs.c.webhook_at.type),
            bindparam("queued_at", type_=runs.c.started_at.type),
            literal(0),
            literal(0),
            accepted_no,
        )
        .where(IS_IT)
        .with_for_update(read=True, key_share=True),  # or it could be deleted meanwhile, and the run would stay
    )


# a run that is accepted when another one has been has the higher number
_QUEUE_RUN = {
    "sqlite": _insert_queued(
        select(func.coalesce(func.max(_earlier.c.accepted_no), 0) + 1)
        .where(_earlier.c.session_key == sessions.c.key, _earlier.c.finished_event_id.is_(None))
        .scalar_subquery()
    ),
    "postgresql": _insert_queued(ACCEPTED.next_value()),
}
_KEY_OF_SESSION = select(sessions.c.key).where(sessions.c.id == bindparam("session_id"))
_BEGIN_ATTEMPT = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"), runs.c.finished_at.is_(null()))
    .values(
        attempts=case((runs.c.steps < bindparam("known_steps"), 1), else_=runs.c.attempts + 1),
        steps=bindparam("known_steps"),
    )
    .returning(runs.c.attempts)
)
_UNCOUNT_ATTEMPT = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"), runs.c.finished_at.is_(null()), is_running(runs))
    .values(
        attempts=case((runs.c.steps < bindparam("known_steps"), -1), else_=runs.c.attempts - 1),
        steps=bindparam("known_steps"),
    )
)
_PURGE_KEYS = delete(keys).where(keys.c.created_at < bindparam("before"))


def delete_session(connection: Connection, session_id: str, claimant: str | None) -> None:
    """Delete everything of a session. Raises SessionNotFound, also if it is not claimed by `claimant`, if one is given."""
    # the session first: its row's lock keeps out a commit, whose rows would otherwise stay behind
    statement = DELETE_SESSION if claimant is None else DELETE_SESSION.where(sessions.c.claimed_by == claimant)
    key = connection.execute(statement, {"session_id": session_id}).scalar_one_or_none()
    if key is None:
        raise SessionNotFound(session_id)
    delete_children(connection, [key])


def delete_children(connection: Connection, session_keys: Sequence[int]) -> None:
    """Delete what belongs to these sessions."""
    for statement in CHILDREN:
        connection.execute(statement, {"keys": session_keys})


def queue_run(connection: Connection, session_id: str, start: RunStart, enqueue: Enqueue) -> None:
    """Store a run that waits, and its job. Raises SessionNotFound, KeyTaken."""
    values: dict[str, Any] = {
        "run_id": start.run_id,
        "parameters": pack(encode(dict(start.parameters))),
        "webhook": None if start.webhook is None else pack(encode(dict(start.webhook))),
        "webhook_at": None if start.webhook is None else start.started_at_s,
        "queued_at": start.started_at_s,
        "session_id": session_id,
    }
    if not connection.execute(_QUEUE_RUN[connection.dialect.name], values).rowcount:
        raise SessionNotFound(session_id)
    enqueue(connection, session_id, start.run_id)
    if start.key is not None:
        session_key = connection.execute(_KEY_OF_SESSION, {"session_id": session_id}).scalar_one()
        row = dict(zip(KEY_COLUMNS, key_row(start.key, start.run_id), strict=True))
        try:
            connection.execute(insert(keys), {"session_key": session_key, **row})
        except IntegrityError:
            raise KeyTaken from None  # the cause shows the statement's values


def begin_attempt(connection: Connection, run_id: str, steps: int) -> int:
    """Count one more attempt at a run, or the first since it got on; return the count. Raises RunNotFound if it has ended."""
    attempts = connection.execute(_BEGIN_ATTEMPT, {"run_id": run_id, "known_steps": steps}).scalar_one_or_none()
    if attempts is None:
        raise RunNotFound(run_id)
    return int(attempts)


def uncount_attempts(connection: Connection, left: Sequence[tuple[str, int]]) -> None:
    """Take back one attempt at each of these runs, which have so many steps."""
    connection.execute(_UNCOUNT_ATTEMPT, [{"run_id": run_id, "known_steps": steps} for run_id, steps in left])


def purge_keys(connection: Connection, before_s: float) -> int:
    """Forget the keys that were used before then; return how many."""
    return int(connection.execute(_PURGE_KEYS, {"before": before_s}).rowcount)
