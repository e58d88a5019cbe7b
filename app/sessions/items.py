"""Streamed items as clients see them: turned into plain JSON when they are given, for their action may change them afterwards."""

from types import NoneType
from typing import Any

import orjson

from app.engine.serde import UnserializableValue, encode
from app.engine.serde_plain import plain
from app.engine.serde_size import are_many
from app.engine.working_copies import DICTS

__all__ = ["MOST_VALUES", "shown_item"]

MOST_VALUES = 200_000
"""Values that an item may hold: it is turned into text on the event loop."""
_UNCHANGING = frozenset({NoneType, bool, int, float, str})


def shown_item(action: str, index: int, item: Any) -> Any:
    """Return `item` as plain JSON that shares nothing with it. An item must be of the kinds that can be stored.

    Raises UnserializableValue, which names the action and the item by its number.
    """
    if are_many([item], MOST_VALUES):
        reason = f"it holds more than {MOST_VALUES:,} values, or contains itself"
        raise UnserializableValue(type(item).__name__, reason, (f"item {index}",), f"action {action!r}")
    try:
        document = encode(item)
    except UnserializableValue as error:
        raise error.under(f"item {index}").of(f"action {action!r}") from None
    shown = item if document is item else plain(item)
    if type(shown) in DICTS and all(type(value) in _UNCHANGING for value in shown.values()):
        return dict(shown)
    return orjson.Fragment(orjson.dumps(shown))
