"""What the engine's persisters call a saved state, and what a store makes of it. Plain functions, no I/O."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from app.engine.operations import Delete, Extend, Operation, Set
from app.engine.persistence_ports import PersistedStateData
from app.engine.serde import FIELD_SERIALIZATION
from app.engine.state import State, values_of
from app.engine.working_copies import LISTS
from app.persistence.records import SessionRecord

__all__ = ["Status", "app_id_of", "changes", "inward", "outward", "saved", "session_ids"]

Status: TypeAlias = Literal["completed", "failed"]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Operation, ...]:
    """Return operations that lead from one state to the other. A list that only grew is extended; other new values are set."""
    operations: list[Operation] = [Delete(key) for key in before if key not in after]
    for key, value in after.items():
        if key not in before:
            operations.append(Set(key, value))
        elif before[key] is not value:
            operations += _changes_at(key, before[key], value)
    return tuple(operations)


def _changes_at(key: str, old: Any, value: Any) -> list[Operation]:
    if type(old) in LISTS and type(value) in LISTS and len(value) >= len(old) and all(map(_is_same, old, value)):
        return [Extend(key, tuple(value[len(old) :]))] if len(value) > len(old) else []
    return [] if _is_same(old, value) else [Set(key, value)]


def _is_same(old: Any, value: Any) -> bool:
    if old is value:
        return True
    # an equality of a type of the user's may mean anything, and 1 == 1.0 == True
    return type(old) is type(value) and type(old) in (str, int, float, bool, bytes) and bool(old == value)


def session_ids(partition_key: str | None, app_id: str) -> list[str]:
    """Return the ids that the session of an application may have, the first choice first."""
    return [app_id] if partition_key is None else [app_id, f"{partition_key}/{app_id}"]


def app_id_of(record: SessionRecord) -> str:
    return str(record.metadata.get("app_id", record.id))


def outward(state: State[Any]) -> dict[str, Any]:
    """Return a state's values as they are stored: a field that has functions of its own (`register_field_serde`) through them."""
    return {
        key: FIELD_SERIALIZATION[key][0](value) if key in FIELD_SERIALIZATION else value
        for key, value in values_of(state).items()
    }


def inward(values: dict[str, Any]) -> State[Any]:
    return State(
        {key: FIELD_SERIALIZATION[key][1](value) if key in FIELD_SERIALIZATION else value for key, value in values.items()}
    )


def saved(
    record: SessionRecord, seq: int, position: str, state: dict[str, Any], saved_at_s: float, status: Status
) -> PersistedStateData:
    return {
        "partition_key": record.partition_key or "",
        "app_id": app_id_of(record),
        "sequence_id": seq,
        "position": position,
        "state": inward(state),
        "created_at": datetime.fromtimestamp(saved_at_s, UTC).isoformat(),
        "status": status,
    }
