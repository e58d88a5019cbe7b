"""How long a thread may keep the GIL from the others: shorter while threads compute. See docs/adr on the switch interval.

The interval belongs to the whole process, and so does the count of those who want it short; the shortest is what all get.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["SHORT_S", "ShortTurns", "in_short_turns"]

T = TypeVar("T")

SHORT_S = 0.0005

_lock = threading.Lock()
_wanted: list[float] = []
_usual_s = 0.005


class ShortTurns:
    """One wish for short turns: `begin` and `end` it, from any thread; or let it last for a while from the last `extend`."""

    def __init__(self, length_s: float = SHORT_S) -> None:
        self._length_s = length_s
        self._is_wanted = False
        self._until_s = 0.0

    def begin(self) -> None:
        self._want(True)

    def end(self) -> None:
        self._want(False)

    def extend(self, for_s: float) -> None:
        """Want short turns for the next `for_s` seconds; over at the first `check` after that."""
        self._until_s = time.monotonic() + for_s
        self._want(True)

    def check(self) -> None:
        if self._is_wanted and time.monotonic() >= self._until_s:
            self._want(False)

    def _want(self, is_wanted: bool) -> None:
        global _usual_s
        with _lock:
            if is_wanted == self._is_wanted:
                return
            self._is_wanted = is_wanted
            if is_wanted:
                if not _wanted:
                    _usual_s = sys.getswitchinterval()
                _wanted.append(self._length_s)
            else:
                _wanted.remove(self._length_s)
            sys.setswitchinterval(min([_usual_s, *_wanted]))


def in_short_turns(function: Callable[[], T]) -> T:
    """Return what `function` gives. While it computes, threads give the interpreter back quickly."""
    turns = ShortTurns()
    turns.begin()
    try:
        return function()
    finally:
        turns.end()
