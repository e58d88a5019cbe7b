"""Which strings a database can hold as they are: no NUL (PostgreSQL), no lone surrogate (UTF-8), not too long for an index.

Names and ids are columns and must be storable. State, results and error texts are inside blobs and may hold anything.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from app.persistence.store import TextUnstorable

__all__ = ["is_storable", "require_key", "require_name", "require_storable"]

_REASON = "must hold neither NUL nor lone surrogate characters"
LONGEST_KEY = 600  # characters: an index entry of PostgreSQL holds 2,700 bytes


def is_storable(text: str) -> bool:
    """Whether every store can hold `text` in a column."""
    if text.isascii():
        return "\0" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def require_key(what: str, text: str | None) -> None:
    """Raise TextUnstorable, which names `what`, if `text` cannot be a column that sessions are found by."""
    if text is not None:
        if len(text) > LONGEST_KEY:
            raise TextUnstorable(what, f"must have at most {LONGEST_KEY} characters, not {len(text)}")
        if not is_storable(text):
            raise TextUnstorable(what, _REASON)


@lru_cache(maxsize=4096)
def require_name(text: str | None) -> None:
    """Raise TextUnstorable if the name of an action, or of a reason, cannot be a column. There are few, and they come often."""
    if text is not None:
        require_storable("the name of an action, or the reason of an end,", text)


def require_storable(what: str, value: Any) -> None:
    """Raise TextUnstorable, which names `what`, if a string in `value` (a string, or JSON-able) cannot be a column."""
    match value:
        case str():
            if not is_storable(value):
                raise TextUnstorable(what, _REASON)
        case Mapping():
            for key, item in value.items():
                require_storable(what, key)
                require_storable(what, item)
        case list() | tuple():
            for item in value:
                require_storable(what, item)
