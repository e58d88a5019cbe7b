"""About how many bytes a value takes once it is stored, and whether it is nested so deep that it cannot be."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["TOO_DEEP", "weight_of"]

TOO_DEEP: Final = 1 << 60
"""More than any limit: of a value that may be nested too deep to be stored below another."""

_LEVELS = 200
_LEVELS_OF_CLASS = 5  # of JSON, that an instance of a class or a collection takes
_OTHER_BYTES = 12


def weight_of(value: Any, limit: int, level: int = 0) -> int:
    """Return about the bytes of `value` as JSON, `level` levels below the top: rather too few, and any number from `limit` on."""
    kind = type(value)
    if kind is str:
        text = str(value)
        return len(text) + 2 if text.isascii() and text.isprintable() else len(text.encode("utf-8", "surrogatepass")) + 2
    if value is None or kind is bool:
        return 4
    if kind is int:
        bits: int = value.bit_length()
        return 1 + bits // 4
    if kind is float:
        return 3
    if level > _LEVELS:
        return TOO_DEEP
    total = 2
    parts: Mapping[Any, Any]
    if isinstance(value, list | tuple | set | frozenset | deque):
        level += 1 if isinstance(value, list) else _LEVELS_OF_CLASS
        for item in value:
            total += 1 + weight_of(item, limit - total, level)
            if total >= limit:
                break
        return total
    if isinstance(value, dict):
        parts = value
        level += _LEVELS_OF_CLASS if isinstance(value, OrderedDict | Counter | defaultdict) else 1
    else:
        names = getattr(kind, "__dataclass_fields__", ())
        parts = {name: getattr(value, name, None) for name in names} or getattr(value, "__dict__", {})
        total += _OTHER_BYTES
        level += _LEVELS_OF_CLASS
    for key, item in parts.items():
        total += 2 + weight_of(key, limit - total, level) + weight_of(item, limit - total, level)
        if total >= limit:
            break
    return total
