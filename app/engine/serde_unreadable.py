"""Stored values that cannot be read back, because a class has gone or changed, and everything around them that can.

An `UnreadableValue` stands where such a value stood. It is written as it was stored, so a state that is stored again loses
nothing, and the value can be read as soon as its class is back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.engine.edits import Put, Splice
from app.engine.operations import Append, Extend, Patch, Set
from app.engine.serde_codec import TAG, UndecodableValue, decode_hosted, define_document

__all__ = ["UnreadableValue", "as_shown", "decode_readable", "first_unreadable", "unreadable_keys"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class UnreadableValue:
    """A value that cannot be read back. `document` is its stored form, `type_name` its class, or its kind if it has none."""

    document: Any
    type_name: str
    reason: str

    def __repr__(self) -> str:  # without the document, which holds the value
        return f"<unreadable {self.type_name}>"


def decode_readable(document: Any) -> Any:
    """Return the value of `document`, with an UnreadableValue for each part of its lists and dicts that cannot be read."""
    if type(document) is list:
        return [decode_readable(item) for item in document]
    if type(document) is dict:
        pairs = _pairs_of(document)
        if pairs is not None:
            return {decode_hosted(key): decode_readable(item) for key, item in pairs}
        if TAG not in document:
            return {key: decode_readable(item) for key, item in document.items()}
    try:
        return decode_hosted(document)
    except UndecodableValue as error:
        return UnreadableValue(document, error.type_name or "value", str(error))


def first_unreadable(value: Any) -> UnreadableValue | None:
    """Return the first UnreadableValue within `value` as `decode_readable` has returned it, or one that was made of that."""
    if isinstance(value, UnreadableValue):
        return value
    parts: Any = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((found for part in parts if (found := first_unreadable(part)) is not None), None)


def unreadable_keys(state: Mapping[str, Any]) -> dict[str, UnreadableValue]:
    """Return the keys of `state` whose values cannot be read as a whole, each with the first part that cannot."""
    return {key: found for key, value in state.items() if (found := first_unreadable(value)) is not None}


def as_shown(value: Any) -> Any:
    """Return `value` as a client may see it: for each part that cannot be read, what class it is of."""
    match value:
        case UnreadableValue():
            return {"unreadable": value.type_name}
        case list() | tuple():
            return type(value)(as_shown(item) for item in value)
        case dict():
            return {key: as_shown(item) for key, item in value.items()}
        case Set() | Append():
            return type(value)(value.key, as_shown(value.value))
        case Extend():
            return Extend(value.key, as_shown(value.items))
        case Patch():
            return Patch(value.key, as_shown(value.edits))
        case Put():
            return Put(value.path, as_shown(value.value))
        case Splice():
            return Splice(value.path, value.index, value.removed, as_shown(value.items))
    return value


def _pairs_of(document: dict[str, Any]) -> list[Any] | None:
    """Return the pairs of a dict that is written as pairs, if all of its keys can be read."""
    match document.get(TAG):
        case ["dict", list(pairs)]:
            try:
                for key, _ in pairs:
                    hash(decode_hosted(key))
            except (UndecodableValue, TypeError, ValueError):
                return None
            return pairs
    return None


define_document(UnreadableValue, lambda value: value.document)
