"""A queue that serves its keys in turn. Knows neither threads nor loops, and is not thread-safe by itself."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """First come, first served within a key; one of each key in turn between keys.

    A key with 1,000 items therefore delays another key's item by one item, not by 1,000.
    """

    __slots__ = ("_by_key", "_size")

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        for items in self._by_key.values():
            yield from items

    def put(self, key: str, item: T) -> None:
        items = self._by_key.get(key)
        if items is None:
            items = self._by_key[key] = OrderedDict()
        items[item] = None
        self._size += 1

    def take(self) -> T | None:
        """Return the oldest item of the key whose turn it is; None when nothing waits."""
        if not self._by_key:
            return None
        key, items = self._by_key.popitem(last=False)
        item, _ = items.popitem(last=False)
        if items:
            self._by_key[key] = items
        self._size -= 1
        return item

    def discard(self, key: str, item: T) -> bool:
        """Take `item` out of the queue; False if it is not there any more."""
        items = self._by_key.get(key)
        if items is None or item not in items:
            return False
        del items[item]
        if not items:
            del self._by_key[key]
        self._size -= 1
        return True

    def clear(self) -> list[T]:
        """Empty the queue and return what was in it."""
        items = list(self)
        self._by_key.clear()
        self._size = 0
        return items
