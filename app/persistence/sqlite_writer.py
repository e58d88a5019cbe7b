"""Waves on SQLite: a connection in a thread of its own, and one hop to that thread per wave.

The thread is ours, and not aiosqlite's, because that one takes a statement at a time: on a busy event loop every further hop
costs a turn of the loop. Rows go in as a few long statements, and one row comes back: SQLite gives up and retakes the
interpreter's lock for each, which a busy event loop may keep for 5 ms.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from app.persistence import wave_rows as columns
from app.persistence.damage import damage_hint
from app.persistence.lock_holders import lock_message
from app.persistence.wave_rows import Row
from app.persistence.wave_sql import RUN_IS_THERE
from app.persistence.waves import Rows, Wave
from app.persistence.writer import ConnectionLost, DatabaseLocked, Moved, WaveRefused, Written
from app.system.gil import ShortTurns

__all__ = ["SqliteWriter"]

T = TypeVar("T")

_LOCKED = ("SQLITE_BUSY", "SQLITE_BUSY_RECOVERY", "SQLITE_BUSY_TIMEOUT", "SQLITE_LOCKED")
_MOST_ROWS = 256  # of one statement
_TURN_S = 0.0001  # a busy loop keeps the thread for so long from each of its statements
_EXACT_ROWS = 64  # up to which there is a statement for each number of rows

# which sessions move, in a single row: the interpreter's lock is given up and retaken for each row that comes back
_ADMIT = """
SELECT json_group_array(json_array(m.column1, key, log_bytes, snapshot_at))
FROM (VALUES {rows}) AS m CROSS JOIN sessions ON id = m.column2
WHERE (m.column3 IS NULL OR seq = m.column3)
    AND (m.column4 IS NULL OR key = m.column4)
    AND (m.column5 IS NULL OR snapshot_seq < m.column5)
"""
# of which session a run has another end, or one in a step
_CONTRADICTED = """
SELECT m.column1 FROM (VALUES {rows}) AS m
WHERE (SELECT 1 FROM runs WHERE runs.id = m.column2 AND runs.finished_event_id <> m.column4 LIMIT 1) IS NOT NULL
    OR (SELECT 1 FROM steps WHERE steps.ended_run = m.column3 LIMIT 1) IS NOT NULL
"""
_MOVE = """
UPDATE sessions SET
    seq = coalesce(m.column2, seq),
    status = coalesce(m.column3, status),
    prior_action = coalesce(m.column4, prior_action),
    next_action = CASE WHEN m.column2 IS NULL THEN next_action ELSE m.column5 END,
    updated_at = max(updated_at, m.column6),
    last_event_id = max(last_event_id, m.column7),
    log_bytes = log_bytes + m.column8,
    snapshot_seq = coalesce(m.column9, snapshot_seq),
    snapshot_at = coalesce(m.column10, snapshot_at)
FROM (VALUES {rows}) AS m WHERE key = m.column1
"""
_CREATE = """
INSERT INTO sessions (id, machine, machine_version, partition_key, metadata, status, seq, prior_action, next_action, created_at,
    parent_session_id, parent_seq, last_event_id, snapshot_at, claimed_by, ttl_s, expires_at, updated_at, base_seq, snapshot_seq,
    log_bytes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?10, ?7, ?7, 0)
ON CONFLICT (id) DO NOTHING RETURNING key
"""
_ID, _EXPECTED_SEQ, _SEQ, _LOG_BYTES, _SNAPSHOT_SEQ, _SNAPSHOT_AT, _KEY = (
    columns.MOVE_COLUMNS.index(name) for name in ("id", "expected_seq", "seq", "log_bytes", "snapshot_seq", "snapshot_at", "key")
)
_END_RUN = """
UPDATE runs SET status = ?2, finished_at = ?3, steps = ?4, reason = ?5, error = ?6, finished_event_id = ?7
WHERE id = ?1 AND session_key = ?8 AND finished_at IS NULL
"""
_DROP_RUNS = """
DELETE FROM runs WHERE rowid IN (
    SELECT r.rowid FROM (VALUES {rows}) AS m CROSS JOIN runs AS r ON r.id = m.column2 WHERE r.session_key = m.column1
)
"""
_START_RUNS = f"""
INSERT INTO runs (session_key, {", ".join(columns.RUN_START_COLUMNS)})
SELECT {", ".join(f"m.column{place}" for place in range(1, len(columns.RUN_START_COLUMNS) + 2))} FROM (VALUES {{rows}}) AS m
WHERE NOT EXISTS (SELECT 1 FROM steps WHERE ended_run = m.column{len(columns.RUN_START_COLUMNS) + 2})
{RUN_IS_THERE}
"""  # noqa: S608  # our own names
_DETAILS = "UPDATE sessions SET metadata = ?2, partition_key = ?3, ttl_s = ?4, expires_at = ?5 WHERE key = ?1"
_UNLABEL = "DELETE FROM labels WHERE session_key = ?1"


class SqliteWriter:
    """The only writer of an SQLite database in this process."""

    def __init__(self, engine: Engine, path: Path) -> None:
        """`engine` is a sync one in autocommit mode for the file at `path`: transactions are begun and ended here."""
        self._path = path
        self.claimant: str | None = None  # there is nobody else
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stepwell-sqlite")
        self._connection: Connection | None = None
        self._turns = ShortTurns(_TURN_S)

    async def connect(self) -> None:
        if self._connection is not None:
            return  # most of the time: a hop to the thread would cost every wave
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connect)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    async def write(self, wave: Wave) -> Written:
        self._turns.begin()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, wave)
        finally:
            self._turns.end()

    async def landed(self, wave: Wave) -> Written:
        raise NotImplementedError("a commit of SQLite that fails is rolled back: it is never in doubt")

    async def run(self, change: Callable[[Connection], T]) -> T:
        """Return what `change` does, in a transaction between two waves. Raises SQLAlchemyError, ConnectionLost."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, change)

    async def truncate_log(self, most_s: float) -> bool:
        """Bring all of the write-ahead log into the database and make its file empty, if nobody reads what is in it.

        Between two waves, for at most about `most_s` seconds; False if it did not come to it. Raises ConnectionLost.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._truncate_log, most_s)

    def _truncate_log(self, most_s: float) -> bool:
        driver = _driver_of(self._connect())
        ((before_ms,),) = driver.execute("PRAGMA busy_timeout").fetchall()
        try:
            driver.execute(f"PRAGMA busy_timeout = {round(most_s * 1e3)}")
            ((is_busy, _, _),) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as exc:
            raise ConnectionLost(f"SQLite cannot write ({_kind(exc)})", in_doubt=False) from None
        finally:
            driver.execute(f"PRAGMA busy_timeout = {before_ms}")
        return not is_busy

    def _run(self, change: Callable[[Connection], T]) -> T:
        connection = self._connect()
        try:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except SQLAlchemyError as exc:
                if _kind(exc) in _LOCKED:
                    raise DatabaseLocked(lock_message(self._path)) from None
                raise
            result = change(connection)
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            self._roll_back(_driver_of(connection))
            raise
        return result

    def _connect(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = self._engine.connect()
            except SQLAlchemyError as exc:
                if _kind(exc) in _LOCKED:
                    raise DatabaseLocked(lock_message(self._path)) from None
                raise ConnectionLost(f"cannot open the SQLite database ({_kind(exc)})", in_doubt=False) from None
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._engine.dispose()

    def _write(self, wave: Wave) -> Written:
        driver = _driver_of(self._connect())
        try:
            driver.execute("BEGIN IMMEDIATE")
            written = _apply(driver, wave)
            driver.execute("COMMIT")
        except sqlite3.Error as exc:
            self._roll_back(driver)
            if _kind(exc) in _LOCKED:
                raise DatabaseLocked(lock_message(self._path)) from None
            # a full disk, a lock, a damaged file: the database's trouble; anything else lies in the wave.
            # `from None`: the driver's message may quote a value
            if isinstance(exc, sqlite3.OperationalError) or type(exc) is sqlite3.DatabaseError:
                raise ConnectionLost(damage_hint(exc) or f"SQLite cannot write ({_kind(exc)})", in_doubt=False) from None
            raise WaveRefused(f"SQLite refused what was to be stored ({_kind(exc)})") from None
        except (OverflowError, TypeError, ValueError) as exc:  # what sqlite3 says of a value that it cannot bind
            self._roll_back(driver)
            raise WaveRefused(f"SQLite refused what was to be stored ({_kind(exc)})") from None
        return written

    def _roll_back(self, driver: sqlite3.Connection) -> None:
        try:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()  # closing rolls back


def _driver_of(connection: Connection) -> sqlite3.Connection:
    # one statement of a wave is cheaper than what SQLAlchemy does around it
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"expected a connection of sqlite3, got {type(driver).__name__}")
    return driver


def _apply(driver: sqlite3.Connection, wave: Wave) -> Written:
    created = _create(driver, wave)
    if not wave.moves:
        return Written(created, ())
    moved = _move(driver, wave)
    keys: list[int | None] = [None] * len(wave.groups)
    for one in moved:
        keys[one.place] = one.key
    for table, names, rows, suffix in (
        ("steps", columns.STEP_COLUMNS, wave.steps, ""),
        ("snapshots", ("seq", "state"), wave.snapshots, ""),
        ("failures", columns.FAILURE_COLUMNS, wave.failures, " ON CONFLICT DO NOTHING"),
        ("keys", columns.KEY_COLUMNS, wave.keys, " ON CONFLICT DO NOTHING"),
    ):
        if rows:
            _insert(driver, table, names, _with_keys(keys, rows), suffix)
    for template, rows in ((_START_RUNS, wave.run_starts), (_DROP_RUNS, wave.stepped_runs)):
        for statement, values in _chunked(template, _with_keys(keys, rows)):
            driver.execute(statement, values)
    if wave.details:
        details = _with_keys(keys, wave.details)
        driver.executemany(_DETAILS, details)
        driver.executemany(_UNLABEL, [row[:1] for row in details])
        _insert(driver, "labels", ("label",), _with_keys(keys, wave.labels))
    if wave.run_ends:
        driver.executemany(_END_RUN, [(*row[1:], row[0]) for row in _with_keys(keys, wave.run_ends)])
    return Written(created, moved)


def _move(driver: sqlite3.Connection, wave: Wave) -> list[Moved]:
    """Move the sessions that stand where they are expected to; return these. Nobody else writes meanwhile."""
    moved: list[Moved] = []
    changes: list[Row] = []
    contradicted = _contradicted(driver, wave.ends) if wave.ends else ()
    questions = [
        (place, row[_ID], row[_EXPECTED_SEQ], row[_KEY], row[_SNAPSHOT_SEQ])
        for place, row in zip(wave.moves.places, wave.moves.rows, strict=True)
        if place not in contradicted
    ]
    for statement, values in _chunked(_ADMIT, questions):
        [(admitted,)] = driver.execute(statement, values).fetchall()
        for place, key, log_bytes, snapshot_at in orjson.loads(admitted):
            row = wave.moves.rows[place]
            moved.append(Moved(place, key, log_bytes + row[_LOG_BYTES], row[_SNAPSHOT_AT] or snapshot_at))
            changes.append((key, *row[_SEQ:_KEY]))
    for statement, values in _chunked(_MOVE, changes):
        driver.execute(statement, values)
    return moved


def _contradicted(driver: sqlite3.Connection, ends: Rows) -> set[int]:
    """Return the places of the sessions of which a run that is to end has another end."""
    questions = [(place, *row) for place, row in zip(ends.places, ends.rows, strict=True)]
    found: set[int] = set()
    for statement, values in _chunked(_CONTRADICTED, questions):
        found.update(place for (place,) in driver.execute(statement, values).fetchall())
    return found


def _create(driver: sqlite3.Connection, wave: Wave) -> list[int]:
    """Insert the new sessions; return the places of those whose id was free."""
    keys: list[int | None] = []
    for row in wave.new_sessions.rows:
        inserted = driver.execute(_CREATE, row[:-1]).fetchall()
        keys.append(inserted[0][0] if inserted else None)
    created = [place for place, key in enumerate(keys) if key is not None]
    if created:
        states = [(keys[place], row[6], row[-1]) for place, row in enumerate(wave.new_sessions.rows) if keys[place] is not None]
        _insert(driver, "snapshots", ("seq", "state"), states)
    if wave.new_labels:
        _insert(driver, "labels", ("label",), _with_keys(keys, wave.new_labels))
    if wave.new_keys:
        _insert(driver, "keys", columns.KEY_COLUMNS, _with_keys(keys, wave.new_keys))
    return created


def _with_keys(keys: Sequence[int | None], rows: Rows) -> list[Row]:
    """Return the rows of those sessions that are there, each with its session's key in front."""
    return [(key, *row) for place, row in zip(rows.places, rows.rows, strict=True) if (key := keys[place]) is not None]


def _insert(driver: sqlite3.Connection, table: str, names: tuple[str, ...], rows: list[Row], suffix: str = "") -> None:
    for statement, values in _chunked(_insert_into(table, names, suffix), rows):
        driver.execute(statement, values)


@cache
def _insert_into(table: str, names: tuple[str, ...], suffix: str) -> str:
    return f"INSERT INTO {table} (session_key, {', '.join(names)}) VALUES {{rows}}{suffix}"  # noqa: S608  # our own names


def _chunked(template: str, rows: list[Row]) -> Iterator[tuple[str, list[Any]]]:
    """Yield statements and their values: one for up to _EXACT_ROWS rows, and few for more."""
    start = 0
    while start < len(rows):
        left = len(rows) - start
        length = left if left <= _EXACT_ROWS else min(left - left % _EXACT_ROWS, _MOST_ROWS)
        chunk = rows[start : start + length]
        start += length
        yield _statement(template, length, len(chunk[0])), list(chain.from_iterable(chunk))


@cache
def _statement(template: str, length: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return template.format(rows=", ".join([row] * length))


def _kind(exc: Exception) -> str:
    """Return what went wrong without a value: the name that SQLite has for it, or the exception's."""
    origin = getattr(exc, "orig", None) or exc
    return getattr(origin, "sqlite_errorname", None) or type(origin).__name__
