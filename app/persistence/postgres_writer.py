"""Waves on PostgreSQL: one connection kept for them, one statement each. The SQL is in `postgres_sql`."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types of its own
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.persistence.poolers import pooler_hint
from app.persistence.postgres_sql import LANDED_CREATES, LANDED_MOVES, PARTS, write_statement
from app.persistence.wave_rows import STEP_COLUMNS, Row
from app.persistence.waves import Rows, Wave
from app.persistence.writer import ConnectionLost, Moved, WaveRefused, Written

__all__ = ["PostgresWriter"]

# SQLSTATE classes in which the trouble is the server's, and passes: connection, transaction rollback (deadlock),
# resources, operator intervention (shutdown), system error; and a standby that is read only
_PASSING = ("08", "40", "53", "57", "58", "25006")
_SHUTDOWN = "57P"
_EVENT_ID = STEP_COLUMNS.index("event_id")


class PostgresWriter:
    """The one connection of this process that writes waves."""

    def __init__(self, engine: AsyncEngine, *, timeout_s: float) -> None:
        self.claimant: str | None = None  # only sessions that it has claimed are moved, if it is given
        self._engine = engine
        self._timeout_s = timeout_s
        self._connection: AsyncConnection | None = None
        self._driver: Any = None  # an asyncpg connection: SQLAlchemy's layers cost more than the statement does

    async def connect(self) -> None:
        if self._driver is not None and not self._driver.is_closed():
            return
        await self._drop()
        try:
            async with asyncio.timeout(self._timeout_s):
                self._connection = await self._engine.connect()
                raw = await self._connection.get_raw_connection()
            self._driver = raw.driver_connection
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as exc:
            await self._drop()
            raise ConnectionLost(f"cannot reach PostgreSQL ({_kind(exc)})", in_doubt=False) from None

    async def close(self) -> None:
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None:
            await connection.close()

    async def write(self, wave: Wave) -> Written:
        parts = tuple(part for part in PARTS if getattr(wave, part))
        arguments: list[Any] = []
        for part in parts:
            rows: Rows = getattr(wave, part)
            arguments.append(rows.places)
            arguments.extend(zip(*rows.rows, strict=True))
        if wave.moves:
            arguments.append(self.claimant)
        created: list[int] = []
        moved: list[Moved] = []
        for is_new, place, key, log_bytes, snapshot_at in await self._fetch(write_statement(parts), arguments):
            if is_new:
                created.append(place)
            else:
                moved.append(Moved(place, key, log_bytes, snapshot_at))
        return Written(created, moved)

    async def landed(self, wave: Wave) -> Written:
        creates = [(place, row[0], row[9]) for place, row in zip(wave.new_sessions.places, wave.new_sessions.rows, strict=True)]
        created = [row[0] for row in await self._fetch(LANDED_CREATES, _columns(creates, 3))] if creates else []
        moves = list(_signs(wave))
        found = await self._fetch(LANDED_MOVES, [*_columns(moves, 8), self.claimant]) if moves else []
        return Written(created, [Moved(*row) for row in found])

    async def _fetch(self, statement: str, arguments: list[Any]) -> list[Any]:
        try:
            rows: list[Any] = await self._driver.fetch(statement, *arguments, timeout=self._timeout_s)
        except asyncpg.PostgresError as exc:
            state = exc.sqlstate or ""
            hint = pooler_hint(state)
            if hint is not None:
                await self._drop()
                raise ConnectionLost(hint, in_doubt=False) from None
            # `from None`, here and below: the message may quote a value
            if state.startswith(_PASSING):
                if not state.startswith("40"):
                    await self._drop()
                lost = f"PostgreSQL cannot write ({_kind(exc)})"
                raise ConnectionLost(lost, in_doubt=state.startswith(("08", _SHUTDOWN))) from None
            raise WaveRefused(f"PostgreSQL refused what was to be stored ({_kind(exc)})") from None
        except (OverflowError, TypeError, UnicodeError) as exc:  # what asyncpg says of a value
            raise WaveRefused(f"PostgreSQL cannot hold what was to be stored ({_kind(exc)})") from None
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as exc:
            await self._drop()
            raise ConnectionLost(f"the connection to PostgreSQL was lost ({_kind(exc)})", in_doubt=True) from None
        except BaseException:
            await self._drop()  # cancelled: the answer must not be taken for that of the next statement
            raise
        return rows

    async def _drop(self) -> None:
        driver, self._driver = self._driver, None
        connection, self._connection = self._connection, None
        if driver is not None:
            driver.terminate()
        if connection is not None:
            await connection.invalidate()
            await connection.close()


def _signs(wave: Wave) -> Iterator[Row]:
    """Yield `(place, id, last_event_id, claim_no, seq, event_id, ended_run, end_id)`: how one sees that a session moved.

    Not for one of which only a snapshot is written.
    """
    last_event_of_step = {place: row[_EVENT_ID] for place, row in zip(wave.steps.places, wave.steps.rows, strict=True)}
    last_end = {place: (row[0], row[-1]) for place, row in zip(wave.ends.places, wave.ends.rows, strict=True)}
    for place, move in zip(wave.moves.places, wave.moves.rows, strict=True):
        if move[3] is not None:
            ended_run, end_id = last_end.get(place, (None, None))
            yield place, move[0], move[7], move[12], move[2], last_event_of_step.get(place), ended_run, end_id


def _columns(rows: list[Any], width: int) -> list[Any]:
    return [[row[index] for row in rows] for index in range(width)]


def _kind(exc: BaseException) -> str:
    return type(getattr(exc, "orig", None) or exc).__name__
