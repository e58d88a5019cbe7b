"""What an action is given beside its state: inputs, bound values, default values and the attributes of its instance.

They belong to the caller or to all sessions of the process, so each call gets copies of the containers among them. Other objects,
such as clients and connections, are shared.
"""

import copy
import functools
import inspect
from collections import deque
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any

from app.engine.frozen_values import IMMUTABLE
from app.engine.object_copies import copy_containers, copy_object
from app.engine.working_copies import DICTS, LISTS, SETS

__all__ = ["own_values", "with_own_attributes", "with_own_defaults"]

_DEEPEST = 200
_CONTAINERS = (list, dict, set, deque, bytearray)


def own_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with copies of the containers among them."""
    return {name: value if type(value) in IMMUTABLE else _own(value, {}, 0) for name, value in values.items()}


def with_own_defaults(call: Callable[..., Any], function: Callable[..., Any], bound: Mapping[str, Any]) -> Callable[..., Any]:
    """Return `call` with copies of the containers among `bound` and the default values of `function` for each call."""
    values = {name: value for name, value in {**_defaults(function), **bound}.items() if isinstance(value, _CONTAINERS)}
    if not values:
        return call

    @functools.wraps(call)
    def called(*given: Any, **inputs: Any) -> Any:
        return call(*given, **{**own_values({name: value for name, value in values.items() if name not in inputs}), **inputs})

    return called


def with_own_attributes(action: Any, method: str) -> Callable[..., Any]:
    """Return a method of `action` that is called on a copy of it, if it has containers as attributes."""
    own = getattr(action, method)
    if not hasattr(action, "__dict__"):
        return own  # type: ignore[no-any-return]  # a method

    @functools.wraps(own)
    def called(*given: Any, **inputs: Any) -> Any:
        attributes = vars(action)
        if not any(isinstance(value, _CONTAINERS) for value in attributes.values()):
            return own(*given, **inputs)
        twin = copy.copy(action)
        vars(twin).update(own_values(attributes))
        return getattr(twin, method)(*given, **inputs)

    return called


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    function = inspect.unwrap(function)
    given = (*(getattr(function, "__defaults__", None) or ()), *(getattr(function, "__kwdefaults__", None) or {}).values())
    if not any(isinstance(value, _CONTAINERS) for value in given):
        return {}  # a signature takes its time
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


def _own(value: Any, known: dict[int, Any], depth: int) -> Any:
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    if id(value) in known:
        return known[id(value)]
    if depth > _DEEPEST:
        return copy_containers(value, lambda other: _own(other, known, 0))
    copied: Any
    if kind in LISTS:
        known[id(value)] = copied = []
        copied += [_own(item, known, depth + 1) for item in list.copy(value)]
    elif kind in DICTS:
        known[id(value)] = copied = {}
        copied.update((key, _own(item, known, depth + 1)) for key, item in list(dict.items(value)))
    elif kind in SETS:
        copied = set(value)
    elif kind is tuple:
        items = [_own(item, known, depth + 1) for item in value]
        copied = value if all(map(is_, items, value)) else tuple(items)
    elif isinstance(value, _CONTAINERS):
        copied = copy_object(value)
    else:
        return value
    known[id(value)] = copied
    return copied
