"""Takes values that may be secret out of a text: those of a state, of inputs, and of this process's environment.

A value is found as Python writes it (`str`, `repr`), escaped as JSON escapes it, and in pieces. If a state is too large to be
searched, nothing of the text is shown.
"""

import dataclasses
import json
import os
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any
from uuid import UUID

from app.engine.working_copies import LISTS

__all__ = ["LONGEST_MESSAGE", "WITHHELD", "WithheldValues"]

LONGEST_MESSAGE = 2_000
WITHHELD = "[withheld]"
_UNSEARCHED = "[withheld: the state is too large to be searched for what must not be shown]"

_SHORTEST_SECRET = 6  # shorter values are words like `move`: hiding them would hide the message
_PIECE = 20  # so much of a longer value is withheld by itself, because a text may repeat a value in part
_PROBE = _PIECE // 2  # every piece has a probe in it that begins at a multiple of its length
_MOST_VALUES = 50_000  # for the sake of the event loop
_MOST_WORK = 120_000_000  # probes times characters: about 50 ms
_BETWEEN = "\x00\n"

_SECRET_NAME = re.compile(r"key|token|secret|passw|pwd|credential|database_url|dsn", re.IGNORECASE)
_SHORTEST_SETTING = 8

_WRITTEN = (date, time, timedelta, Decimal, Fraction, UUID, PurePath, IPv4Address, IPv6Address, complex)
_PLAIN = (str, bytes, bytearray, int, float)
_LISTS = LISTS | {tuple}
_CODE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)


class WithheldValues:
    """What is not to be repeated: the values in `sources`, which are mappings from names to values, and secret settings.

    The names themselves are the machine's, and may be shown. Keys of mappings further down are withheld as values are. Of the
    environment those variables count whose names say that they are secret.
    """

    def __init__(self, *sources: Mapping[str, Any]) -> None:
        self._public = {name for source in sources for name in source}
        self._short: set[str] = set()
        self._long: list[str] = []
        self._is_complete = True
        self._collect([value for source in sources for value in source.values()])
        for name, setting in os.environ.items():
            if len(setting) >= _SHORTEST_SETTING and _SECRET_NAME.search(name):
                self._add(setting)
        self._all_long = _BETWEEN.join(self._long)

    def taken_from(self, text: str) -> str:
        """Return `text` without the values, and not longer than a message may be."""
        # twice as much is searched as is shown: a value that begins in what is shown is found, in whole or by a piece of it
        searched = text[: 2 * LONGEST_MESSAGE]
        shown = len(searched) if len(searched) <= LONGEST_MESSAGE else LONGEST_MESSAGE - 1
        probes = (min(len(searched), shown + _PIECE) + _PROBE - 1) // _PROBE
        if not text:
            return text
        if not self._is_complete or probes * len(self._all_long) > _MOST_WORK:
            return _UNSEARCHED
        parts, position = [], 0
        for start, end in _merged([*self._short_spans(searched), *self._long_spans(searched, probes)]):
            if start >= shown:
                break
            parts += [searched[position:start], WITHHELD]
            position = end
        parts.append(searched[position:shown])
        return "".join(parts) + ("…" if shown < len(text) else "")

    def _short_spans(self, text: str) -> Iterator[tuple[int, int]]:
        known = self._short
        for length in {len(value) for value in known}:
            for start in range(len(text) - length + 1):
                if text[start : start + length] in known:
                    yield start, start + length

    def _long_spans(self, text: str, probes: int) -> Iterator[tuple[int, int]]:
        values = self._all_long
        for probe in range(0, probes * _PROBE, _PROBE):
            if len(text) < probe + _PROBE or text[probe : probe + _PROBE] not in values:
                continue
            for start in range(max(0, probe - _PROBE), min(probe, len(text) - _PIECE) + 1):
                if text[start : start + _PIECE] in values:
                    yield start, start + _PIECE

    def _collect(self, values: list[Any]) -> None:
        waiting, seen, count = deque(values), set[int](), 0
        while waiting:
            value = waiting.popleft()
            count += 1
            if count > _MOST_VALUES:
                self._is_complete = False
                return
            kind = type(value)
            if kind is str:
                self._add(value)
            elif kind in _LISTS:
                waiting.extend(value)
            elif isinstance(value, _PLAIN) and not isinstance(value, Enum):
                self._add_plain(value)
            elif value is not None and id(value) not in seen:
                seen.add(id(value))
                try:
                    waiting.extend(self._within(value))
                except Exception:  # the border to the user's class: what it holds is not known
                    self._is_complete = False
                    return

    def _within(self, value: Any) -> Iterable[Any]:
        """Return what `value` holds; what it says of itself is added at once."""
        match value:
            case Mapping():
                return [*(key for key in value if not (isinstance(key, str) and key in self._public)), *value.values()]
            case Enum():
                return [value.name, value.value]
            case _ if isinstance(value, _CODE):
                return []
            case _ if isinstance(value, _WRITTEN):
                for text in {str(value), repr(value)}:
                    self._add(text)
                return []
            case Collection() if not hasattr(value, "to_numpy"):
                return [*_attributes(value), *value] if len(value) <= _MOST_VALUES else range(_MOST_VALUES + 1)
        return _table(value) if hasattr(value, "to_numpy") or hasattr(value, "tolist") else self._of_object(value)

    def _of_object(self, value: Any) -> Iterable[Any]:
        held = list(_attributes(value))
        if not held and type(value).__module__ != "builtins":
            for text in {str(value), repr(value)}:
                self._add(text)
        return held

    def _add_plain(self, value: str | bytes | bytearray | float) -> None:
        match value:
            case bool():
                return
            case str():
                self._add(str.__str__(value))
            case bytes() | bytearray():
                raw = bytes(value)
                self._add(repr(raw)[2:-1])
                self._add(raw.decode("utf-8", "replace"))
                self._add(raw.hex())
            case int():
                if value.bit_length() < 13_000:  # Python writes no more digits than that
                    self._add(int.__repr__(abs(value)))
            case float():
                self._add(float.__repr__(abs(value)))

    def _add(self, text: str) -> None:
        if len(text) < _SHORTEST_SECRET:
            return
        written = {text}
        if not text.isascii() or not text.isprintable() or "\\" in text or "'" in text or '"' in text:
            written |= {repr(text)[1:-1], ascii(text)[1:-1], repr(repr(text)[1:-1])[1:-1], json.dumps(text)[1:-1]}
        for each in written:
            if len(each) < _PIECE:
                self._short.add(each)
            else:
                self._long.append(each)


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the spans in order; those that touch or overlap as one."""
    current: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if current is not None and start <= current[1]:
            current = current[0], max(current[1], end)
            continue
        if current is not None:
            yield current
        current = start, end
    if current is not None:
        yield current


def _attributes(value: Any) -> Iterator[Any]:
    yield from (getattr(value, "__dict__", None) or {}).values()
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield getattr(value, name)
    if dataclasses.is_dataclass(value):
        yield from (getattr(value, field.name, None) for field in dataclasses.fields(value))


def _table(value: Any) -> Iterable[Any]:
    """Return what an array or a table of numpy, pandas or the like holds."""
    if getattr(value, "size", 0) > _MOST_VALUES:
        return range(_MOST_VALUES + 1)
    array = value.to_numpy() if hasattr(value, "to_numpy") else value
    found = array.ravel().tolist() if hasattr(array, "ravel") else array.tolist()
    return [*(found if isinstance(found, list) else [found]), *getattr(value, "columns", ())]
