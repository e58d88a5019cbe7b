"""How values become part of a committed state: what an action hands in is copied into containers that nobody can change.

A working copy that was not changed becomes the committed container again, the very same object; a changed one keeps every item
that was not changed. So the cost is that of what the action touched, and what was added is seen by comparing identities.
"""

from collections.abc import Mapping
from itertools import chain, compress, count
from operator import attrgetter, is_, is_not
from typing import Any, Final

from app.engine.frozen_values import IMMUTABLE, SETTLED, FlatDict, FlatList, FrozenDict, FrozenList, FrozenSet
from app.engine.object_copies import copy_object, is_immutable
from app.engine.working_copies import (
    GrownList,
    WorkingDict,
    WorkingFlatDict,
    WorkingFlatList,
    WorkingList,
    WorkingSet,
    raw_dict,
)

__all__ = ["Freezer", "freeze", "freeze_all", "frozen_extension"]

_DEEPEST = 240  # deeper than anything that can be stored; the frames of each level have to fit on Python's stack
_MANY = 16
_LISTS: Final = frozenset({list, WorkingFlatList, WorkingList, GrownList})
_DICTS: Final = frozenset({dict, WorkingFlatDict, WorkingDict})
_SETS: Final = frozenset({set, WorkingSet})
_base_of: Final = attrgetter("_base")


class _TooDeep(Exception):
    """A value is nested too deeply, or contains itself."""


def freeze(value: Any) -> Any:
    """Return `value` as part of a committed state, sharing nothing that can be changed with it."""
    return value if type(value) in SETTLED else Freezer().freeze(value)


def freeze_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new dict of the same keys with their values frozen."""
    freezer = Freezer()
    return {key: value if type(value) in SETTLED else freezer.freeze(value) for key, value in values.items()}


def frozen_extension(current: list[Any], items: tuple[Any, ...]) -> FrozenList:
    """Return a frozen list of the items of `current`, which is frozen, and of `items`, which are frozen, too."""
    is_flat = type(current) is FlatList and all(type(item) in IMMUTABLE for item in items)
    extended = [*current, *items]
    return FlatList(extended) if is_flat else FrozenList(extended)


class Freezer:
    """Freezes the values of one step: an object that occurs twice among them is copied once.

    Without `copies_objects` only containers are copied, and other objects are shared.
    """

    __slots__ = ("_copies_objects", "_known")

    def __init__(self, *, copies_objects: bool = True) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}  # the value beside its copy: while it lives no other one has its id
        self._copies_objects = copies_objects

    def freeze(self, value: Any) -> Any:
        """Return `value` frozen. One that contains itself, or is nested too deeply, is copied as an object."""
        try:
            return value if type(value) in SETTLED else self._walk(value, 0)
        except (_TooDeep, RecursionError):
            return copy_object(value)

    def _walk(self, value: Any, depth: int) -> Any:
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if depth > _DEEPEST:
            raise _TooDeep
        cls = type(value)
        if cls in _LISTS:
            made: Any = self._list(value, depth + 1)
        elif cls in _DICTS:
            made = self._dict(value, depth + 1)
        elif cls in _SETS:
            made = _frozen_set(value)
        elif is_immutable(value):
            return value
        elif cls is tuple:
            items = self._items(value, depth + 1)
            made = value if all(map(is_, items, value)) else tuple(items)
        else:
            made = copy_object(value) if self._copies_objects else value
        self._known[id(value)] = value, made
        return made

    def _items(self, items: Any, depth: int) -> list[Any]:
        walk = self._walk
        return [item if type(item) in SETTLED else walk(item, depth) for item in items]

    def _list(self, value: Any, depth: int) -> FrozenList:
        items = list.copy(value)
        base = None if type(value) is list else getattr(value, "_base", None)
        if base is not None:
            return self._changed_list(items, base, depth)
        kinds = set(map(type, items))
        if kinds <= IMMUTABLE:
            return FlatList(items)
        if WorkingFlatDict in kinds and len(items) >= _MANY:
            items = _unchanged_replaced(items)
        return FrozenList(self._items(items, depth))

    def _changed_list(self, items: list[Any], base: FrozenList, depth: int) -> FrozenList:
        """Return the items of a working copy of `base` frozen: `base` itself if they are the same."""
        places = _differing(items, base)
        if len(places) >= _MANY:
            items = _unchanged_replaced(items)
            places = _differing(items, base)
        for place in places:
            item = items[place]
            if type(item) not in SETTLED:
                items[place] = self._walk(item, depth)
        if len(items) == len(base) and all(items[place] is base[place] for place in places):
            return base
        is_flat = type(base) is FlatList and all(type(items[place]) in IMMUTABLE for place in places)
        return FlatList(items) if is_flat else FrozenList(items)

    def _dict(self, value: Any, depth: int) -> FrozenDict:
        base = None if type(value) is dict else getattr(value, "_base", None)
        if base is not None:
            return self._changed_dict(value, base, depth)
        items = raw_dict(value)
        if set(map(type, items.values())) <= IMMUTABLE:
            return FlatDict(items)
        return FrozenDict(zip(items, self._items(items.values(), depth), strict=True))

    def _changed_dict(self, value: Any, base: FrozenDict, depth: int) -> FrozenDict:
        """Return a working copy of `base` frozen: `base` itself if it has the same keys and values."""
        keys, values = list(dict.keys(value)), list(dict.values(value))
        places = _differing(values, list(base.values()))
        new = [values[place] for place in places]
        new = self._items(new, depth)
        if len(keys) < len(base) or not all(map(is_, keys, base)):  # some are gone, or elsewhere
            for place, item in zip(places, new, strict=True):
                values[place] = item
            return FrozenDict(zip(keys, values, strict=True))
        changed = {keys[place]: item for place, item in zip(places, new, strict=True)}
        if len(keys) == len(base) and all(item is base[key] for key, item in changed.items()):
            return base
        items = base.copy()
        items.update(changed)
        is_flat = type(base) is FlatDict and all(type(item) in IMMUTABLE for item in new)
        return FlatDict(items) if is_flat else FrozenDict(items)


def _frozen_set(value: Any) -> Any:
    items = set(value)
    base = None if type(value) is set else getattr(value, "_base", None)
    if (
        base is not None
        and items == base
        and set(zip(map(type, items), items, strict=True)) == set(zip(map(type, base), base, strict=True))
    ):
        return base
    if all(type(item) in IMMUTABLE or is_immutable(item) for item in items):
        return FrozenSet(items)
    return copy_object(items)  # its members could not be found any more if they were copied one by one


def _differing(items: list[Any], base: list[Any]) -> list[int]:
    """Return the places at which `items` are not the same objects as in `base`, those behind its end included."""
    return [*compress(count(), map(is_not, items, base)), *range(len(base), len(items))]


def _unchanged_replaced(items: list[Any]) -> list[Any]:
    """Return `items` with the committed dict in place of each working copy that was not changed. Loops in C if none was."""
    copies = [item for item in items if type(item) is WorkingFlatDict]
    try:
        bases: list[Any] = list(map(_base_of, copies))
    except AttributeError:
        return items  # made by the action: they are no copies
    values = map(is_, chain.from_iterable(map(dict.values, copies)), chain.from_iterable(map(dict.values, bases)))
    if not (all(values) and all(map(dict.__eq__, copies, bases))):  # the first knows 1 from True, the second compares the keys
        pairs = zip(copies, bases, strict=True)
        bases = [base if all(map(is_, one.values(), base.values())) and one == base else one for one, base in pairs]
    if len(copies) == len(items):
        return bases
    found = iter(bases)
    return [next(found) if type(item) is WorkingFlatDict else item for item in items]
