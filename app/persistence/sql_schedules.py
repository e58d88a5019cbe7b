"""Schedules in a database. Moving one on and storing its run is one transaction: there is one run for each time that is due."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, delete, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from app.engine.serde import decode, encode
from app.persistence import changes
from app.persistence.changes import Enqueue
from app.persistence.codec import pack, unpack
from app.persistence.database import Database
from app.persistence.decoding import decoded_anywhere
from app.persistence.reader import answer, available
from app.persistence.records import Key
from app.persistence.schedules import Fired, ScheduleRecord
from app.persistence.store import KeyTaken, ScheduleNotFound
from app.persistence.tables import keys, schedules
from app.persistence.texts import is_storable
from app.persistence.wave_rows import KEY_COLUMNS, key_row

__all__ = ["SqlSchedules"]

_NO_SESSION = 0  # no session's key
_ONE = select(schedules).where(schedules.c.id == bindparam("schedule_id"))
_DUE = (
    select(schedules)
    .where(
        schedules.c.next_at <= bindparam("now"),
        or_(schedules.c.machine.is_(None), schedules.c.machine.in_(bindparam("machines", expanding=True))),
    )
    .order_by(schedules.c.next_at)
    .limit(bindparam("limit"))
)
_PAUSE = (
    update(schedules)
    .where(schedules.c.id == bindparam("schedule_id"))
    .values(is_paused=bindparam("paused"), next_at=bindparam("next_time"))
    .returning(schedules)
)
_NOTE_ERROR = (
    update(schedules)
    .where(schedules.c.last_run_id == bindparam("run_id"))
    .values(last_error=bindparam("error", type_=schedules.c.last_error.type))
)
_THAT_MAY_HAVE_BEGUN = select(schedules).where(
    or_(
        schedules.c.last_run_id == bindparam("run_id"),
        schedules.c.session_id == bindparam("session_id"),
        schedules.c.id == bindparam("schedule_id"),
    )
)
_GIVE_UP = (
    update(schedules)
    .where(schedules.c.id == bindparam("schedule_id"))
    .values(is_paused=True, next_at=None, last_error=bindparam("error", type_=schedules.c.last_error.type))
)
_DELETE = delete(schedules).where(schedules.c.id == bindparam("schedule_id"))
_MOVE = (
    update(schedules)
    .where(schedules.c.id == bindparam("schedule_id"), schedules.c.next_at == bindparam("due"))
    .values(
        next_at=bindparam("next_time"),
        last_at=bindparam("due"),
        last_run_id=func.coalesce(bindparam("run_id"), schedules.c.last_run_id),
        last_error=bindparam("error", type_=schedules.c.last_error.type),
    )
)


class SqlSchedules:
    """The schedules of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, schedule: ScheduleRecord, key: Key | None = None) -> None:
        await self._database.run(lambda connection: _add(connection, schedule, key))

    async def get(self, schedule_id: str) -> ScheduleRecord:
        found = await self._rows(_ONE, schedule_id=schedule_id) if is_storable(schedule_id) else ()
        if not found:
            raise ScheduleNotFound(schedule_id)
        (record,) = await _records(found)
        return record

    async def page(self, limit: int, before_id: str | None = None) -> Sequence[ScheduleRecord]:
        if before_id is not None and not is_storable(before_id):
            return ()
        before = true() if before_id is None else schedules.c.id < before_id
        statement = select(schedules).where(before).order_by(schedules.c.id.desc()).limit(limit)
        return await _records(await self._rows(statement))

    async def pause(self, schedule_id: str, is_paused: bool, next_at_s: float | None) -> ScheduleRecord:
        if not is_storable(schedule_id):
            raise ScheduleNotFound(schedule_id)
        values = {"schedule_id": schedule_id, "paused": is_paused, "next_time": next_at_s}
        return await self._database.run(lambda connection: _paused(connection, values))

    async def delete(self, schedule_id: str) -> None:
        if not is_storable(schedule_id):
            raise ScheduleNotFound(schedule_id)
        values = {"schedule_id": schedule_id}
        if not await self._database.run(lambda connection: connection.execute(_DELETE, values).rowcount):
            raise ScheduleNotFound(schedule_id)

    async def due(self, now_s: float, machines: Collection[str], limit: int = 100) -> Sequence[ScheduleRecord]:
        return await _records(await self._rows(_DUE, now=now_s, machines=list(machines), limit=limit))

    async def fire(self, schedule: ScheduleRecord, fired: Fired) -> bool:
        enqueue = self._database.enqueue
        return await self._database.run(lambda connection: _fire(connection, schedule, fired, enqueue))

    async def that_may_have_begun(self, run_id: str, session_id: str, schedule_id: str | None = None) -> Sequence[ScheduleRecord]:
        rows = await self._rows(_THAT_MAY_HAVE_BEGUN, run_id=run_id, session_id=session_id, schedule_id=schedule_id or "")
        return [_record(row) for row in rows]

    async def give_up(self, schedule_id: str, error: Mapping[str, Any]) -> None:
        values = {"schedule_id": schedule_id, "error": pack(encode(dict(error)))}
        await self._database.run(lambda connection: connection.execute(_GIVE_UP, values).rowcount)

    async def note_error(self, run_id: str, error: Mapping[str, Any]) -> None:
        values = {"run_id": run_id, "error": pack(encode(dict(error)))}
        await self._database.run(lambda connection: connection.execute(_NOTE_ERROR, values).rowcount)

    async def _rows(self, statement: Executable, **values: Any) -> Sequence[Any]:
        async with available():
            return await answer(self._database.reader, statement, values)


def _add(connection: Connection, schedule: ScheduleRecord, key: Key | None) -> None:
    values = {
        "id": schedule.id,
        "session_id": schedule.session_id,
        "machine": schedule.machine,
        "plan": pack(encode(dict(schedule.plan))),
        "is_paused": schedule.is_paused,
        "created_at": schedule.created_at_s,
        "next_at": schedule.next_at_s,
    }
    connection.execute(insert(schedules), values)
    if key is not None:
        row = dict(zip(KEY_COLUMNS, key_row(key, None), strict=True))
        try:
            connection.execute(insert(keys), {"session_key": _NO_SESSION, **row})
        except IntegrityError:
            raise KeyTaken from None  # the cause shows the statement's values


def _paused(connection: Connection, values: Mapping[str, Any]) -> ScheduleRecord:
    row = connection.execute(_PAUSE, values).one_or_none()
    if row is None:
        raise ScheduleNotFound(values["schedule_id"])
    return _record(row)


def _fire(connection: Connection, schedule: ScheduleRecord, fired: Fired, enqueue: Enqueue) -> bool:
    values = {
        "schedule_id": schedule.id,
        "due": schedule.next_at_s,
        "next_time": fired.next_at_s,
        "run_id": None if fired.start is None else fired.start.run_id,
        "error": None if fired.error is None else pack(encode(dict(fired.error))),
    }
    if not connection.execute(_MOVE, values).rowcount:
        return False
    if fired.start is not None and fired.session_id is not None:
        changes.queue_run(connection, fired.session_id, fired.start, enqueue)
    return True


async def _records(rows: Sequence[Any]) -> list[ScheduleRecord]:
    return await decoded_anywhere([row.plan for row in rows], lambda: list(map(_record, rows)))


def _record(row: Any) -> ScheduleRecord:
    return ScheduleRecord(
        id=row.id,
        session_id=row.session_id,
        machine=row.machine,
        plan=decode(unpack(row.plan)),
        is_paused=row.is_paused,
        created_at_s=row.created_at,
        next_at_s=row.next_at,
        last_at_s=row.last_at,
        last_run_id=row.last_run_id,
        last_error=None if row.last_error is None else decode(unpack(row.last_error)),
    )
