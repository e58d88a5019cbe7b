"""The state of an application: an immutable mapping, and the view of it that an action works on.

A view shows the keys that its action reads and keeps the operations that the action makes. Nothing here performs I/O
or knows the graph.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

from app.engine.errors import UndeclaredRead, UnknownKey
from app.engine.operations import Append, Delete, Extend, Increment, Operation, Set
from app.engine.typing import DictBasedTypingSystem, TypingSystem

if TYPE_CHECKING:
    from app.engine.deltas import StateDelta

__all__ = ["Declared", "Position", "State"]

StateType = TypeVar("StateType")
AssignedStateType = TypeVar("AssignedStateType")

PLAIN = DictBasedTypingSystem()
_NOTHING = object()

Position: TypeAlias = tuple[str | None, int]
"""Where an application stands: the last action that was committed, and its `seq` (-1 before the first)."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What an action says about the state: the keys that it reads and those that it writes."""

    action: str
    reads: tuple[str, ...]
    writes: frozenset[str]


class Scope:
    """One action's access to the whole state, shared by all states that descend from one view."""

    __slots__ = ("declared", "values")

    def __init__(self, values: Mapping[str, Any], declared: Declared) -> None:
        self.values = values
        self.declared = declared

    def __reduce__(self) -> tuple[Any, ...]:
        # another process gets what the action may touch, and no more
        kept = {key: self.values[key] for key in self.declared.writes if key in self.values}
        return Scope, (kept, self.declared)


class State(Mapping[str, Any], Generic[StateType]):
    """An immutable mapping of names to values. Every method that changes something returns a new state.

    Values are shared between states, never copied in depth. A state made by hand has a dict for its `data`; `typing_system`
    makes it something else.
    """

    __slots__ = ("_data", "_operations", "_position", "_scope", "_typing_system", "_values")

    _values: dict[str, Any]
    _typing_system: TypingSystem[StateType]
    _operations: tuple[Operation, ...]  # kept for views only: a state made by hand has no beginning
    _scope: Scope | None
    _position: Position | None
    _data: StateType  # unset until somebody asks for it

    def __init__(
        self, initial_values: dict[str, Any] | None = None, typing_system: TypingSystem[StateType] | None = None
    ) -> None:
        self._values = {} if initial_values is None else initial_values
        self._typing_system = cast("TypingSystem[StateType]", PLAIN) if typing_system is None else typing_system
        self._operations = ()
        self._scope = None
        self._position = None

    @property
    def typing_system(self) -> TypingSystem[StateType]:
        return self._typing_system

    def with_typing_system(self, typing_system: TypingSystem[AssignedStateType]) -> "State[AssignedStateType]":
        """Return the same state, seen through `typing_system`."""
        return make_state(self._values, typing_system, self._scope, self._operations, self._position)

    @property
    def data(self) -> StateType:
        """The state as a value of its type, made on first use."""
        try:
            return self._data
        except AttributeError:
            self._data = self._typing_system.construct_data(self)
            return self._data

    def update(self, **updates: Any) -> "State[StateType]":
        """Return a state in which each given key has the given value."""
        operations = self._operations
        if self._scope is not None:
            operations = (*operations, *[Set(key, value) for key, value in updates.items()])
        return make_state({**self._values, **updates}, self._typing_system, self._scope, operations, self._position)

    def append(self, **updates: Any) -> "State[StateType]":
        """Return a state in which each given value is the last one of the list at its key; a missing key starts as []."""
        return self.apply_operations(Append(key, value) for key, value in updates.items())

    def extend(self, **updates: Iterable[Any]) -> "State[StateType]":
        """Return a state in which the list at each key goes on with the given values; a missing key starts as []."""
        return self.apply_operations(Extend(key, tuple(items)) for key, items in updates.items())

    def increment(self, **updates: int | float) -> "State[StateType]":
        """Return a state in which the number at each key has grown; a missing key starts at 0."""
        return self.apply_operations(Increment(key, by) for key, by in updates.items())

    def wipe(self, delete: list[str] | None = None, keep: list[str] | None = None) -> "State[StateType]":
        """Return a state without the keys in `delete`, or with those in `keep` alone; without any when neither is given.

        In an action this reaches the whole state, beyond what the action reads.
        """
        if delete is not None and keep is not None:
            raise ValueError("wipe takes the keys to delete or the keys to keep, not both")
        there = self._values if self._scope is None else {**self._scope.values, **self._values}
        gone = there.keys() - set(keep or ()) if delete is None else there.keys() & set(delete)
        wiped = self.apply_operations(Delete(key) for key in sorted(gone))
        if delete is None:
            wiped._position = None  # whoever wipes everything means the position, too
        return wiped

    def merge(self, other: "State[Any]") -> "State[StateType]":
        """Return a state with the values of both; those of `other` win."""
        merged = self._after(
            {**self._values, **other._values},
            [Set(key, value) for key, value in other._values.items() if self._values.get(key, _NOTHING) is not value],
        )
        merged._position = other._position or self._position
        return merged

    def subset(self, *keys: str, ignore_missing: bool = True) -> "State[StateType]":
        """Return a state with the given keys alone. With `ignore_missing=False` a missing one raises UnknownKey."""
        kept = {key: self[key] for key in keys if not ignore_missing or key in self._values}
        return State(kept, self._typing_system)

    def apply_operation(self, operation: "StateDelta") -> "State[StateType]":
        """Return the state after a delta of `app.engine.deltas`."""
        return self.apply_operations(operation.operations())

    def apply_operations(self, operations: Iterable[Operation]) -> "State[StateType]":
        """Return the state after `operations`, in order. Raises OperationError when one does not fit its value."""
        done = list(operations)
        values = dict(self._values)
        if self._scope is not None:
            self._uncover(values, done)
        for operation in done:
            operation.apply(values)
        return self._after(values, done)

    def get_all(self) -> dict[str, Any]:
        """Return a new dict of all keys and values."""
        return dict(self._values)

    def serialize(self, **kwargs: Any) -> dict[str, Any]:
        """Return the state as a dict that JSON can hold. See `app.engine.serde`."""
        from app.engine.serde import serialize_fields  # serialisation is not needed to run a machine

        return serialize_fields(self._values, **kwargs)

    @classmethod
    def deserialize(cls, json_dict: dict[str, Any], **kwargs: Any) -> "State[StateType]":
        """Return the state that `serialize` wrote down."""
        from app.engine.serde import deserialize_fields  # serialisation is not needed to run a machine

        return State(deserialize_fields(json_dict, **kwargs))

    def __getitem__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            raise self._missing(key) from None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value at `key`, or `default` when the state has no such key.

        A view never answers wrongly: a key that exists and that the action does not declare raises UndeclaredRead.
        """
        return self._values[key] if key in self else default

    def __contains__(self, key: object) -> bool:
        if key in self._values:
            return True
        if self._scope is not None and key in self._scope.values and not self._deleted(key):
            raise self._missing(str(key))
        return False

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def keys(self) -> list[str]:  # type: ignore[override]  # Burr gives a list
        """Return the keys as a new list."""
        return list(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def __reduce__(self) -> tuple[Any, ...]:
        return make_state, (self._values, self._typing_system, self._scope, self._operations, self._position)

    def _after(self, values: dict[str, Any], operations: list[Operation]) -> "State[StateType]":
        kept = self._operations if self._scope is None else (*self._operations, *operations)
        return make_state(values, self._typing_system, self._scope, kept, self._position)

    def _uncover(self, values: dict[str, Any], operations: list[Operation]) -> None:
        # an append to a key that the action does not read acts on the real list, not on a new one
        hidden = self._scope.values if self._scope is not None else {}
        for operation in operations:
            key = operation.key
            if key not in values and key in hidden and not isinstance(operation, Set | Delete) and not self._deleted(key):
                values[key] = hidden[key]

    def _deleted(self, key: object) -> bool:
        return any(isinstance(operation, Delete) and operation.key == key for operation in self._operations)

    def _missing(self, key: str) -> UnknownKey:
        if self._scope is None or key in self._scope.declared.reads:
            return UnknownKey(key, self._values)
        declared = self._scope.declared
        return UndeclaredRead(key, declared.action, declared.reads, exists=key in self._scope.values)


def make_state(
    values: dict[str, Any],
    typing_system: TypingSystem[StateType],
    scope: Scope | None,
    operations: tuple[Operation, ...],
    position: Position | None,
) -> State[StateType]:
    """Return a state with all its parts given. `values` is taken as it is: the caller gives it away."""
    state: State[StateType] = State.__new__(State)
    state._values = values
    state._typing_system = typing_system
    state._scope = scope
    state._operations = operations
    state._position = position
    return state


def view(state: State[StateType], declared: Declared, keys: Iterable[str]) -> State[StateType]:
    """Return what an action sees of `state`: those of `keys` that exist. States derived from it share its scope."""
    values = state._values
    shown = {key: values[key] for key in keys if key in values}
    return make_state(shown, state._typing_system, Scope(values, declared), (), None)


def is_view(state: State[Any]) -> bool:
    """Return whether `state` is what an action sees, and not a whole state."""
    return state._scope is not None


def present_values(state: State[Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the values at those of `keys` that exist, also where a view hides them."""
    shown = state._values
    hidden = state._scope.values if state._scope is not None else {}
    there = (key for key in keys if key in shown or (key in hidden and not state._deleted(key)))
    return {key: shown[key] if key in shown else hidden[key] for key in there}


def operations_since(before: State[Any], after: State[Any]) -> tuple[Operation, ...]:
    """Return what leads from the view `before` to `after`.

    A state that descends from the view knows its operations. Any other one is compared with what the view shows: keys that
    differ are set, keys that are missing are deleted, keys that start with two underscores are left alone.
    """
    if after._scope is before._scope:
        return after._operations
    old, new = before._values, after._values
    hidden = before._scope.values if before._scope is not None else old
    changes: list[Operation] = [
        Set(key, value) for key, value in new.items() if not key.startswith("__") and not _same(hidden.get(key, _NOTHING), value)
    ]
    changes += [Delete(key) for key in old if key not in new]
    return tuple(changes)


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    try:
        return type(old) is type(new) and bool(old == new)
    except Exception:  # a value that refuses to be compared (an array, say) counts as changed
        return False


def widened(before: State[StateType], keys: Iterable[str]) -> State[StateType]:
    """Return the view `before` with those of `keys` that exist shown, too."""
    if before._scope is None:
        return before
    hidden = before._scope.values
    shown = {key: hidden[key] for key in keys if key in hidden}
    return make_state(shown, before._typing_system, before._scope, (), None)
