"""Values that are no plain containers: which of them never change and can be shared, and how the others are copied."""

import copy
from enum import Enum
from typing import Any

from app.engine.frozen_values import IMMUTABLE

__all__ = ["copy_object", "is_immutable"]

_DEEPEST = 20  # how far into tuples and frozen objects it is worth looking


def is_immutable(value: Any, depth: int = 0) -> bool:
    """Return whether nothing in `value` can be changed: a class, an enum member, a tuple or frozen object of such values."""
    cls = type(value)
    if cls in IMMUTABLE or isinstance(value, type | Enum):
        return True
    if depth > _DEEPEST:
        return False
    if cls is tuple or cls is frozenset or (isinstance(value, tuple) and not hasattr(value, "__dict__")):
        return all(is_immutable(item, depth + 1) for item in value)
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen and "__dataclass_params__" in cls.__dict__:
        fields = [getattr(value, name, None) for name in cls.__dataclass_fields__]
        extra = getattr(value, "__dict__", {}).keys() - cls.__dataclass_fields__.keys()
        return not extra and all(is_immutable(field, depth + 1) for field in fields)
    return False


def copy_object(value: Any) -> Any:
    """Return a deep copy of `value`; the value itself if nothing in it can change or it cannot be copied, as a lock."""
    if is_immutable(value):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever a user's __deepcopy__ raises; a value that is nested too deeply, too
        return value
