"""How values become part of a committed state: what an action hands in is copied into containers that nobody can change.

A working copy that was not changed becomes the committed container again, the very same object; a changed one keeps every item
that was not changed. So the cost is that of what the action touched, and what was added is seen by comparing identities.

A new container is frozen beside the one that it takes the place of, and keeps the items that are the same (`reuse`): of
`[*old, new]` only `new` is copied.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, compress, count, repeat
from operator import is_, is_not
from typing import Any, Final

from app.engine.frozen_values import IMMUTABLE, SETTLED, FlatDict, FlatList, FrozenDict, FrozenList, FrozenSet
from app.engine.object_copies import copy_flat_models, copy_object, is_immutable
from app.engine.reuse import differing, unchanged_replaced, with_committed
from app.engine.working_copies import (
    GrownList,
    OpenDict,
    OpenList,
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
_LISTS: Final = frozenset({list, WorkingFlatList, WorkingList, OpenList, GrownList})
_DICTS: Final = frozenset({dict, WorkingFlatDict, WorkingDict, OpenDict})
_SETS: Final = frozenset({set, WorkingSet})


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

    def freeze(self, value: Any, old: Any = None) -> Any:
        """Return `value` frozen, with what is the same in the committed value `old` taken from there.

        One that contains itself, or is nested too deeply, is copied as an object.
        """
        try:
            return value if type(value) in SETTLED else self._walk(value, 0, old)
        except (_TooDeep, RecursionError):
            return copy_object(value)

    def _walk(self, value: Any, depth: int, old: Any = None) -> Any:
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if depth > _DEEPEST:
            raise _TooDeep
        cls = type(value)
        if cls in _LISTS:
            made: Any = self._list(value, depth + 1, old)
        elif cls in _DICTS:
            made = self._dict(value, depth + 1, old)
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

    def _items(self, items: Any, depth: int, olds: Iterable[Any] | None = None) -> list[Any]:
        walk = self._walk
        if olds is not None:
            return [
                item if type(item) in SETTLED else walk(item, depth, old)
                for item, old in zip(items, chain(olds, repeat(None)), strict=False)
            ]
        return [item if type(item) in SETTLED else walk(item, depth) for item in items]

    def _list(self, value: Any, depth: int, old: Any) -> FrozenList:
        items = list.copy(value)
        base = None if type(value) is list else getattr(value, "_base", None)
        if base is not None:
            return self._changed_list(items, base, depth)
        kinds = set(map(type, items))
        if kinds <= IMMUTABLE:
            return FlatList(items)
        if not isinstance(old, FrozenList):
            return FrozenList(self._new_items(unchanged_replaced(items, kinds) if len(items) >= _MANY else items, depth))
        if len(items) >= _MANY:
            found = self._with_unchanged(items, old, kinds)
            kept = next(compress(count(), map(is_not, found, old)), min(len(items), len(old)))
            if kept == len(items) == len(old):
                return old
            return FrozenList(found[:kept] + self._with_new(items[kept:], found[kept:], depth, old[kept:]))
        return FrozenList(self._new_items(items, depth, old))

    def _new_items(self, items: list[Any], depth: int, olds: list[Any] | None = None) -> list[Any]:
        """Return `items` frozen, in C if they are many and of one kind."""
        if len(items) < _MANY:
            return self._items(items, depth, olds)
        kinds = set(map(type, items))
        if kinds == {dict} and len(set(map(id, items))) == len(items):
            if IMMUTABLE.issuperset(map(type, chain.from_iterable(map(dict.values, items)))):
                return list(map(FlatDict, items))
        elif self._copies_objects and (copies := copy_flat_models(items)) is not None:
            return copies
        return self._items(items, depth, olds)

    def _with_new(self, items: list[Any], found: list[Any], depth: int, olds: list[Any]) -> list[Any]:
        """Return `found`, in which some of `items` were replaced by what is committed, with all others frozen."""
        places = list(compress(count(), map(is_, items, found)))
        new = self._new_items([items[at] for at in places], depth, [olds[at] if at < len(olds) else None for at in places])
        found = found.copy()
        for at, item in zip(places, new, strict=True):
            found[at] = item
        return found

    def _with_unchanged(self, items: list[Any], base: Sequence[Any], kinds: set[type]) -> list[Any]:
        """Return `items`, of these types, with the committed one in place of each that was not changed, if that is found in C."""
        items = unchanged_replaced(items, kinds)
        return with_committed(items, base, kinds) if dict in kinds or self._copies_objects else items

    def _changed_list(self, items: list[Any], base: FrozenList, depth: int) -> FrozenList:
        """Return the items of a working copy of `base` frozen: `base` itself if they are the same."""
        places = differing(items, base)
        if len(places) >= _MANY:
            items = self._with_unchanged(items, base, set(map(type, items)))
            places = differing(items, base)
        for place in places:
            item = items[place]
            if type(item) not in SETTLED:
                items[place] = self._walk(item, depth, base[place] if place < len(base) else None)
        if len(items) == len(base) and all(items[place] is base[place] for place in places):
            return base
        is_flat = type(base) is FlatList and all(type(items[place]) in IMMUTABLE for place in places)
        return FlatList(items) if is_flat else FrozenList(items)

    def _dict(self, value: Any, depth: int, old: Any) -> FrozenDict:
        base = None if type(value) is dict else getattr(value, "_base", None)
        if base is not None:
            return self._changed_dict(value, base, depth)
        items = raw_dict(value)
        if IMMUTABLE.issuperset(map(type, items.values())):
            return FlatDict(items)
        values = list(items.values())
        if not isinstance(old, FrozenDict):
            return FrozenDict(zip(items, self._new_items(values, depth), strict=True))
        if len(items) < _MANY:
            return FrozenDict(zip(items, self._items(values, depth, map(old.get, items)), strict=True))
        olds = list(map(old.get, items))
        values = self._with_new(values, self._with_unchanged(values, olds, set(map(type, values))), depth, olds)
        if len(items) == len(old) and all(map(is_, items, old)) and all(map(is_, values, old.values())):
            return old
        return FrozenDict(zip(items, values, strict=True))

    def _changed_dict(self, value: Any, base: FrozenDict, depth: int) -> FrozenDict:
        """Return a working copy of `base` frozen: `base` itself if it has the same keys and values."""
        keys, values = list(dict.keys(value)), list(dict.values(value))
        known = list(base.values())
        places = differing(values, known)
        if len(places) >= _MANY:
            values = self._with_unchanged(values, known, set(map(type, values)))
            places = differing(values, known)
        new = self._items([values[place] for place in places], depth, map(base.get, [keys[place] for place in places]))
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
