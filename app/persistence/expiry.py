"""Deleting the sessions that have expired, a few at a time. That they are not found any more is seen to by every look at one.

A step does not touch `expires_at`: when it has come, it is moved to where the session's last activity puts it.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, case, delete, exists, or_, select, update

from app.persistence.changes import delete_children
from app.persistence.tables import replicas, runs, sessions

__all__ = ["DUE", "purge_expired"]

_MOST_STEPS = 5_000  # in one transaction, but for a session that has more: others wait to write meanwhile

_is_due = sessions.c.expires_at <= bindparam("now")
_is_idle = sessions.c.updated_at + sessions.c.ttl_s <= bindparam("now")
_is_running = exists().where(runs.c.session_key == sessions.c.key, runs.c.finished_event_id.is_(None))
_is_ours = or_(
    sessions.c.claimed_by.is_(None),
    sessions.c.claimed_by == bindparam("replica_id"),
    ~exists().where(replicas.c.id == sessions.c.claimed_by),
)
DUE = select(sessions.c.id).where(_is_due, _is_ours).order_by(sessions.c.expires_at).limit(bindparam("limit"))
_LOCK = (
    select(
        sessions.c.key,
        (sessions.c.seq - sessions.c.base_seq).label("steps"),
        and_(_is_idle, ~_is_running).label("has_expired"),
    )
    .where(sessions.c.id.in_(bindparam("ids", expanding=True)), _is_due, _is_ours)
    .with_for_update(skip_locked=True, of=sessions)  # a group commit and this would wait for each other
)
_LATER = (
    update(sessions)
    .where(sessions.c.key.in_(bindparam("keys", expanding=True)), _is_due)
    .values(expires_at=case((_is_idle, bindparam("now")), else_=sessions.c.updated_at) + sessions.c.ttl_s)
)
_DELETE = (
    delete(sessions)
    .where(sessions.c.key.in_(bindparam("keys", expanding=True)), _is_due, _is_idle, ~_is_running, _is_ours)
    .returning(sessions.c.key, sessions.c.id)
)


def purge_expired(connection: Connection, session_ids: Collection[str], now_s: float, replica_id: str | None) -> Sequence[str]:
    """Delete those of the sessions that had expired at `now_s` and that no other living replica has, but not too many at once.

    Return the ids of those that are gone. The others are not due any more, if something has happened in them.
    """
    names: dict[str, Any] = {"now": now_s, "replica_id": replica_id}
    due = connection.execute(_LOCK, {**names, "ids": list(session_ids)}).all()
    later = [row.key for row in due if not row.has_expired]
    if later:
        connection.execute(_LATER, {**names, "keys": later})
    batch = _batch([row for row in due if row.has_expired])
    # asked for again: a run may have been accepted between the two statements
    gone = connection.execute(_DELETE, {**names, "keys": batch}).all() if batch else []
    if gone:
        delete_children(connection, [row.key for row in gone])
    return [row.id for row in gone]


def _batch(expired: Sequence[Row[Any]]) -> list[int]:
    keys: list[int] = []
    steps = 0
    for row in expired:
        steps += row.steps
        if keys and steps > _MOST_STEPS:
            break
        keys.append(row.key)
    return keys
