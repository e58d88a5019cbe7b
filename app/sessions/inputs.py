"""The inputs of a run as they are stored with it: looked at when the run is asked for, not when its first step is stored."""

from collections.abc import Mapping
from types import NoneType
from typing import Any

import orjson

from app.engine.serde import UndecodableValue, UnserializableValue, decode_hosted, encode

__all__ = ["kept_inputs"]

_UNCHANGING = frozenset({NoneType, bool, int, float, str})


def kept_inputs(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a copy of `inputs` that shares nothing with them which an action could change. Raises UnserializableValue."""
    if not inputs:
        return inputs
    copied = dict(inputs)
    try:
        document = encode(copied)
    except UnserializableValue as error:
        raise error.under("inputs") from None
    if all(type(value) in _UNCHANGING for value in copied.values()):
        return copied
    try:
        kept: dict[str, Any] = decode_hosted(orjson.loads(orjson.dumps(document)))
    except UndecodableValue as error:
        raise UnserializableValue("dict", f"it would not come back: {error}", ("inputs",)) from None
    return kept
