"""Values that are no plain containers: which of them never change and can be shared, and how the others are copied."""

import copy
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import chain, repeat
from operator import attrgetter
from typing import Any, Final

from pydantic import BaseModel

from app.engine.frozen_values import IMMUTABLE, PLAIN

__all__ = [
    "FIELDS_OF",
    "are_bare_models",
    "copy_containers",
    "copy_flat_model",
    "copy_flat_models",
    "copy_object",
    "is_immutable",
]

FIELDS_OF: Final = attrgetter("__dict__")
_fields_set_of: Final = attrgetter("__pydantic_fields_set__")
_private_of: Final = attrgetter("__pydantic_private__")
_extra_of: Final = attrgetter("__pydantic_extra__")
_new, _set = object.__new__, object.__setattr__
_DEEPEST = 20  # how far into tuples and frozen objects it is worth looking


def is_immutable(value: Any, depth: int = 0) -> bool:
    """Return whether nothing in `value` can be changed: a class, an enum member, a tuple or frozen object of such values.

    Never fails: False of a value whose own code raises.
    """
    if type(value) in IMMUTABLE:
        return True
    try:
        return _is_immutable(value, depth)
    except Exception:  # a `__class__` or `__dict__` of the user's, say
        return False


def _is_immutable(value: Any, depth: int) -> bool:
    cls = type(value)
    if issubclass(cls, type | Enum):
        return True
    if depth > _DEEPEST:
        return False
    if cls is tuple or cls is frozenset or (isinstance(value, tuple) and not hasattr(value, "__dict__")):
        return all(is_immutable(item, depth + 1) for item in value)
    parameters = cls.__dict__.get("__dataclass_params__")  # its own: a base may be frozen where the class is not
    if parameters is not None and parameters.frozen:
        fields = [getattr(value, name, None) for name in cls.__dataclass_fields__]
        extra = getattr(value, "__dict__", {}).keys() - cls.__dataclass_fields__.keys()
        return not extra and all(is_immutable(field, depth + 1) for field in fields)
    return False


def copy_flat_model(value: Any) -> Any:
    """Return a copy of a pydantic model of which no field can be changed in place, a tenth of the work of a deep copy.

    None for every other value, and for a model that copies itself in a way of its own.
    """
    cls = type(value)
    if not issubclass(cls, BaseModel) or cls.__deepcopy__ is not BaseModel.__deepcopy__ or cls.__new__ is not object.__new__:
        return None
    fields = value.__dict__
    if value.__pydantic_private__ or value.__pydantic_extra__ or not IMMUTABLE.issuperset(map(type, fields.values())):
        return None
    copied = _new(cls)
    _set(copied, "__dict__", fields.copy())
    _set(copied, "__pydantic_fields_set__", value.__pydantic_fields_set__.copy())
    _set(copied, "__pydantic_extra__", value.__pydantic_extra__)
    _set(copied, "__pydantic_private__", value.__pydantic_private__)
    return copied


def are_bare_models(cls: type, items: list[Any]) -> bool:
    """Return whether instances of `cls` are pydantic models that consist of fields alone, of values that never change."""
    if (
        not issubclass(cls, BaseModel)
        or cls.__deepcopy__ is not BaseModel.__deepcopy__
        or cls.__new__ is not object.__new__
        or cls.__getattribute__ is not object.__getattribute__
    ):
        return False
    try:
        if any(map(_private_of, items)) or any(map(_extra_of, items)):
            return False
        return IMMUTABLE.issuperset(map(type, chain.from_iterable(map(dict.values, map(FIELDS_OF, items)))))
    except AttributeError:  # one that was never initialised
        return False


def copy_flat_models(items: list[Any]) -> list[Any] | None:
    """Return copies of pydantic models as `copy_flat_model` makes them, if all are of one class and can be copied so.

    All work is done in C: about a fifth of what one call for each takes.
    """
    kinds = set(map(type, items))
    if len(kinds) != 1 or len(set(map(id, items))) < len(items):
        return None
    (cls,) = kinds
    if not are_bare_models(cls, items):
        return None
    copies: list[Any] = list(map(_new, repeat(cls, len(items))))
    _fill("__dict__", copies, map(dict.copy, map(FIELDS_OF, items)))
    _fill("__pydantic_fields_set__", copies, map(set.copy, map(_fields_set_of, items)))
    _fill("__pydantic_extra__", copies, map(_extra_of, items))
    _fill("__pydantic_private__", copies, map(_private_of, items))
    return copies


def _fill(name: str, items: list[Any], values: Iterable[Any]) -> None:
    deque(map(_set, items, repeat(name), values), maxlen=0)


def copy_object(value: Any) -> Any:
    """Return a deep copy of `value`; the value itself if nothing in it can change or it cannot be copied, as a lock."""
    if is_immutable(value):
        return value
    if PLAIN.get(type(value)) in (list, dict):
        return copy_containers(value)
    try:
        copied = copy_flat_model(value)
        return copy.deepcopy(value) if copied is None else copied
    except Exception:  # a user's __deepcopy__, a half-made model, or a value that is nested too deeply
        return value


def copy_containers(value: Any, copy_other: Callable[[Any], Any] = copy_object) -> Any:
    """Return a deep copy of lists, dicts and tuples however deep they are nested, also if they contain themselves.

    `copy_other` copies sets and everything else. The keys of dicts are shared.
    """
    made: dict[int, Any] = {}
    kept: list[Any] = []  # the originals: while they live no other object has an id that is in `made`
    waiting = [value]
    while waiting:
        each = waiting[-1]
        plain = PLAIN.get(type(each))
        if type(each) is tuple and (missing := [item for item in each if not _is_made(item, made)]) and id(each) not in made:
            waiting.extend(missing)
            continue
        waiting.pop()
        if id(each) in made:
            continue
        kept.append(each)
        if type(each) is tuple:
            made[id(each)] = tuple([made.get(id(item), item) for item in each])
        elif plain is list or plain is dict:
            made[id(each)] = plain()  # filled below
            waiting.extend(item for item in _raw_items(each) if not _is_made(item, made))
        else:
            made[id(each)] = copy_other(set(each) if plain is set else each)
    for each in kept:
        plain = PLAIN.get(type(each))
        if plain is list:
            made[id(each)] += [made.get(id(item), item) for item in _raw_items(each)]
        elif plain is dict:
            made[id(each)].update(zip(dict.keys(each), [made.get(id(item), item) for item in _raw_items(each)], strict=True))
    return made[id(value)]


def _raw_items(container: Any) -> list[Any]:
    return list.copy(container) if isinstance(container, list) else list(dict.values(container))


def _is_made(item: Any, made: dict[int, Any]) -> bool:
    return type(item) in IMMUTABLE or id(item) in made
