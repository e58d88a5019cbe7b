"""What the engine's persisters call a saved state, and what a store makes of it. Plain functions, no I/O."""

from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from app.engine.persistence_ports import PersistedStateData
from app.engine.serde import FIELD_SERIALIZATION
from app.engine.state import State, values_of
from app.persistence.records import SessionRecord

__all__ = ["Status", "app_id_of", "inward", "outward", "saved", "session_ids"]

Status: TypeAlias = Literal["completed", "failed"]


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
