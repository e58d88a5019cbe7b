"""The ways in which an action changes a state, as values.

An operation is what the store writes; applying one to a dict of values is what the engine does. No I/O here, and
no knowledge of actions or sessions.
"""

from collections.abc import Mapping, MutableMapping
from numbers import Number
from typing import TYPE_CHECKING, Any, TypeAlias

from app.engine.errors import OperationError, kind_of
from app.engine.frozen import frozen
from app.engine.working_copies import grow

if TYPE_CHECKING:
    from app.engine.edits import Edit

__all__ = ["Append", "Delete", "Extend", "Increment", "Operation", "Patch", "Set", "StoredOperation", "apply_all"]


@frozen
class Set:
    """`key` has `value` from now on, whether it existed or not."""

    key: str
    value: Any

    def apply(self, values: MutableMapping[str, Any]) -> None:
        values[self.key] = self.value


@frozen
class Append:
    """The list at `key` gains `value` at its end; a missing key starts as an empty list."""

    key: str
    value: Any

    def apply(self, values: MutableMapping[str, Any]) -> None:
        values[self.key] = grow(_list_at(values, self.key, "append to"), (self.value,))


@frozen
class Extend:
    """The list at `key` gains every one of `items` at its end; a missing key starts as an empty list."""

    key: str
    items: tuple[Any, ...]

    def apply(self, values: MutableMapping[str, Any]) -> None:
        values[self.key] = grow(_list_at(values, self.key, "extend"), self.items)


@frozen
class Increment:
    """The number at `key` grows by `by`; a missing key starts at zero."""

    key: str
    by: Any  # a number of any type: a Decimal or a Fraction, too

    def apply(self, values: MutableMapping[str, Any]) -> None:
        current = values.get(self.key, 0)
        if type(current) is not int and not isinstance(current, Number):
            raise OperationError(f"cannot increment key {self.key!r}: it holds {kind_of(current)}, not a number")
        try:
            values[self.key] = current + self.by
        except TypeError:
            raise OperationError(
                f"cannot increment key {self.key!r}: {kind_of(current)} and {kind_of(self.by)} do not add up"
            ) from None


@frozen
class Delete:
    """`key` is gone; nothing happens if it was not there."""

    key: str

    def apply(self, values: MutableMapping[str, Any]) -> None:
        values.pop(self.key, None)


@frozen
class Patch:
    """Parts of the value at `key` change as `edits` say; without any it was written, and is what it was.

    No action makes one: `app.engine.difference` finds them where an action has set a value that it had changed in parts.
    """

    key: str
    edits: "tuple[Edit, ...]"

    def apply(self, values: MutableMapping[str, Any]) -> None:
        from app.engine.edits import patched  # serialisation is not needed to run a machine

        if self.key not in values:
            raise OperationError(f"cannot change a part of key {self.key!r}: there is no such key")
        values[self.key] = patched(values[self.key], self.edits)


Operation: TypeAlias = Set | Append | Extend | Increment | Delete
"""What an action does to a state."""

StoredOperation: TypeAlias = Operation | Patch
"""What is stored of a step."""


def apply_all(values: Mapping[str, Any], operations: tuple[StoredOperation, ...]) -> dict[str, Any]:
    """Return a new dict: `values` after `operations`, in order. Values are shared, never copied in depth."""
    after = dict(values)
    for operation in operations:
        operation.apply(after)
    return after


def _list_at(values: Mapping[str, Any], key: str, verb: str) -> list[Any]:
    current = values.get(key, [])
    if not isinstance(current, list):
        raise OperationError(f"cannot {verb} key {key!r}: it holds {kind_of(current)}, not a list")
    return current
