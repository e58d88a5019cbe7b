"""Persisters for tests and scripts: one pair keeps states in memory, the other keeps nothing.

The logic is that of `_Shelf`, plain and sync; the async class only has another colour.
"""

import datetime
from typing import TYPE_CHECKING, Any, Literal

from app.engine.persistence_ports import AsyncBaseStatePersister, BaseStatePersister, PersistedStateData

if TYPE_CHECKING:
    from app.engine.state import State

__all__ = ["AsyncDevNullPersister", "AsyncInMemoryPersister", "DevNullPersister", "InMemoryPersister"]


class _Shelf:
    """Saved states in the order in which they came, by partition and application."""

    def __init__(self) -> None:
        self._saved: dict[str | None, dict[str, list[PersistedStateData]]] = {}

    def put(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: "State[Any]",
        status: Literal["completed", "failed"],
    ) -> None:
        entry: PersistedStateData = {
            "partition_key": partition_key or "",
            "app_id": app_id,
            "sequence_id": sequence_id,
            "position": position,
            "state": state,
            "created_at": datetime.datetime.now(datetime.UTC).isoformat(),
            "status": status,
        }
        self._saved.setdefault(partition_key, {}).setdefault(app_id, []).append(entry)

    def get(self, partition_key: str | None, app_id: str | None, sequence_id: int | None) -> PersistedStateData | None:
        if app_id is None:
            return None
        entries = self._saved.get(partition_key, {}).get(app_id, [])
        return next((entry for entry in reversed(entries) if sequence_id in (None, entry["sequence_id"])), None)

    def app_ids(self, partition_key: str | None) -> list[str]:
        return list(self._saved.get(partition_key, {}))


class _Hole(_Shelf):
    def put(self, *_: Any) -> None:
        """Keep nothing."""


class InMemoryPersister(BaseStatePersister):
    """Keeps every saved state of every application until it is gone itself. Loads the last saved one, failed or not."""

    def __init__(self) -> None:
        self._shelf: _Shelf = _Shelf()

    def is_initialized(self) -> bool:
        return True

    def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **_: Any
    ) -> PersistedStateData | None:
        return self._shelf.get(partition_key, app_id, sequence_id)

    def list_app_ids(self, partition_key: str | None, **_: Any) -> list[str]:
        return self._shelf.app_ids(partition_key)

    def save(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: "State[Any]",
        status: Literal["completed", "failed"],
        **_: Any,
    ) -> None:
        self._shelf.put(partition_key, app_id, sequence_id, position, state, status)


class AsyncInMemoryPersister(AsyncBaseStatePersister):
    """`InMemoryPersister` for async applications."""

    def __init__(self) -> None:
        self._shelf: _Shelf = _Shelf()

    async def is_initialized(self) -> bool:
        return True

    async def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **_: Any
    ) -> PersistedStateData | None:
        return self._shelf.get(partition_key, app_id, sequence_id)

    async def list_app_ids(self, partition_key: str | None, **_: Any) -> list[str]:
        return self._shelf.app_ids(partition_key)

    async def save(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: "State[Any]",
        status: Literal["completed", "failed"],
        **_: Any,
    ) -> None:
        self._shelf.put(partition_key, app_id, sequence_id, position, state, status)


class DevNullPersister(InMemoryPersister):
    """Forgets everything: what to measure other persisters against."""

    def __init__(self) -> None:
        self._shelf = _Hole()


class AsyncDevNullPersister(AsyncInMemoryPersister):
    """`DevNullPersister` for async applications."""

    def __init__(self) -> None:
        self._shelf = _Hole()
