"""Whether values are many: to be encoded beside the event loop. A quick look that calls no code of theirs."""

import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Any

__all__ = ["are_many"]

_CHARACTERS = 1024  # that take as long as one value
_SETS = (set, frozenset, deque)


def are_many(values: Iterable[Any], most: int) -> bool:
    """Whether there are more than `most` values within `values`; a thousand characters of text count as one.

    What is there twice counts twice, as it is written twice: values that share their parts can be far larger than they look.
    """
    waiting = list(values)
    left = most - len(waiting)
    while waiting and left >= 0:
        value = waiting.pop()
        kind = type(value)
        if kind is str or kind is bytes:
            left -= len(value) // _CHARACTERS
            continue
        parts: Iterable[Any] = ()
        if issubclass(kind, dict):
            left -= dict.__len__(value)
            parts = dict.values(value)
        elif issubclass(kind, list):
            left -= list.__len__(value)
            parts = list.__iter__(value)
        elif issubclass(kind, tuple):
            left -= tuple.__len__(value)
            parts = tuple.__iter__(value)
        elif kind in _SETS:
            left -= len(value)
            parts = value
        elif kind.__dictoffset__ or "__dataclass_fields__" in vars(kind):
            fields = _fields(value)
            left -= len(fields)
            parts = fields.values()
        if left >= 0:
            waiting.extend(parts)
    return left < 0


def _fields(value: Any) -> dict[str, Any]:
    try:
        fields = object.__getattribute__(value, "__dict__")
    except AttributeError:
        fields = {}
        for name in vars(type(value)).get("__dataclass_fields__", ()):
            with contextlib.suppress(AttributeError):  # one that is not set
                fields[name] = object.__getattribute__(value, name)
    return fields if type(fields) is dict else {}
