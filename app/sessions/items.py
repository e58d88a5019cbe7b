"""Streamed items as clients see them: turned into plain JSON when they are given, for their action may change them afterwards."""

from types import NoneType
from typing import Any

import orjson

from app.engine.serde import UnserializableValue, encode
from app.engine.serde_plain import plain
from app.engine.working_copies import DICTS

__all__ = ["shown_item"]

_UNCHANGING = frozenset({NoneType, bool, int, float, str})


def shown_item(action: str, index: int, item: Any) -> Any:
    """Return `item` as plain JSON that shares nothing with it. An item must be of the kinds that can be stored.

    Raises UnserializableValue, which names the action and the item by its number.
    """
    try:
        document = encode(item)
    except UnserializableValue as error:
        raise error.under(f"item {index}").of(f"action {action!r}") from None
    shown = item if document is item else plain(item)
    if type(shown) in DICTS and all(type(value) in _UNCHANGING for value in shown.values()):
        return dict(shown)
    return orjson.Fragment(orjson.dumps(shown))
