"""How the result of a step is stored: what of it the step wrote to the state, too, is stored once.

A part of a result that an operation holds is a reference to that operation, by its index. A part that is the whole value of a
key, of which only the change was stored, is a reference to the state after the step, by that key. Plain functions, no I/O.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from app.engine.operations import Append, Delete, Increment, Set, StoredOperation
from app.engine.shapes import Shapes, plain_type

__all__ = ["References", "shared", "state_keys"]

References: TypeAlias = "int | dict[str, int | str] | None"
"""The operation that the whole result is in; or by key of the result, the operation or the key of the state."""

_SHORT_TEXT = 24
_CONTAINERS = frozenset({dict, list})


def shared(operations: tuple[StoredOperation, ...], result: Any, state: Mapping[str, Any] | None) -> tuple[References, Any]:
    """Return `(references, rest)`: where the parts of `result` are found, and what of it is to be stored itself.

    `state` is the one after the step; without it only operations are looked at.
    """
    if not result or plain_type(result) is not dict:
        return None, result
    places: dict[Any, int] = {}
    for index, operation in enumerate(operations):
        if isinstance(operation, Set) or isinstance(operation, Append):  # noqa: SIM101  # faster than both at once
            value = operation.value
            if type(value) is str:
                if len(value) > _SHORT_TEXT:
                    places.setdefault(value, index)
            elif plain_type(value) in _CONTAINERS:
                places.setdefault(id(value), index)
    whole = places.get(id(result))
    if whole is not None:
        return whole, None
    found: dict[str, int | str] = {}
    if places:
        for key, item in result.items():
            kind = plain_type(item)
            place = places.get(item if kind is str else id(item)) if kind is str or kind in _CONTAINERS else None
            if place is not None and type(key) is str and key.isascii():
                found[key] = place
    if state is not None:
        _find_in_state(operations, result, state, found)
    # the key stays where it is, so that the order of the keys is kept
    return (found, {**result, **dict.fromkeys(found)}) if found else (None, result)


def state_keys(references: Any) -> list[str]:
    """Return the keys of the state that stored references name."""
    return [key for key in references.values() if type(key) is str] if type(references) is dict else []


def _find_in_state(
    operations: tuple[StoredOperation, ...], result: Mapping[Any, Any], state: Mapping[str, Any], found: dict[str, int | str]
) -> None:
    shapes = Shapes()
    for operation in operations:
        key = operation.key
        if isinstance(operation, Set | Increment | Delete) or key not in state or not (type(key) is str and key.isascii()):
            continue
        value = state[key]
        for name, item in result.items():
            if name in found or type(name) is not str or not name.isascii():
                continue
            if item is value or (name == key and _are_same(item, value, shapes)):
                found[name] = key


def _are_same(item: Any, value: Any, shapes: Shapes) -> bool:
    try:
        return shapes.same(item, value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # code of a value's own class: it is stored, or refused, as a part of the result
        return False
