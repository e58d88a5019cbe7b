"""Forgetting the beginning of a session's history. What is kept begins with a snapshot, so that it reads as before."""

from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, delete, func, insert, select, update

from app.persistence.snapshots import ROW_BYTES, threshold_after
from app.persistence.tables import failures, runs, sessions, snapshots, steps

__all__ = ["trim"]

_MOST = 2**63 - 1
_KEY, _BASE = bindparam("of", type_=BigInteger), bindparam("base", type_=BigInteger)

_MOVE_BASE = (
    update(sessions)
    .where(sessions.c.key == _KEY, sessions.c.base_seq < _BASE, sessions.c.seq >= _BASE)
    .values(base_seq=_BASE)
    .returning(sessions.c.snapshot_seq)
)
_SNAPSHOT_SIZE = select(func.length(snapshots.c.state)).where(snapshots.c.session_key == _KEY, snapshots.c.seq == _BASE)
_MOVE_SNAPSHOT = (
    update(sessions)
    .where(sessions.c.key == _KEY)
    .values(
        snapshot_seq=_BASE,
        snapshot_at=bindparam("threshold"),
        log_bytes=select(func.coalesce(func.sum(func.length(steps.c.payload) + ROW_BYTES), 0))
        .where(steps.c.session_key == _KEY, steps.c.seq > _BASE)
        .scalar_subquery(),
    )
)
_AT_THE_CUT = select(steps.c.seq, steps.c.first_event_id, steps.c.event_id).where(
    steps.c.session_key == _KEY, steps.c.seq.in_((_BASE, _BASE + 1))
)
_NOTE = update(sessions).where(sessions.c.key == _KEY).values(trimmed_event_id=bindparam("last_trimmed"))
_FORGET = (
    delete(failures).where(failures.c.session_key == _KEY, failures.c.event_id <= bindparam("last_trimmed")),
    # a run of which a step is kept stays, too
    delete(runs).where(
        runs.c.session_key == _KEY,
        runs.c.finished_event_id < bindparam("first_kept"),
        runs.c.started_event_id <= bindparam("last_trimmed"),
    ),
    delete(steps).where(steps.c.session_key == _KEY, steps.c.seq <= _BASE),
    delete(snapshots).where(snapshots.c.session_key == _KEY, snapshots.c.seq < _BASE),
)


def trim(connection: Connection, session_key: int, base_seq: int, state: bytes | None) -> None:
    """Delete the steps up to `base_seq`, with runs and failures that belong to nothing later.

    `state` is the blob of the state after that step, which may be None if there is a snapshot of it. Does nothing if the
    history begins later already.
    """
    at: dict[str, Any] = {"of": session_key, "base": base_seq}
    snapshot_seq = connection.execute(_MOVE_BASE, at).scalar_one_or_none()  # locks the session: nothing is committed meanwhile
    if snapshot_seq is None:
        return
    size_bytes = connection.execute(_SNAPSHOT_SIZE, at).scalar_one_or_none()
    if size_bytes is None:
        if state is None:
            raise ValueError(f"the state after step {base_seq} is needed, and there is no snapshot of it")
        size_bytes = len(state)
        connection.execute(insert(snapshots), {"session_key": session_key, "seq": base_seq, "state": state})
    if snapshot_seq < base_seq:
        connection.execute(_MOVE_SNAPSHOT, {**at, "threshold": threshold_after(size_bytes)})
    cut = {row.seq: row for row in connection.execute(_AT_THE_CUT, at)}
    kept = cut.get(base_seq + 1)
    events = {"last_trimmed": cut[base_seq].event_id, "first_kept": kept.first_event_id if kept else _MOST}
    connection.execute(_NOTE, {**at, **events})
    for statement in _FORGET:
        connection.execute(statement, {**at, **events})
