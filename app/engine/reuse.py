"""Which of the values that an action hands in are what is committed already: these need no copy, and no place in the log.

All that is compared here is of built-in types, and in C: no code of a user's class is called. Of two values that cannot be
compared so, it says that they differ, which costs a copy and is never wrong.
"""

from collections.abc import Iterable, Sequence, Set
from itertools import chain, compress, count, repeat
from operator import attrgetter, is_, is_not
from typing import Any, Final

from pydantic import BaseModel

from app.engine.frozen_values import FlatDict
from app.engine.object_copies import FIELDS_OF, are_bare_models
from app.engine.working_copies import WorkingDict, WorkingFlatDict, WorkingFlatList, WorkingList

__all__ = ["differing", "unchanged_replaced", "with_committed"]

_WINDOW = 4
_MOST_MISSES = 32
_MOST_SEARCHES = 4
_COPIES: Final = frozenset({WorkingDict, WorkingFlatDict, WorkingFlatList, WorkingList})
_base_of: Final = attrgetter("_base")
_flat: Final = chain.from_iterable
_EQUAL_IF_SAME: Final = frozenset({str, int, bool, type(None)})  # no float: 0.0 equals -0.0
_fields_set_of: Final = attrgetter("__pydantic_fields_set__")


def with_committed(items: list[Any], committed: Sequence[Any], kinds: Set[type]) -> list[Any]:
    """Return `items`, which are of these types, with what is in `committed` in place of each that is the same as that.

    Both are walked through in order. Where they differ in many places, the rest is left as it is.
    """
    known = list(committed)
    shorter = min(len(items), len(known))
    if len(kinds) == 1 and _are_same_range(items, 0, known, 0, shorter):
        return [*known[:shorter], *items[shorter:]]
    found = items.copy()
    for kind in kinds:
        if kind is dict or issubclass(kind, BaseModel):
            places = _places(items, kind)
            if places and places[-1] < len(known) and _are_same([items[at] for at in places], [known[at] for at in places]):
                for at in places:
                    found[at] = known[at]
            else:
                others = [known[at] for at in _places(known, FlatDict if kind is dict else kind)]
                _replace_same(found, places, others)
    return found


def _places(items: list[Any], kind: type) -> list[int]:
    return list(compress(count(), map(is_, map(type, items), repeat(kind))))


def _replace_same(items: list[Any], places: list[int], known: list[Any]) -> None:
    """Put what is known in place of those of the items at `places` that are the same."""
    some = [items[place] for place in places]
    at = other = misses = searches = 0
    size = len(some) // 8 or 1
    while at < len(some) and other < len(known) and misses < _MOST_MISSES:
        size = min(size, len(some) - at, len(known) - other)
        if _are_same_range(some, at, known, other, size):
            for place, one in zip(places[at : at + size], known[other : other + size], strict=True):
                items[place] = one
            at, other, size = at + size, other + size, 8 * size
        elif size > 1:
            size = size // 8 or 1
        else:
            misses += 1
            if _are_same(some[at + 1 : at + 2], known[other + 1 : other + 2]):  # one was replaced
                at, other = at + 1, other + 1
            elif _are_same(some[at + 1 : at + 2], known[other : other + 1]):  # one was added
                at += 1
            elif searches < _MOST_SEARCHES and (moved := _find(some[at : at + _WINDOW], known, other + 1)):  # some are gone
                other, searches = moved, searches + 1
            else:
                at, other, searches = at + 1, other + 1, searches + 1


def _find(items: list[Any], known: list[Any], start: int) -> int:
    """Return where in `known`, from `start` on, these items follow each other; 0 if nowhere. Only dicts of texts are found."""
    first = items[0]
    if type(first) is not dict or set(map(type, first.values())) != {str}:
        return 0
    for place in range(start, len(known)):
        one = known[place]
        # keys before values: comparing other keys may call code of their class
        if len(one) == len(first) and all(map(is_, first, one)) and first == one:
            some = min(len(items), len(known) - place)
            if _are_same(items[:some], known[place : place + some]):
                return place
    return 0


def unchanged_replaced(items: list[Any], kinds: Set[type]) -> list[Any]:
    """Return `items` with the committed container in place of each working copy, of these types, in which nothing changed."""
    found = items
    for kind in kinds & _COPIES:
        places = _places(items, kind)
        copies = [items[place] for place in places]
        try:
            bases = list(map(_base_of, copies))
        except AttributeError:
            continue  # made by the action: they are no copies
        if not _hold_the_same(copies, bases, kind):
            pairs = zip(copies, bases, strict=True)
            bases = [base if _hold_the_same([one], [base], kind) else one for one, base in pairs]
        found = found.copy() if found is items else found
        for place, base in zip(places, bases, strict=True):
            found[place] = base
    return found


def _hold_the_same(copies: list[Any], bases: list[Any], kind: type) -> bool:
    """Return whether each of these copies holds the very objects that its base holds, in the same order. Opens none."""
    if None in bases or list(map(len, copies)) != list(map(len, bases)):
        return False
    if issubclass(kind, list):
        return all(map(is_, _flat(map(list.copy, copies)), _flat(bases)))
    same_values = map(is_, _flat(map(dict.values, copies)), _flat(map(dict.values, bases)))
    return all(same_values) and all(map(is_, _flat(map(dict.keys, copies)), _flat(bases)))


def _are_same_range(items: list[Any], at: int, known: list[Any], start: int, size: int) -> bool:
    """`_are_same` for a part of both lists. Looks at the ends first: if anything has moved, they tell."""
    for place in (0, size - 1):
        if not _are_same(items[at + place : at + place + 1], known[start + place : start + place + 1]):
            return False
    return size <= 2 or _are_same(items[at : at + size], known[start : start + size])


def _are_same(items: list[Any], known: list[Any]) -> bool:
    """Return whether all of two lists of one length are the same objects, or of one type and the same content."""
    if len(items) != len(known):
        return False
    kinds = set(map(type, items))
    if len(kinds) != 1:
        return all(map(is_, items, known))
    (cls,) = kinds
    if cls is dict:
        return set(map(type, known)) == {FlatDict} and _are_same_dicts(items, known)
    if items[0] is known[0] and all(map(is_, items, known)):
        return True
    return (
        set(map(type, known)) == kinds
        and are_bare_models(cls, items)
        and are_bare_models(cls, known)
        and _are_same_dicts(list(map(FIELDS_OF, items)), list(map(FIELDS_OF, known)))
        and list(map(_fields_set_of, items)) == list(map(_fields_set_of, known))
    )


def _are_same_dicts(items: list[dict[Any, Any]], known: list[dict[Any, Any]]) -> bool:
    """Return whether all of two lists of dicts have the same keys in the same order, and the same values of the same types.

    The values in `known` are of types that never change: none but a text equals a text.
    """
    if not (all(map(is_, _flat(items), _flat(known))) or _have_same_texts(items, known)):
        return False
    kinds = set(map(type, _values(items)))
    if kinds <= {str} or all(map(is_, _values(items), _values(known))):
        return items == known
    have_same_types = kinds <= _EQUAL_IF_SAME and all(map(is_, map(type, _values(items)), map(type, _values(known))))
    return have_same_types and items == known


def _have_same_texts(items: Iterable[Any], known: Iterable[Any]) -> bool:
    keys, others = list(_flat(items)), list(_flat(known))
    return set(map(type, keys)) == set(map(type, others)) == {str} and keys == others


def _values(items: list[dict[Any, Any]]) -> Iterable[Any]:
    return _flat(map(dict.values, items))


def differing(items: list[Any], known: Sequence[Any]) -> list[int]:
    """Return the places at which `items` are not the same objects as in `known`, those behind its end included."""
    return [*compress(count(), map(is_not, items, known)), *range(len(known), len(items))]
