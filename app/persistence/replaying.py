"""How a state is made again: a snapshot, and the operations of the steps after it. Plain functions, no I/O.

Everything stays a document, the JSON form of `app.engine.serde`, until the last step is done: values that were replaced since are
never made, and what is changed in parts needs no class for it.
"""

from collections.abc import Iterable
from typing import Any

from app.engine.edits import edit_document
from app.engine.operations import Increment
from app.engine.serde import UndecodableValue, decode, encode
from app.persistence.codec import PayloadInvalid, operation_documents, state_documents

__all__ = ["replay"]


def replay(snapshot: bytes, payloads: Iterable[bytes]) -> dict[str, Any]:
    """Return the state after the steps in `payloads`, which follow `snapshot`. Raises PayloadInvalid."""
    documents = state_documents(snapshot)
    for payload in payloads:
        for operation in operation_documents(payload):
            _apply(documents, operation)
    return {key: _decoded(document) for key, document in documents.items()}


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
        return decode(document)
    except UndecodableValue as exc:
        raise PayloadInvalid(str(exc)) from None
