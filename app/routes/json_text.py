"""Values as JSON text for clients.

Plain and one-way: a tuple or a set is a list, a date is RFC 3339 text, a model or a dataclass is an object, bytes are base64, NaN
and the infinities are null. What has no such form appears as `app.engine.serde` would store it.
"""

from typing import Any

import orjson
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from app.engine.serde import UnserializableValue, encode

__all__ = ["dump"]


def dump(value: Any) -> bytes:
    """Return `value` as JSON text. Never fails: a value without any form appears as the name of its type."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:  # integers beyond 64 bits, keys that are no strings, text that is not Unicode
        return _dump_odd(value)


def _dump_odd(value: Any) -> bytes:
    try:
        return to_json(value, bytes_mode="base64", inf_nan_mode="null", fallback=_stored_form)
    except (PydanticSerializationError, ValueError):
        return orjson.dumps(_stored_form(value))


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="null", fallback=_stored_form)


def _stored_form(value: Any) -> Any:
    try:
        return encode(value)
    except UnserializableValue:
        return f"<{type(value).__name__}>"
