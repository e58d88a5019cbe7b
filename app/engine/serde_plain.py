"""Values as plain JSON, one way: what clients see of them. See docs/adr/0012.

A tuple or a set is a list, a time is RFC 3339 text, an enum its value, a model or a dataclass an object, bytes are base64, NaN
and the infinities are null. The walk never fails and returns nothing of a user's class, so that the JSON library never looks
at an object that it does not know. It reads and writes no bytes; what can be read back is `serde_codec`'s affair.
"""

import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from types import NoneType
from typing import Any, TypeAlias

import orjson
import pydantic
from pydantic_core import to_jsonable_python

from app.engine.frozen_values import FlatDict, FlatList, FrozenDict, FrozenList, FrozenSet
from app.engine.serde_codec import is_unicode, name_of_type
from app.engine.serde_models import dumped_fields
from app.engine.serde_registry import KEY, registered_serializer
from app.engine.serde_unreadable import UnreadableValue

__all__ = ["TooLarge", "plain"]

_MAX_DEPTH = 250  # the JSON library stops at 254; a value that was stored has less, with whatever is around it
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_LONGEST_INT_BITS = 14_000  # as decimal digits Python converts 4,300 at most: the work grows with the square
_LONG_TEXT = 1024

Convert: TypeAlias = Callable[["_Walk", Any, int], Any]


class TooLarge(Exception):
    """There is more to convert than the caller wants to wait for."""


def plain(value: Any, most: int | None = None, unknown: Callable[[Any], str] | None = None) -> Any:
    """Return `value` as plain JSON; containers that are plain already are returned as they are, not copied.

    What has no such form is what `unknown` makes of it, or the name of its type in angle brackets. With `most` it raises
    TooLarge when there are more than so many values in it; a thousand characters of text count as one.
    """
    return _Walk(-1 if most is None else most, unknown or _shown_type).convert(value, 0)


class _Walk:
    """One conversion. `left` is how many values may follow; below zero from the start: any number."""

    __slots__ = ("is_bounded", "left", "unknown")

    def __init__(self, left: int, unknown: Callable[[Any], str]) -> None:
        self.unknown = unknown
        self.left = left
        self.is_bounded = left >= 0

    def convert(self, value: Any, depth: int) -> Any:
        """Return a value `depth` levels below the top as plain JSON."""
        known = _EXACT.get(type(value))
        if known is not None:
            return known(self, value, depth)
        try:
            return self._other(value, depth)
        except TooLarge:
            raise
        except BaseException:  # code of the value's own class, a KeyboardInterrupt of it too: only services show values like this
            return _shown_type(value)

    def count(self, number: int) -> None:
        if self.is_bounded:
            self.left -= number
            if self.left < 0:
                raise TooLarge

    def object(self, fields: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        return {_text(self, name, 0): self.convert(item, depth + 1) for name, item in fields}

    def _other(self, value: Any, depth: int) -> Any:
        """Convert what is of a class that is not in the table; calls code of that class."""
        if depth > _MAX_DEPTH:
            return _shown_type(value)
        self.count(1)
        cls = type(value)
        if issubclass(cls, enum.Enum):
            return self.convert(value._value_, depth + 1)
        for base, convert in _BASES:
            if issubclass(cls, base):
                return convert(self, value, depth)
        if issubclass(cls, pydantic.BaseModel):
            return _model(self, value, depth)
        if dataclasses.is_dataclass(cls):
            return _dataclass(self, value, depth)
        serializer = registered_serializer(cls)
        if serializer is not None:
            return _registered(self, value, serializer, depth)
        return _text(self, str.__str__(self.unknown(value)), 0)


def _shown_type(value: Any) -> str:
    return f"<{name_of_type(type(value))}>"


def _same(_walk: _Walk, value: Any, _: int) -> Any:
    return value


def _int(_walk: _Walk, value: int, _: int) -> Any:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    if value.bit_length() > _LONGEST_INT_BITS:
        return hex(value)
    return orjson.Fragment(str(value))  # a number of any size is still JSON


def _float(_walk: _Walk, value: float, _: int) -> Any:
    return value if isfinite(value) else None


def _text(walk: _Walk, value: str, _: int) -> str:
    if len(value) > _LONG_TEXT:
        walk.count(len(value) // _LONG_TEXT)
    if value.isascii() or is_unicode(value):
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _list(walk: _Walk, value: list[Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return _shown_type(value)
    if walk.is_bounded:
        walk.count(len(value))
    changed: list[Any] | None = None
    for index, item in enumerate(value):
        kind = type(item)
        if (kind is str and item.isascii() and len(item) <= _LONG_TEXT) or (kind is int and _INT_MIN <= item <= _INT_MAX):
            continue  # most values: a call for each would be most of the work
        known = _EXACT.get(kind)
        document = known(walk, item, depth + 1) if known is not None else walk.convert(item, depth + 1)
        if document is not item:
            if changed is None:
                changed = list(value)
            changed[index] = document
    return value if changed is None else changed


def _dict(walk: _Walk, value: dict[Any, Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return _shown_type(value)
    if walk.is_bounded:
        walk.count(len(value))
    changed: dict[str, Any] | None = None
    for key, item in value.items():
        if type(key) is not str or not (key.isascii() or is_unicode(key)):
            return _odd_dict(walk, value, depth)
        kind = type(item)
        if (kind is str and item.isascii() and len(item) <= _LONG_TEXT) or (kind is int and _INT_MIN <= item <= _INT_MAX):
            continue  # most values: a call for each would be most of the work
        known = _EXACT.get(kind)
        document = known(walk, item, depth + 1) if known is not None else walk.convert(item, depth + 1)
        if document is not item:
            if changed is None:
                changed = dict(value)
            changed[key] = document
    return value if changed is None else changed


def _odd_dict(walk: _Walk, value: dict[Any, Any], depth: int) -> Any:
    """Convert a dict of which a key is no text: an object if each key has a text of its own, otherwise a list of pairs."""
    pairs = list(dict.items(value))
    names = [_key(walk, key) for key, _ in pairs]
    if None not in names and len(set(names)) == len(names):
        return {name: walk.convert(item, depth + 1) for name, (_, item) in zip(names, pairs, strict=True)}
    return [[walk.convert(key, depth + 2), walk.convert(item, depth + 2)] for key, item in pairs]


def _key(walk: _Walk, key: Any) -> str | None:
    """Return a key as text, None if there is no usual text for it."""
    if isinstance(key, enum.Enum):
        key = key._value_
    if key is None:
        return "None"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, tuple):
        parts = [_key(walk, part) for part in tuple.__iter__(key)]
        return None if None in parts else ",".join(part or "" for part in parts)
    if isinstance(key, str):
        return _text(walk, str.__str__(key), 0)
    if type(key) is float or (type(key) is int and key.bit_length() <= _LONGEST_INT_BITS):
        return str(key)
    if type(key) in _TEXT_KEYS:
        return str(_EXACT[type(key)](walk, key, 0))
    return None


def _items(walk: _Walk, values: Iterable[Any], depth: int) -> Any:
    return _list(walk, list(values), depth)


def _tuple(walk: _Walk, value: tuple[Any, ...], depth: int) -> Any:
    return _list(walk, list(tuple.__iter__(value)), depth)


def _plain_dict(walk: _Walk, value: dict[Any, Any], depth: int) -> Any:
    return _dict(walk, dict(dict.items(value)), depth)


def _bytes(walk: _Walk, value: bytes | bytearray, _: int) -> str:
    walk.count(len(value) // _LONG_TEXT)
    return base64.urlsafe_b64encode(value).decode()


def _time(_walk: _Walk, value: datetime.datetime | datetime.date | datetime.time, _: int) -> str:
    try:
        return value.isoformat()
    except BaseException:  # code of a tzinfo
        return _shown_type(value)


def _str(walk: _Walk, value: Any, _: int) -> str:
    try:
        return _text(walk, str(value), 0)
    except AttributeError:  # made without its constructor
        return _shown_type(value)


def _leaf(_walk: _Walk, value: Any, _: int) -> Any:
    return to_jsonable_python(value)


def _range(walk: _Walk, value: range, depth: int) -> Any:
    return walk.object((("start", value.start), ("stop", value.stop), ("step", value.step)), depth)


def _fraction(walk: _Walk, value: fractions.Fraction, depth: int) -> Any:
    parts = value.numerator, value.denominator
    return f"{parts[0]}/{parts[1]}" if max(map(int.bit_length, parts)) <= _LONGEST_INT_BITS else _tuple(walk, parts, depth)


def _dataclass(walk: _Walk, value: Any, depth: int) -> Any:
    cls = type(value)
    values = getattr(value, "__dict__", {})
    found = {field.name: getattr(value, field.name) for field in dataclasses.fields(cls) if hasattr(value, field.name)}
    found |= {name: item for name, item in values.items() if not isinstance(getattr(cls, name, None), functools.cached_property)}
    return walk.object(((name, item) for name, item in found.items() if not name.startswith("_")), depth)


def _model(walk: _Walk, value: pydantic.BaseModel, depth: int) -> Any:
    dumped = dumped_fields(value)
    return walk.object(dumped.items(), depth) if isinstance(dumped, dict) else walk.convert(dumped, depth + 1)


def _registered(walk: _Walk, value: Any, serializer: Callable[[Any], Any], depth: int) -> Any:
    document = serializer(value)
    if not isinstance(document, Mapping):
        return walk.convert(document, depth + 1)
    if document.get(KEY) == "pickle":
        return _shown_type(value)
    shown = {name: item for name, item in document.items() if name != KEY}
    return walk.convert(shown, depth + 1)


_EXACT: dict[type, Convert] = {
    NoneType: _same,
    bool: _same,
    int: _int,
    float: _float,
    str: _text,
    list: _list,
    FlatList: _list,
    FrozenList: _list,
    dict: _dict,
    FlatDict: _dict,
    FrozenDict: _dict,
    FrozenSet: _items,
    orjson.Fragment: _same,
    tuple: _tuple,
    set: _items,
    frozenset: _items,
    deque: _items,
    OrderedDict: _plain_dict,
    Counter: _plain_dict,
    defaultdict: _plain_dict,
    bytes: _bytes,
    bytearray: _bytes,
    datetime.datetime: _time,
    datetime.date: _time,
    datetime.time: _time,
    datetime.timedelta: _leaf,
    complex: _leaf,
    uuid.UUID: _str,
    decimal.Decimal: _str,
    fractions.Fraction: _fraction,
    range: _range,
    pathlib.PurePosixPath: _str,
    pathlib.PureWindowsPath: _str,
    type(pathlib.Path()): _str,
    UnreadableValue: lambda _walk, value, _: {"unreadable": str(value.type_name)},  # never its document
}
_TEXT_KEYS = frozenset(
    {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, decimal.Decimal, pathlib.PurePosixPath}
)
# subclasses of JSON's own types: read with the methods of the base, whatever the class has made of them
_BASES: tuple[tuple[type, Convert], ...] = (
    (str, lambda walk, value, _: _text(walk, str.__str__(value), 0)),
    (dict, _plain_dict),
    (list, lambda walk, value, depth: _list(walk, list(list.__iter__(value)), depth)),
    (tuple, _tuple),
    (set, lambda walk, value, depth: _items(walk, set.__iter__(value), depth)),
    (frozenset, lambda walk, value, depth: _items(walk, frozenset.__iter__(value), depth)),
    (int, lambda walk, value, _: _int(walk, int.__index__(value), 0)),
    (float, lambda walk, value, _: _float(walk, float.__float__(value), 0)),
    (bytes, lambda walk, value, _: _bytes(walk, bytes.__bytes__(value), 0)),
)
