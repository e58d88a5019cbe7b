"""New sessions under an idempotency key: what was answered is kept with the key, and answered again."""

from dataclasses import fields, replace
from typing import Any

from app.engine.serde import unreadable_keys
from app.persistence.records import Key, LoadedSession, NewSession, SessionRecord, SessionStatus
from app.persistence.store import Store
from app.persistence.transitions import created
from app.sessions.errors import KeyReused

__all__ = ["recalled", "remembering"]


def remembering(new: NewSession, key: Key | None) -> NewSession:
    """Return `new` with its key, which keeps the session as it is created."""
    if key is None:
        return new
    record = created(new)
    kept: dict[str, Any] = {field.name: getattr(record, field.name) for field in fields(record)}
    kept["status"] = record.status.value
    return replace(new, key=replace(key, answer={"record": kept, "state": dict(new.state)}))


async def recalled(store: Store, key: Key | None) -> LoadedSession | None:
    """Return the session that was created under `key`, as it was then. Raises KeyReused."""
    known = None if key is None else await store.find_key(key.digest)
    if key is None or known is None or known.answer is None:
        return None
    if known.request != key.request:
        raise KeyReused
    kept = known.answer["record"]
    state = known.answer["state"]
    return LoadedSession(
        SessionRecord(**{**kept, "status": SessionStatus(kept["status"])}),
        state,
        unreadable_keys(state) if known.is_partial else {},
    )
