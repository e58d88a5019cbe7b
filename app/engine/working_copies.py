"""What an action gets instead of a committed value: a copy of its own, made when the action first touches it.

A working copy holds the committed values of its container, and replaces a nested one by a working copy as soon as that is
touched. So changes cost what they touch, however large the state is, and reading twice gives the same object. `freezing` tells
from `_base`, the committed container, whether anything has changed.

C code that passes over these methods sees frozen values, which refuse to be changed.
"""

import copy
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Any, Final, SupportsIndex

from app.engine.frozen_values import IMMUTABLE, PLAIN, FlatDict, FlatList, FrozenDict, FrozenList, FrozenSet
from app.engine.object_copies import copy_object, is_immutable

__all__ = [
    "DICTS",
    "LENDERS",
    "LISTS",
    "SETS",
    "GrownList",
    "OpenDict",
    "OpenList",
    "WorkingDict",
    "WorkingFlatDict",
    "WorkingFlatList",
    "WorkingList",
    "WorkingSet",
    "grow",
    "lend",
    "own_copy",
    "raw_dict",
]


class WorkingFlatList(list[Any]):
    """A copy of a list in which nothing else can be changed."""

    __slots__ = ("_base",)

    _base: FrozenList | None

    def __copy__(self) -> list[Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        memo[id(self)] = copied = []  # before its items: one of them may be, or contain, the list itself
        copied += [copy.deepcopy(item, memo) for item in list.copy(self)]
        return copied

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return list, (), None, iter(list.copy(self))


class WorkingList(WorkingFlatList):
    """A copy of a list with containers or objects in it, which are copied when they are touched."""

    __slots__ = ("_objects",)

    _objects: frozenset[int]  # ids of the committed objects among the items

    def _open(self) -> None:
        """Replace every committed item by a copy that can be changed. From then on this is an OpenList."""
        if type(self) is WorkingList:
            list.__setitem__(self, slice(None), _lend_many(self, list.copy(self)))
            self.__class__ = OpenList  # type: ignore[assignment]  # has the same slots, and the methods of `list`, in C

    def __getitem__(self, index: Any) -> Any:
        if type(index) is slice:
            self._open()
            return list.__getitem__(self, index)
        item = list.__getitem__(self, index)
        if type(item) in IMMUTABLE:
            return item
        own = _own(self, item)
        if own is not item:
            list.__setitem__(self, index, own)
        return own

    def __iter__(self) -> Iterator[Any]:
        self._open()
        return list.__iter__(self)

    def __reversed__(self) -> Iterator[Any]:
        self._open()
        return list.__reversed__(self)

    def __add__(self, other: Any) -> Any:
        self._open()
        return list.__add__(self, other)

    def __radd__(self, other: Any) -> Any:
        self._open()
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        self._open()
        return list.__mul__(self, times)

    __rmul__ = __mul__

    def __imul__(self, times: SupportsIndex) -> Any:
        self._open()
        return list.__imul__(self, times)

    def extend(self, items: Iterable[Any]) -> None:
        if items is self:
            self._open()
        list.extend(self, items)

    def pop(self, index: SupportsIndex = -1) -> Any:
        return _own(self, list.pop(self, index))

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        if key is not None:
            self._open()
        list.sort(self, key=key, reverse=reverse)

    def copy(self) -> list[Any]:
        self._open()
        return list.copy(self)


class OpenList(WorkingFlatList):
    """A WorkingList of which every item has been touched."""

    __slots__ = ("_objects",)


class WorkingFlatDict(dict[Any, Any]):
    """A copy of a dict in which nothing else can be changed."""

    __slots__ = ("_base",)

    _base: FrozenDict | None

    def __copy__(self) -> dict[Any, Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        memo[id(self)] = copied = {}  # before its values: one of them may be, or contain, the dict itself
        for key, value in raw_dict(self).items():
            copied[copy.deepcopy(key, memo)] = copy.deepcopy(value, memo)
        return copied

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return dict, (), None, None, iter(raw_dict(self).items())


class WorkingDict(WorkingFlatDict):
    """A copy of a dict with containers or objects in it, which are copied when they are touched."""

    __slots__ = ("_objects",)

    _objects: frozenset[int]  # ids of the committed objects among the values

    def _open(self) -> None:
        """Replace every committed value by a copy that can be changed. From then on this is an OpenDict."""
        if type(self) is WorkingDict:
            items = dict(dict.items(self))
            dict.update(self, zip(items, _lend_many(self, list(items.values())), strict=True))
            self.__class__ = OpenDict  # type: ignore[assignment]  # has the same slots, and the methods of `dict`, in C

    def _touch(self, key: Any, value: Any) -> Any:
        if type(value) in IMMUTABLE:
            return value
        own = _own(self, value)
        if own is not value:
            dict.__setitem__(self, key, own)
        return own

    def __getitem__(self, key: Any) -> Any:
        return self._touch(key, dict.__getitem__(self, key))

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401  # this is `get`

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            dict.__setitem__(self, key, default)
            return default
        return self[key]

    def pop(self, key: Any, *default: Any) -> Any:
        present = key in self
        value = dict.pop(self, key, *default)
        return _own(self, value) if present else value

    def popitem(self) -> tuple[Any, Any]:
        key, value = dict.popitem(self)
        return key, _own(self, value)

    def __iter__(self) -> Iterator[Any]:
        # C code copies a dict that does not override this without asking for its values
        return dict.__iter__(self)

    def keys(self) -> KeysView[Any]:  # type: ignore[override]  # dict's own kind of view has no name
        self._open()  # `{**value}` and `dict(value)` begin with this, and get the values in C then
        return dict.keys(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # dict's own kind of view has no name
        self._open()
        return dict.values(self)

    def items(self) -> ItemsView[Any, Any]:  # type: ignore[override]  # dict's own kind of view has no name
        self._open()
        return dict.items(self)

    def copy(self) -> dict[Any, Any]:
        self._open()
        return raw_dict(self)

    def __or__(self, other: Any) -> Any:
        return {**self, **other} if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return {**other, **self} if isinstance(other, dict) else NotImplemented


class OpenDict(WorkingFlatDict):
    """A WorkingDict of which every value has been touched."""

    __slots__ = ("_objects",)


class WorkingSet(set[Any]):
    """A copy of a set."""

    __slots__ = ("_base",)

    _base: FrozenSet | None

    def __repr__(self) -> str:
        return repr(set(self))

    def copy(self) -> set[Any]:
        return set(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> set[Any]:
        return copy.deepcopy(set(self), memo)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return set, (list(self),)


class GrownList(list[Any]):
    """What `append` and `extend` make of a committed list: its items, and behind them those of the action. Nobody gets it."""

    __slots__ = ("_base",)

    _base: FrozenList | None

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return list, (list.copy(self),)


_set_base_of_list: Final = vars(WorkingFlatList)["_base"].__set__  # the slot
_set_base_of_dict: Final = vars(WorkingFlatDict)["_base"].__set__


def grow(current: list[Any], items: Iterable[Any]) -> list[Any]:
    """Return a new list with `items` behind those of `current`."""
    if isinstance(current, FrozenList | GrownList):
        grown = GrownList()
        grown += current.copy()
        grown += items
        grown._base = current if isinstance(current, FrozenList) else current._base
        return grown
    return [*current, *items]


def lend(value: Any) -> Any:
    """Return a copy of a committed value that can be changed without changing the value; the value itself if it never changes."""
    cls = type(value)
    if cls in IMMUTABLE:
        return value
    lender = LENDERS.get(cls)
    if lender is not None:
        return lender(value)
    if cls is tuple:
        return value if is_immutable(value) else tuple([lend(item) for item in value])
    return copy_object(value)


def own_copy(value: Any) -> Any:
    """Return a working copy of a frozen container; anything else as it is."""
    lender = LENDERS.get(type(value))
    return value if lender is None else lender(value)


def raw_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    """Return a plain dict of the keys and values as they are, touching none."""
    return dict(dict.items(value)) if type(value) is WorkingDict else dict.copy(value)


def _own(container: WorkingList | WorkingDict, item: Any) -> Any:
    """Return a working copy of `item` if it is committed; one of the action's own as it is."""
    lender = LENDERS.get(type(item))
    if lender is not None:
        return lender(item)
    if type(item) in IMMUTABLE or not _is_committed_object(container, item):
        return item
    return lend(item)


def _is_committed_object(container: WorkingList | WorkingDict, item: Any) -> bool:
    try:
        objects = container._objects
    except AttributeError:
        base: Any = getattr(container, "_base", None)
        if base is None:
            return False
        known = base.values() if isinstance(base, dict) else base
        objects = container._objects = frozenset([id(each) for each in known if type(each) not in IMMUTABLE])
    return id(item) in objects  # the base keeps its items alive, so that no other object has the id of one


def _lend_flat_list(value: FrozenList) -> WorkingFlatList:
    copied = WorkingFlatList()
    copied += value.copy()
    copied._base = value
    return copied


def _lend_list(value: FrozenList) -> WorkingList:
    copied = WorkingList()
    list.__iadd__(copied, value.copy())
    copied._base = value
    return copied


def _lend_grown_list(value: GrownList) -> WorkingList:
    copied = WorkingList()
    list.__iadd__(copied, value.copy())
    copied._base = value._base
    return copied


def _lend_flat_dict(value: FrozenDict) -> WorkingFlatDict:
    copied = WorkingFlatDict(value)
    copied._base = value
    return copied


def _lend_many(container: WorkingList | WorkingDict, items: list[Any]) -> list[Any]:
    """Return each of the items of a working copy as an action may have it: all of them, in C if they are of one kind.

    Flat dicts, the messages of a chat, are copied as plain ones: which of them were changed is found by comparing them.
    """
    kinds = set(map(type, items))
    if kinds == {FlatDict}:
        return list(map(dict.copy, items))
    if kinds == {FrozenList} or kinds == {FrozenDict}:
        is_list = FrozenList in kinds
        copies: list[Any] = list(map(WorkingList if is_list else WorkingDict, items))
        deque(map(_set_base_of_list if is_list else _set_base_of_dict, copies, items), maxlen=0)
        return copies
    own: list[Any] = []
    for item in items:
        kind = type(item)
        own.append(dict.copy(item) if kind is FlatDict else item if kind in IMMUTABLE else _own(container, item))
    return own


def _lend_dict(value: FrozenDict) -> WorkingDict:
    copied = WorkingDict(value)
    copied._base = value
    return copied


def _lend_set(value: FrozenSet) -> WorkingSet:
    copied = WorkingSet(value)
    copied._base = value
    return copied


PLAIN.update(dict.fromkeys((WorkingFlatList, WorkingList, OpenList, GrownList), list))
PLAIN.update(dict.fromkeys((WorkingFlatDict, WorkingDict, OpenDict), dict))
PLAIN[WorkingSet] = set
LISTS: Final = frozenset(cls for cls, plain in PLAIN.items() if plain is list)
DICTS: Final = frozenset(cls for cls, plain in PLAIN.items() if plain is dict)
SETS: Final = frozenset(cls for cls, plain in PLAIN.items() if plain is set)
"""The plain containers with all forms that they have in a state: what is none of these is a subclass of the user's."""

LENDERS: Final[dict[type, Callable[[Any], Any]]] = {
    FlatDict: _lend_flat_dict,
    FlatList: _lend_flat_list,
    FrozenDict: _lend_dict,
    FrozenList: _lend_list,
    FrozenSet: _lend_set,
    GrownList: _lend_grown_list,
}
"""How a working copy of each kind of committed container is made."""
