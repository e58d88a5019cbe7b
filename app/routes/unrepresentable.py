"""What is wrong with a body that is JSON by its grammar, and still no value that can be kept."""

import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["unrepresentable"]

_MOST_ERRORS = 10
_SURROGATE = re.compile("[\ud800-\udfff]")


class _TooLong:
    """Stands for an integer with too many digits."""


def unrepresentable(raw: bytes, is_too_deep: bool) -> list[dict[str, str]]:
    """Return the places in a body that no value stands for, each with what is wrong; nothing if the body is no JSON.

    `is_too_deep` says that the parser has given up for its depth.
    """
    try:
        document = json.loads(raw.decode(), parse_constant=_refuse, parse_int=_integer)
    except (ValueError, RecursionError):
        return []
    found = []
    for path, message in _faults(document):
        found.append({"where": ".".join(["body", *path]), "message": message})
        if len(found) == _MOST_ERRORS:
            break
    return found or ([{"where": "body", "message": "is nested too deeply"}] if is_too_deep else [])


def _faults(document: Any) -> Iterator[tuple[list[str], str]]:
    rest: list[tuple[list[str], Any]] = [([], document)]
    while rest:
        path, value = rest.pop()
        if isinstance(value, dict):
            if any(map(_SURROGATE.search, value)):
                yield path, "has a name with a lone surrogate, which is half of a character"
            rest += [([*path, key], item) for key, item in reversed(value.items()) if not _SURROGATE.search(key)]
        elif isinstance(value, list):
            rest += [([*path, str(index)], item) for index, item in reversed([*enumerate(value)])]
        elif isinstance(value, str) and (half := _SURROGATE.search(value)):
            yield path, f"holds the lone surrogate \\u{ord(half[0]):04x}, which is half of a character"
        elif isinstance(value, float) and math.isinf(value):
            yield path, f"is a number beyond {sys.float_info.max}, the largest that can be kept"
        elif isinstance(value, _TooLong):
            yield path, f"is a number of more than {sys.get_int_max_str_digits()} digits"


def _integer(digits: str) -> Any:
    return int(digits) if len(digits) <= sys.get_int_max_str_digits() else _TooLong()


def _refuse(name: str) -> Any:
    raise ValueError(name)
