"""How much work one evaluation of an expression may do, and what each of its operations costs.

A unit is about the work for one item of a list, or for 64 characters of a text. Sizes of results are bounded before they are
made. Nothing here knows how expressions are read.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.engine.errors import UnsafeExpression

__all__ = ["MAX_SIZE", "WORK", "Budget"]

WORK = 1_000_000
"""The units that one evaluation may use: some tenths of a second at worst."""

MAX_SIZE = 1_000_000
"""The longest sequence that an expression may make."""

_CONTAINERS = (list, tuple, set, frozenset, dict)
_TEXTS = (str, bytes)
_CHARACTERS_PER_UNIT = 64
_PER_ROUND = 5  # of a comprehension
_MAX_DIGITS = 10_000  # that `round` may be asked for

# functions whose work grows with everything in their argument, not only with its length
_DEEP = frozenset({str, set, frozenset, dict})
_CHEAP = frozenset({len, abs, bool, isinstance, ord, chr})


class Budget:
    """What is left of the work of one evaluation. Every method raises UnsafeExpression when that is used up."""

    __slots__ = ("_functions", "_left", "_name")

    def __init__(self, name: str, functions: frozenset[int]) -> None:
        """`functions` are the ids of those that may be arguments."""
        self._name = name
        self._functions = functions
        self._left = WORK

    def spend(self, units: int) -> None:
        """Use up `units`."""
        self._left -= units
        if self._left < 0:
            raise UnsafeExpression(f"{self._name}: the expression does more work than an expression may")

    def spend_round(self) -> None:
        """Pay for one round of a comprehension."""
        self.spend(_PER_ROUND)

    def spend_text(self, value: Any) -> None:
        """Pay for making a text of `value`."""
        self._spend_deep(value)

    def spend_comparison(self, left: Any, right: Any) -> None:
        """Pay for comparing two values, or for looking for one in the other."""
        if isinstance(right, _CONTAINERS) or (isinstance(left, _TEXTS) and isinstance(right, _TEXTS)):
            self._spend_deep(right)
            self._spend_deep(left)

    def call(self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Return what `function` gives, one that the grammar has, or a harmless method of a value."""
        for value in (*arguments, *keywords.values()):
            if callable(value) and id(value) not in self._functions:
                raise UnsafeExpression(f"{self._name}: a value that can be called may not be an argument")
        if function not in _CHEAP:
            self._pay_for(function, arguments)
        return function(*arguments, **keywords)

    def operate(self, apply: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        """Return what the operator `apply` gives."""
        if isinstance(left, int) and isinstance(right, int):
            self.spend(1 + (left.bit_length() * right.bit_length()) // 100_000)
        elif isinstance(left, (*_CONTAINERS, *_TEXTS)) or isinstance(right, (*_CONTAINERS, *_TEXTS)):
            size = _length(left) + _length(right)
            if apply is operator.add and size > MAX_SIZE:
                raise UnsafeExpression(f"an expression may not make a sequence of more than {MAX_SIZE} items")
            self.spend(1 + size)
        result = apply(left, right)
        self.spend(1 + _length(result) // _CHARACTERS_PER_UNIT)
        return result

    def _pay_for(self, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, _TEXTS):
            self._pay_for_method_of_text(function.__name__, owner, arguments)
        elif isinstance(owner, _CONTAINERS):
            self.spend(1 + _length(owner))
        if function is sum:
            self._pay_for_sum(*arguments)
        elif function is round and len(arguments) == 2 and isinstance(arguments[1], int) and abs(arguments[1]) > _MAX_DIGITS:
            raise UnsafeExpression(f"{self._name}: round takes at most {_MAX_DIGITS} digits")
        for argument in arguments:
            if function in _DEEP or isinstance(argument, _TEXTS):
                self._spend_deep(argument)
            else:
                self.spend(1 + _length(argument))
                self._spend_items(function, argument)

    def _spend_items(self, function: Callable[..., Any], argument: Any) -> None:
        """Pay for comparing items that are containers themselves."""
        if function in (min, max, sorted) and isinstance(argument, _CONTAINERS):
            for item in argument:
                if isinstance(item, (*_CONTAINERS, *_TEXTS)):
                    self._spend_deep(item)

    def _pay_for_sum(self, values: Any, start: Any = 0, *_: Any) -> None:
        if isinstance(start, _CONTAINERS):  # each addition copies what is there
            count = _length(values)
            self.spend(
                count * (_length(start) + sum(_length(value) for value in values)) if isinstance(values, _CONTAINERS) else WORK
            )

    def _pay_for_method_of_text(self, name: str, owner: Any, arguments: Sequence[Any]) -> None:
        self.spend(1 + len(owner) // _CHARACTERS_PER_UNIT)
        size = len(owner)
        if name == "replace" and len(arguments) >= 2 and all(isinstance(each, _TEXTS) for each in arguments[:2]):
            old, new = arguments[:2]
            size += (owner.count(old) if len(old) else len(owner) + 1) * max(0, len(new) - len(old))
        elif name == "join" and arguments and isinstance(arguments[0], _CONTAINERS):
            size = sum(_length(part) + len(owner) for part in arguments[0])
        elif name == "join":
            raise UnsafeExpression(f"{self._name}: join takes a list of texts")
        elif name in ("split", "rsplit", "splitlines"):
            self.spend(len(owner))
        if size > MAX_SIZE:
            raise UnsafeExpression(f"an expression may not make a text of more than {MAX_SIZE} characters")

    def _spend_deep(self, value: Any) -> None:
        """Pay for everything that is in `value`, as often as it is there."""
        waiting = [value]
        while waiting:
            each = waiting.pop()
            if isinstance(each, _TEXTS):
                self.spend(1 + len(each) // _CHARACTERS_PER_UNIT)
            elif isinstance(each, dict):
                self.spend(1 + len(each))
                waiting += each.keys()
                waiting += each.values()
            elif isinstance(each, _CONTAINERS):
                self.spend(1 + len(each))
                waiting += each
            else:
                self.spend(1)


def _length(value: Any) -> int:
    """Return the length of a value that has one, 1 for any other; iterators pay for what they iterate over."""
    if isinstance(value, (*_CONTAINERS, *_TEXTS, range)):
        return len(value)
    return 1
