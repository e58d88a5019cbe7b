"""How a state is made again: a snapshot, and the operations of the steps after it. Plain functions, no I/O.

Everything stays a document, the JSON form of `app.engine.serde`, until the last step is done: values that were replaced since are
never made, and what is changed in parts needs no class for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.engine.edits import edit_document
from app.engine.operations import Increment, Patch, StoredOperation
from app.engine.serde import UndecodableValue, UnreadableValue, decode_hosted, encode, first_unreadable, unreadable_keys
from app.persistence.codec import (
    PayloadInvalid,
    Unreadable,
    decode_values,
    operation_documents,
    refers_to_state,
    state_documents,
    unpack,
)
from app.persistence.results import state_keys
from app.persistence.store import StateUnreadable

__all__ = ["ReplayedState", "replay", "unreadable_of_step", "values_referred_to"]


@dataclass(frozen=True, slots=True)
class ReplayedState:
    """A state, and those of its keys whose values cannot be read back."""

    state: dict[str, Any]
    unreadable: Mapping[str, UnreadableValue] = field(default_factory=dict)

    def readable(self, session_id: str, seq: int) -> dict[str, Any]:
        """Return the state. Raises StateUnreadable if there is more to it than can be read."""
        for key, value in self.unreadable.items():
            raise StateUnreadable(session_id, key, value.type_name, value.reason, seq)
        return self.state


def replay(snapshot: bytes, payloads: Iterable[bytes]) -> ReplayedState:
    """Return the state after the steps in `payloads`, which follow `snapshot`. Raises PayloadInvalid."""
    documents = state_documents(snapshot)
    for payload in payloads:
        for operation in operation_documents(payload):
            _apply(documents, operation)
    unreadable: Unreadable = []
    state = decode_values(documents, unreadable)
    return ReplayedState(state, unreadable_keys(state)) if unreadable else ReplayedState(state)


def values_referred_to(snapshot: bytes, seq: int, payloads: Iterable[bytes], from_seq: int) -> dict[int, dict[str, Any]]:
    """Return what steps refer to for their results: by the seq of a step, parts of the state after it, as documents.

    `snapshot` is the state after step `seq`, `payloads` are the steps after that, and those from `from_seq` on are asked for.
    Raises PayloadInvalid.
    """
    documents = state_documents(snapshot)
    found: dict[int, dict[str, Any]] = {}
    for payload in payloads:
        seq += 1
        step = unpack(payload)
        for operation in step[0]:
            _apply(documents, operation)
        if seq >= from_seq and refers_to_state(payload):
            # copied: later steps change documents in place
            found[seq] = {key: orjson.loads(orjson.dumps(documents[key])) for key in state_keys(step[2])}
    return found


def unreadable_of_step(operations: Sequence[StoredOperation], result: Any) -> dict[str, UnreadableValue]:
    """Return what cannot be read back of a step, by the keys of the state that it wrote, or under `result`."""
    found: dict[str, UnreadableValue] = {}
    for operation in operations:
        parts = operation.edits if isinstance(operation, Patch) else [operation]
        value = first_unreadable([getattr(part, name, None) for part in parts for name in ("value", "items")])
        if value is not None:
            found.setdefault(operation.key, value)
    in_result = first_unreadable(result)
    return {"result": in_result} if in_result is not None and not found else found


def _apply(documents: dict[str, Any], operation: Any) -> None:
    match operation:
        case ["a", key, value]:
            _list_at(documents, _key(key)).append(value)
        case ["s", key, value]:
            documents[_key(key)] = value
        case ["e", key, list(items)]:
            _list_at(documents, _key(key)).extend(items)
        case ["p", key, list(edits)]:
            _patch(documents, _key(key), edits)
        case ["i", key, by]:
            _increment(documents, _key(key), by)
        case ["d", key]:
            documents.pop(_key(key), None)
        case _:
            raise PayloadInvalid("a stored step holds an operation that this version does not know")


def _list_at(documents: dict[str, Any], key: str) -> list[Any]:
    found = documents.setdefault(key, [])
    if type(found) is not list:
        raise PayloadInvalid(f"a stored step adds to the list at key {key!r}, which is no list")
    return found


def _patch(documents: dict[str, Any], key: str, edits: list[Any]) -> None:
    if key not in documents:
        raise PayloadInvalid(f"a stored step changes a part of key {key!r}, which is not there")
    document = documents[key]
    try:
        for edit in edits:
            document = edit_document(document, edit)
    except UndecodableValue as exc:
        raise PayloadInvalid(str(exc)) from None
    documents[key] = document


def _increment(documents: dict[str, Any], key: str, by: Any) -> None:
    values = {key: _decoded(documents[key])} if key in documents else {}
    Increment(key, _decoded(by)).apply(values)
    documents[key] = encode(values[key])


def _key(document: Any) -> Any:
    return document if type(document) is str else _decoded(document)


def _decoded(document: Any) -> Any:
    try:
        return decode_hosted(document)
    except UndecodableValue as exc:
        raise PayloadInvalid(str(exc)) from None
