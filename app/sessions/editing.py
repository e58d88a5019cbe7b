"""A change by hand, of the state or of what else a session has, written as a step of its own kind."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.persistence.handing_in import with_values_encoded
from app.persistence.records import Commit, SessionDetails, SessionRecord, SessionStatus, StepKind
from app.persistence.store import Store, StoreUnavailable
from app.persistence.transitions import with_details
from app.sessions.branching import edited, unreadable_after
from app.sessions.events import Event, EventType, StepDone
from app.sessions.frozen_states import frozen_anywhere
from app.sessions.live import LiveSession
from app.sessions.phases import Phase
from app.sessions.requests import UNCHANGED, SessionEdit

__all__ = ["details_after", "merged", "write_edit"]


async def write_edit(store: Store, live: LiveSession, edit: SessionEdit) -> None:
    """Make `edit` durable and move the idle session on. Nothing else may happen to the session meanwhile.

    Raises MachineChanged, UnserializableValue, TextUnstorable and what the store raises; the session then stands where it stood.
    """
    live.move(Phase.EDITING)
    try:
        edit = replace(edit, set=await frozen_anywhere(edit.set))
        await live.stream.until_released()
        live.stream.hold()
        await _write_held(store, live, edit)
    finally:
        if live.phase is Phase.EDITING:  # another replica may have taken the session meanwhile
            live.move(Phase.OPEN)


async def _write_held(store: Store, live: LiveSession, edit: SessionEdit) -> None:
    stream = live.stream
    try:
        details, told = details_after(live.loaded, edit)
        step = await with_values_encoded(replace(edited(live, edit, stream.reserve_id()), result=told))
        status = SessionStatus.ENDED if step.next_action is None else SessionStatus.IDLE
        await store.commit(Commit(live.id, status, step.event_id, step=step, details=details, claim_no=live.claim_no))
        live.state, live.seq, live.next_action = step.state, step.seq, step.next_action
        live.unreadable = unreadable_after(live.unreadable, edit)
        live.status, live.updated_at_s = status, step.finished_at_s
        if details is not None:
            live.loaded = with_details(live.loaded, details)
        live.forget_application()
        done = StepDone(
            step.seq,
            StepKind.EDIT,
            step.action,
            step.operations,
            step.result,
            step.next_action,
            step.started_at_s,
            step.finished_at_s,
        )
        stream.append(Event(step.event_id, EventType.STEP_FINISHED, None, done))
        stream.release()
    except BaseException as exc:
        if isinstance(exc, StoreUnavailable) and exc.in_doubt:
            stream.doubt()  # nothing more is shown before the session is read again
        else:
            stream.release()
        raise


def details_after(session: SessionRecord, edit: SessionEdit) -> tuple[SessionDetails | None, dict[str, Any] | None]:
    """Return what the session has after `edit` beside its state, and what history tells of that; None if nothing changes."""
    told: dict[str, Any] = {}
    metadata, partition_key, ttl_s = session.metadata, session.partition_key, session.ttl_s
    if edit.metadata:
        told["metadata"] = dict(edit.metadata)
        metadata = merged(metadata, edit.metadata)
    if edit.partition_key is not UNCHANGED:
        told["partition_key"] = partition_key = edit.partition_key
    if edit.ttl_s is not UNCHANGED:
        told["ttl_s"] = ttl_s = None if math.isinf(edit.ttl_s) else edit.ttl_s
    return (SessionDetails(metadata, partition_key, ttl_s), told) if told else (None, None)


def merged(target: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return `target` after a merge patch (RFC 7396): null removes, objects are merged, anything else replaces."""
    after = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = merged(after.get(name), value) if isinstance(value, Mapping) else value
    return after
