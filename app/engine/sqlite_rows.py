"""What Burr's table of states looks like: its SQL, and what its rows mean. No connection is used here."""

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from app.engine.burr_keys import without_position
from app.engine.errors import EngineError
from app.engine.persistence_ports import PersistedStateData
from app.engine.state import State

__all__ = ["MissingTable", "StateTable", "Statement", "StepTaken"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_CREATE = """
CREATE TABLE IF NOT EXISTS $table (
    partition_key TEXT DEFAULT '',
    app_id TEXT NOT NULL,
    sequence_id INTEGER NOT NULL,
    position TEXT NOT NULL,
    status TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (partition_key, app_id, sequence_id, position)
)"""
_CREATE_INDEX = "CREATE INDEX IF NOT EXISTS $table_created_at_index ON $table (created_at)"
_EXISTS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
_APP_IDS = "SELECT app_id FROM $table WHERE partition_key = ? GROUP BY app_id ORDER BY MAX(rowid) DESC"
_SELECT = "SELECT position, state, sequence_id, app_id, created_at, status FROM $table WHERE partition_key = ?"
# what was written last: a time in whole seconds cannot tell
_OF_ANY = " ORDER BY rowid DESC LIMIT 1"
_OF_LAST = " AND app_id = ? ORDER BY sequence_id DESC, rowid DESC LIMIT 1"
_OF_STEP = " AND app_id = ? AND sequence_id = ? ORDER BY rowid DESC LIMIT 1"
# a step that failed may be taken again, under the same number
_INSERT = """
INSERT INTO $table (partition_key, app_id, sequence_id, position, state, status) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (partition_key, app_id, sequence_id, position) DO UPDATE
SET state = excluded.state, status = excluded.status, created_at = CURRENT_TIMESTAMP WHERE $table.status = 'failed'"""

Statement: TypeAlias = tuple[str, tuple[Any, ...]]


class MissingTable(EngineError, RuntimeError):
    """A persister was used before its table existed."""

    def __init__(self, table: str) -> None:
        super().__init__(f"there is no table {table!r}: call initialize() on the persister before it is used")
        self.table = table


class StepTaken(EngineError, sqlite3.IntegrityError):
    """A step was to be saved whose number and action are saved already: another process runs the same application."""

    def __init__(self, app_id: str, sequence_id: int, position: str) -> None:
        super().__init__(f"step {sequence_id} ({position!r}) of application {app_id!r} is saved already")


class StateTable:
    """The statements for one table."""

    def __init__(self, name: str, serde_kwargs: Mapping[str, Any] | None) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a table: letters, digits and underscores only")
        self.name = name
        self.serde_kwargs = dict(serde_kwargs or {})

    def create(self) -> tuple[Statement, ...]:
        return (self._of(_CREATE), ()), (self._of(_CREATE_INDEX), ())

    def exists(self) -> Statement:
        return _EXISTS, (self.name,)

    def app_ids(self, partition_key: str | None) -> Statement:
        return self._of(_APP_IDS), (partition_key or "",)

    def select(self, partition_key: str | None, app_id: str | None, sequence_id: int | None) -> Statement:
        if app_id is None:
            return self._of(_SELECT + _OF_ANY), (partition_key or "",)
        if sequence_id is None:
            return self._of(_SELECT + _OF_LAST), (partition_key or "", app_id)
        return self._of(_SELECT + _OF_STEP), (partition_key or "", app_id, sequence_id)

    def insert(
        self, partition_key: str | None, app_id: str, sequence_id: int, position: str, state: State[Any], status: str
    ) -> Statement:
        document = json.dumps(state.serialize(**self.serde_kwargs))
        return self._of(_INSERT), (partition_key or "", app_id, sequence_id, position, document, status)

    def read(self, row: Sequence[Any] | None, partition_key: str | None) -> PersistedStateData | None:
        if row is None:
            return None
        position, state, sequence_id, app_id, created_at, status = row
        values = without_position(json.loads(state))
        return {
            "partition_key": partition_key or "",
            "app_id": app_id,
            "sequence_id": sequence_id,
            "position": position,
            "state": State.deserialize(values, **self.serde_kwargs),
            "created_at": created_at,
            "status": status,
        }

    def explain(self, error: sqlite3.OperationalError) -> Exception:
        return MissingTable(self.name) if "no such table" in str(error) else error

    def _of(self, sql: str) -> str:
        return sql.replace("$table", self.name)
