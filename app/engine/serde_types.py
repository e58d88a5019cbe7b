"""How values of the standard library's types are written: collections, bytes, times, ids and numbers.

One pair of functions per type, entered into the table of `serde_codec` when this module is imported.
"""

import base64
import datetime
import decimal
import fractions
import pathlib
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from app.engine.serde_codec import UnserializableValue, decode, define_type, encode_at, encode_pairs, encode_text
from app.engine.working_copies import SETS

__all__: list[str] = []

_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "None": None,
    **{factory.__name__: factory for factory in (bool, bytes, dict, float, int, list, set, str, tuple)},
}


def _items(values: Iterable[Any], depth: int) -> list[list[Any]]:
    documents = []
    for index, value in enumerate(values):
        try:
            documents.append(encode_at(value, depth + 1))
        except UnserializableValue as error:
            raise error.under(f"[{index}]") from None
    return [documents]


def _members(values: Iterable[Any], depth: int) -> list[list[Any]]:
    documents = []
    for value in values:
        try:
            documents.append(encode_at(value, depth + 1))
        except UnserializableValue as error:
            raise error.under("{…}") from None
    return [documents]


def _pairs(values: dict[Any, Any], depth: int) -> list[list[Any]]:
    return [encode_pairs(values, depth)]


def _decoded(documents: list[Any]) -> list[Any]:
    return [decode(document) for document in documents]


def _decoded_pairs(documents: list[Any]) -> list[tuple[Any, Any]]:
    return [(decode(key), decode(value)) for key, value in documents]


def _encode_defaultdict(value: defaultdict[Any, Any], depth: int) -> list[Any]:
    factory = value.default_factory
    name = next((name for name, known in _FACTORIES.items() if known is factory), None)
    if name is None:
        raise UnserializableValue("collections.defaultdict", "its factory is not a built-in type")
    return [name, *_pairs(value, depth)]


def _decode_defaultdict(name: str, items: list[Any]) -> defaultdict[Any, Any]:
    return defaultdict(_FACTORIES[name], _decoded_pairs(items))


def _base64(value: bytes | bytearray, _: int) -> list[Any]:
    return [base64.b64encode(value).decode()]


def _encode_fraction(value: fractions.Fraction, depth: int) -> list[Any]:
    return [encode_at(value.numerator, depth), encode_at(value.denominator, depth)]


def _encode_range(value: range, depth: int) -> list[Any]:
    return [encode_at(end, depth) for end in (value.start, value.stop, value.step)]


def _zone(tzinfo: datetime.tzinfo | None, offset: datetime.timedelta | None) -> Any:
    """Return a document for a time zone. A zone of a foreign kind is kept as its offset at that moment."""
    if tzinfo is None:
        return None
    if type(tzinfo) is zoneinfo.ZoneInfo and tzinfo.key is not None:
        try:
            zoneinfo.ZoneInfo(tzinfo.key)  # it may have been made of a file of one's own
        except (LookupError, OSError, ValueError):
            raise UnserializableValue("ZoneInfo", "no time zone is known by its key") from None
        return tzinfo.key
    if offset is None:
        raise UnserializableValue(type(tzinfo).__name__, "a time of day in a foreign time zone has no offset of its own")
    name = tzinfo.tzname(None) if type(tzinfo) is datetime.timezone else None
    is_named = name is not None and name != datetime.timezone(offset).tzname(None)
    # exact types: a user's tzinfo may give a subclass of timedelta
    plain = datetime.timedelta(int(offset.days), int(offset.seconds), int(offset.microseconds))
    offset_us = plain // datetime.timedelta(microseconds=1)
    return [offset_us, encode_text(str(name))] if is_named else [offset_us]


def _decode_zone(document: Any) -> datetime.tzinfo | None:
    match document:
        case None:
            return None
        case str(key):
            return zoneinfo.ZoneInfo(key)
        case [0]:
            return datetime.UTC
        case [offset_us, *name]:
            return datetime.timezone(datetime.timedelta(microseconds=offset_us), *map(decode, name))
    raise ValueError("no zone")


def _encode_datetime(value: datetime.datetime, _: int) -> list[Any]:
    return [value.replace(tzinfo=None, fold=0).isoformat(), _zone(value.tzinfo, value.utcoffset()), value.fold]


def _decode_datetime(text: str, zone: Any, fold: int) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=_decode_zone(zone), fold=fold)


def _encode_time(value: datetime.time, _: int) -> list[Any]:
    return [value.replace(tzinfo=None, fold=0).isoformat(), _zone(value.tzinfo, value.utcoffset()), value.fold]


def _decode_time(text: str, zone: Any, fold: int) -> datetime.time:
    return datetime.time.fromisoformat(text).replace(tzinfo=_decode_zone(zone), fold=fold)


define_type(tuple, "tuple", _items, lambda items: tuple(_decoded(items)))
for _set_type in SETS:
    define_type(_set_type, "set", _members, lambda items: set(_decoded(items)))
define_type(frozenset, "frozenset", _members, lambda items: frozenset(_decoded(items)))
define_type(
    deque, "deque", lambda value, depth: [*_items(value, depth), value.maxlen], lambda items, n: deque(_decoded(items), n)
)
define_type(OrderedDict, "OrderedDict", _pairs, lambda items: OrderedDict(_decoded_pairs(items)))
define_type(Counter, "Counter", _pairs, lambda items: Counter(dict(_decoded_pairs(items))))
define_type(defaultdict, "defaultdict", _encode_defaultdict, _decode_defaultdict)
define_type(bytes, "bytes", _base64, base64.b64decode)
define_type(bytearray, "bytearray", _base64, lambda text: bytearray(base64.b64decode(text)))
define_type(datetime.datetime, "datetime", _encode_datetime, _decode_datetime)
define_type(datetime.time, "time", _encode_time, _decode_time)
define_type(datetime.date, "date", lambda value, _: [value.isoformat()], datetime.date.fromisoformat)
define_type(datetime.timedelta, "timedelta", lambda value, _: [value.days, value.seconds, value.microseconds], datetime.timedelta)
define_type(uuid.UUID, "UUID", lambda value, _: [value.hex], uuid.UUID)
define_type(decimal.Decimal, "Decimal", lambda value, _: [str(value)], decimal.Decimal)
define_type(complex, "complex", lambda value, _: [repr(value.real), repr(value.imag)], lambda *parts: complex(*map(float, parts)))
define_type(fractions.Fraction, "Fraction", _encode_fraction, lambda *parts: fractions.Fraction(*map(decode, parts)))
define_type(range, "range", _encode_range, lambda *ends: range(*map(decode, ends)))
for _path_type in (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())):
    # a name of a file that is no UTF-8 has lone surrogates
    define_type(
        _path_type,
        _path_type.__name__,
        lambda value, _: [encode_text(str(value))],
        lambda text, path_type=_path_type: path_type(decode(text)),
    )
