"""The containers of a committed state: lists, dicts and sets that nobody can change.

They are subclasses of the plain ones, so that JSON, pydantic and `isinstance` see what they expect, and they are copied and
pickled as plain ones. `freezing` makes them; what an action gets instead is in `working_copies`.
"""

import copy
import datetime
import decimal
import fractions
import pathlib
import re
import types
import uuid
import zoneinfo
from typing import Any, Final, NoReturn, SupportsIndex

__all__ = ["FROZEN", "IMMUTABLE", "PLAIN", "SETTLED", "FlatDict", "FlatList", "FrozenDict", "FrozenList", "FrozenSet"]

IMMUTABLE: Final[frozenset[type]] = frozenset(
    {
        type(None),
        type(...),
        type(NotImplemented),
        bool,
        bytes,
        complex,
        float,
        int,
        range,
        str,
        type,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        datetime.timezone,
        decimal.Decimal,
        fractions.Fraction,
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        re.Pattern,
        type(pathlib.Path()),
        types.BuiltinFunctionType,
        types.FunctionType,
        types.ModuleType,
        uuid.UUID,
        zoneinfo.ZoneInfo,
    }
)
"""Types whose values never change (or are code, and not data): they are shared."""


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    raise TypeError(f"this {type(self).__mro__[-2].__name__} belongs to a committed state and cannot be changed; copy it first")


class FrozenList(list[Any]):
    """A list of committed values. `FlatList` is one without other containers or objects in it."""

    __slots__ = ()

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = pop = remove = clear = sort = reverse = _refuse

    def __copy__(self) -> list[Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return copy.deepcopy(self.copy(), memo)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return list, (self.copy(),)


class FlatList(FrozenList):
    __slots__ = ()


class FrozenDict(dict[Any, Any]):
    """A dict of committed values. `FlatDict` is one without other containers or objects in it."""

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    pop = popitem = setdefault = update = clear = _refuse

    def __copy__(self) -> dict[Any, Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return copy.deepcopy(self.copy(), memo)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return dict, (self.copy(),)


class FlatDict(FrozenDict):
    __slots__ = ()


class FrozenSet(set[Any]):
    """A set of committed values."""

    __slots__ = ()

    __iand__ = __ior__ = __isub__ = __ixor__ = _refuse
    add = clear = difference_update = discard = intersection_update = pop = remove = _refuse
    symmetric_difference_update = update = _refuse

    def __repr__(self) -> str:
        return repr(set(self))

    def copy(self) -> set[Any]:
        return set(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> set[Any]:
        return copy.deepcopy(set(self), memo)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return set, (list(self),)


FROZEN: Final[frozenset[type]] = frozenset({FrozenList, FlatList, FrozenDict, FlatDict, FrozenSet})
SETTLED: Final[frozenset[type]] = IMMUTABLE | FROZEN
"""Types of which every value can be part of a committed state as it is."""

PLAIN: Final[dict[type, type]] = {
    **dict.fromkeys((list, FrozenList, FlatList), list),
    **dict.fromkeys((dict, FrozenDict, FlatDict), dict),
    **dict.fromkeys((set, FrozenSet), set),
}
"""The plain type of each form that a list, dict or set has in a state; `working_copies` adds its own."""
