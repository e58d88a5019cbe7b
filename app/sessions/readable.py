"""What is told when a state, or a step, cannot be read back. Setting or deleting the key mends such a session."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.engine.machine import Machine
from app.engine.serde import UnreadableValue
from app.persistence.records import LoadedSession, SessionRecord, StepRecord
from app.persistence.store import StateUnreadable, Store
from app.sessions.errors import MachineNotHosted
from app.sessions.live import LiveSession

__all__ = ["require_readable", "require_readable_live", "require_readable_steps", "state_as_of", "unreadable_error"]


def require_readable(loaded: LoadedSession, machines: Mapping[str, Machine]) -> LoadedSession:
    """Return `loaded`. Raises StateUnreadable, or MachineNotHosted: then it is no wonder that a class is not known here."""
    for key, value in loaded.unreadable.items():
        _require_hosted(loaded.record, machines)
        raise StateUnreadable(loaded.record.id, key, value.type_name, value.reason)
    return loaded


def require_readable_live(live: LiveSession) -> None:
    """Raises StateUnreadable."""
    for key, value in live.unreadable.items():
        raise StateUnreadable(live.id, key, value.type_name, value.reason)


def require_readable_steps(steps: Sequence[StepRecord], session: SessionRecord, machines: Mapping[str, Machine]) -> None:
    """Raises StateUnreadable, or MachineNotHosted, for the first of `steps` that holds what cannot be read."""
    for step in steps:
        for key, value in step.unreadable.items():
            _require_hosted(session, machines)
            raise StateUnreadable(session.id, key, value.type_name, value.reason, step.seq)


async def state_as_of(store: Store, session: SessionRecord, seq: int, machines: Mapping[str, Machine]) -> dict[str, Any]:
    """Return the state after a step. Raises StepNotFound, StateUnreadable, or MachineNotHosted."""
    try:
        return await store.state_at(session.id, seq)
    except StateUnreadable:
        _require_hosted(session, machines)
        raise


def unreadable_error(unreadable: Mapping[str, UnreadableValue], session_id: str) -> dict[str, str]:
    """Return the error of a run that ends because the state of its session cannot be read."""
    key, value = next(iter(unreadable.items()))
    message = str(StateUnreadable(session_id, key, value.type_name, value.reason))
    return {"type": "state-unreadable", "message": message, "key": key, "class": value.type_name}


def _require_hosted(session: SessionRecord, machines: Mapping[str, Machine]) -> None:
    if session.machine not in machines:
        raise MachineNotHosted(session.id, session.machine)
