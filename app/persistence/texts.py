"""Which strings a database can hold as they are: no NUL (PostgreSQL), no lone surrogate (UTF-8).

Names and ids are columns and must be storable. State, results and error texts are inside blobs and may hold anything.
"""

from collections.abc import Mapping
from typing import Any

from app.persistence.store import TextUnstorable

__all__ = ["is_storable", "require_storable"]


def is_storable(text: str) -> bool:
    """Whether every store can hold `text` in a column."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_storable(what: str, value: Any) -> None:
    """Raise TextUnstorable, which names `what`, if a string in `value` (a string, or JSON-able) cannot be a column."""
    match value:
        case str():
            if not is_storable(value):
                raise TextUnstorable(what)
        case Mapping():
            for key, item in value.items():
                require_storable(what, key)
                require_storable(what, item)
        case list() | tuple():
            for item in value:
                require_storable(what, item)
