"""New sessions and changes by hand: what to store for them. Reads the store, writes nothing."""

import math
from collections.abc import Mapping
from typing import Any

from app.engine.freezing import freeze
from app.engine.machine import Machine
from app.engine.operations import Delete, Operation, Set, apply_all
from app.engine.serde import UnreadableValue
from app.engine.state import values_of
from app.persistence.records import NewSession, SessionRecord, StepCommit, StepKind
from app.persistence.store import StepNotFound, Store
from app.sessions.errors import ConditionFailed, MachineChanged, StateInvalid
from app.sessions.ids import check_id, new_id
from app.sessions.live import LiveSession
from app.sessions.requests import ForkRequest, NewSessionRequest, SessionEdit
from app.system.clocks import current_time_s, event_time_us

__all__ = ["edited", "forked", "made", "next_action", "prior_action_at", "unreadable_after"]


def made(request: NewSessionRequest, machine: Machine, ttl_s: float | None = None) -> NewSession:
    """Return the session that `request` asks for: the machine's default state with the given one over it.

    `ttl_s` is for a request and a machine that say nothing of it. Raises IdInvalid, StateInvalid.
    """
    blueprint = machine.blueprint
    _check_state(machine, request.state)
    state = {**blueprint.default_state, **request.state}
    now_s = current_time_s()
    return NewSession(
        id=new_id() if request.id is None else check_id(request.id, "id"),
        machine=machine.name,
        machine_version=machine.version,
        state=state,
        next_action=blueprint.next_action(state, None),
        created_at_s=now_s,
        event_id=event_time_us(),
        partition_key=request.partition_key,
        metadata=request.metadata,
        ttl_s=_ttl_s(request.ttl_s, machine.options.ttl_s, ttl_s),
    )


async def forked(store: Store, parent: SessionRecord, request: ForkRequest, machine: Machine) -> NewSession:
    """Return a session that begins where `parent` stood at `request.seq`. Raises StepNotFound, IdInvalid, MachineChanged."""
    child_id = new_id() if request.id is None else check_id(request.id, "id")
    seq = parent.seq if request.seq is None else request.seq
    state = await store.state_at(parent.id, seq)
    prior_action = await prior_action_at(store, parent, seq)
    now_s = current_time_s()
    return NewSession(
        id=child_id,
        machine=machine.name,
        machine_version=machine.version,
        state=state,
        next_action=next_action(machine, parent.id, state, prior_action),
        created_at_s=now_s,
        event_id=event_time_us(),
        partition_key=parent.partition_key if request.partition_key is None else request.partition_key,
        metadata=parent.metadata if request.metadata is None else request.metadata,
        seq=seq,
        prior_action=prior_action,
        parent_session_id=parent.id,
        parent_seq=seq,
        ttl_s=_ttl_s(request.ttl_s, parent.ttl_s),
    )


def _ttl_s(*choices: float | None) -> float | None:
    """Return the first choice that was made; None for never, which is chosen as infinity."""
    chosen = next((choice for choice in choices if choice is not None), math.inf)
    return None if math.isinf(chosen) else chosen


def edited(live: LiveSession, edit: SessionEdit, event_id: int) -> StepCommit:
    """Return the step that `edit` makes of `live`. Raises MachineChanged, StateInvalid.

    The step stands for no action: its `action` repeats the one before it, so that a fork from here knows where it stands.
    """
    _check_state(live.machine, edit.set)
    operations: tuple[Operation, ...] = (
        *(Set(key, freeze(value)) for key, value in edit.set.items()),
        *(Delete(key) for key in edit.delete),
    )
    state = apply_all(values_of(live.state), operations)
    still = unreadable_after(live.unreadable, edit)
    now_s = current_time_s()
    return StepCommit(
        seq=live.seq + 1,
        action=live.prior_action or "",
        operations=operations,  # as the client has written them, whole: that is how a history of edits is read
        result=None,
        state=state,
        # what cannot be read no condition can judge: it is asked again when all of the state can
        next_action=live.next_action if still else next_action(live.machine, live.id, state, live.prior_action),
        started_at_s=now_s,
        finished_at_s=now_s,
        first_event_id=event_id,
        event_id=event_id,
        kind=StepKind.EDIT,
    )


def _check_state(machine: Machine, values: Mapping[str, Any]) -> None:
    wrong = machine.blueprint.state_types.wrong(values) if values else None
    if wrong:
        raise StateInvalid(machine.name, wrong)


def unreadable_after(unreadable: Mapping[str, UnreadableValue], edit: SessionEdit) -> Mapping[str, UnreadableValue]:
    """Return what cannot be read of a state after `edit`."""
    return {key: value for key, value in unreadable.items() if key not in edit.set and key not in edit.delete}


def next_action(machine: Machine, session_id: str, state: Mapping[str, Any], prior_action: str | None) -> str | None:
    """Return what the machine would run next. Raises MachineChanged if it does not know `prior_action`, and ConditionFailed."""
    if prior_action is not None and prior_action not in machine.blueprint.graph.action_names:
        raise MachineChanged(session_id, machine.name, prior_action)
    try:
        return machine.blueprint.next_action(state, prior_action)
    except BaseException as exc:  # the border to the user's conditions, which may raise anything; nothing is awaited in here
        raise ConditionFailed(machine.name, exc) from exc


async def prior_action_at(store: Store, session: SessionRecord, seq: int) -> str | None:
    """Return the last action before or at step `seq`. A fork's own beginning is told by the session that it comes from.

    Raises StepNotFound.
    """
    if seq == session.seq:
        return session.prior_action
    while seq >= 0:
        try:
            return (await store.get_step(session.id, seq)).action or None
        except StepNotFound:
            if session.parent_session_id is None or session.parent_seq != seq:
                raise
            session = await store.get_session(session.parent_session_id)
            if session.seq == seq:
                return session.prior_action
    return None
