"""The state of an application: an immutable mapping of names to values.

What an action sees of a state, and how its changes are kept, is in `app.engine.view`. No I/O here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, cast

from typing_extensions import TypeVar

from app.engine.errors import OperationError, UnknownKey, kind_of
from app.engine.frozen_values import IMMUTABLE
from app.engine.operations import Append, Delete, Extend, Increment, Operation, Set
from app.engine.typing import DictBasedTypingSystem, TypingSystem
from app.engine.working_copies import LENDERS, lend

if TYPE_CHECKING:
    from app.engine.deltas import StateDelta

__all__ = ["Position", "State", "values_of"]

StateType = TypeVar("StateType", default=Any)
AssignedStateType = TypeVar("AssignedStateType")

PLAIN = DictBasedTypingSystem()

Position: TypeAlias = tuple[str | None, int]
"""Where an application stands: the last action that was committed, and its `seq` (-1 before the first)."""

Changes: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = type[Set] | type[Append] | type[Extend] | type[Increment] | type[Delete]
"""One change of several keys at once: a kind of operation, and its argument for each key."""


class State(Mapping[str, Any], Generic[StateType]):
    """An immutable mapping of names to values. Every method that changes something returns a new state.

    States share their values. A list, dict, set or object of an application's state is read as a copy: changing it in place
    changes no state. A state made by hand has a dict for its `data`; `typing_system` makes it something else.
    """

    __slots__ = ("_data", "_position", "_typing_system", "_values")

    _values: dict[str, Any]
    _typing_system: TypingSystem[StateType]
    _position: Position | None  # of the application that it came from, if it came from one
    _data: StateType  # unset until somebody asks for it

    def __init__(
        self, initial_values: dict[str, Any] | None = None, typing_system: TypingSystem[StateType] | None = None
    ) -> None:
        self._values = {} if initial_values is None else initial_values
        self._typing_system = cast("TypingSystem[StateType]", PLAIN) if typing_system is None else typing_system
        self._position = None

    @property
    def typing_system(self) -> TypingSystem[StateType]:
        return self._typing_system

    def with_typing_system(self, typing_system: TypingSystem[AssignedStateType]) -> "State[AssignedStateType]":
        """Return the same state, seen through `typing_system`."""
        return make_state(self._values, typing_system, self._position)

    @property
    def data(self) -> StateType:
        """The state as a value of its type. In an action it is made once, on first use."""
        if type(self) is State and self._position is not None:
            return self._typing_system.construct_data(self)  # others have the same state
        try:
            return self._data
        except AttributeError:
            self._data = self._typing_system.construct_data(self)
            return self._data

    def update(self, /, **updates: Any) -> "State[StateType]":
        """Return a state in which each given key has the given value."""
        return self._derived({**self._values, **updates}, Set, updates)

    def append(self, /, **updates: Any) -> "State[StateType]":
        """Return a state in which each given value is the last one of the list at its key; a missing key starts as []."""
        return self._applied(Append, updates)

    def extend(self, /, **updates: Iterable[Any]) -> "State[StateType]":
        """Return a state in which the list at each key goes on with the given values; a missing key starts as []."""
        return self._applied(Extend, updates)

    def increment(self, /, **updates: Any) -> "State[StateType]":
        """Return a state in which the number at each key, of whatever type, has grown; a missing key starts at 0."""
        return self._applied(Increment, updates)

    def wipe(self, delete: Iterable[str] | None = None, keep: Iterable[str] | None = None) -> "State[StateType]":
        """Return a state without the keys in `delete`, or with those in `keep` alone; without any when neither is given.

        In an action this reaches the whole state, beyond what the action reads.
        """
        if delete is not None and keep is not None:
            raise ValueError("wipe takes the keys to delete or the keys to keep, not both")
        if delete is not None:
            return self._deleted(self._reachable() & set(delete), position_of(self))
        # whoever keeps nothing but a few keys does not mean to keep the position
        return self._deleted(self._reachable() - set(keep or ()), None)

    def merge(self, other: "State[Any]") -> "State[StateType]":
        """Return a state with the values of both; those of `other` win."""
        mine, theirs = self._values, other._values
        changed = {key: other[key] for key, value in theirs.items() if key not in mine or mine[key] is not value}
        merged = self._derived({**mine, **changed}, Set, changed)
        merged._position = position_of(other) or position_of(self)
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
        after = self
        for operation in operations:
            match operation:
                case Set(key, value):
                    after = after.update(**{key: value})
                case Append(key, value):
                    after = after.append(**{key: value})
                case Extend(key, items):
                    after = after.extend(**{key: items})
                case Increment(key, by):
                    after = after.increment(**{key: by})
                case Delete(key):
                    after = after.wipe(delete=[key])
        return after

    def get_all(self) -> dict[str, Any]:
        """Return a new dict of all keys and values."""
        return {key: value if type(value) in IMMUTABLE else self._own(key, value) for key, value in self._values.items()}

    def serialize(self, **kwargs: Any) -> dict[str, Any]:
        """Return the state as a dict that JSON can hold. See `app.engine.serde`."""
        from app.engine.serde import serialize_fields  # serialisation is not needed to run a machine

        return serialize_fields(self.get_all(), **kwargs)

    @classmethod
    def deserialize(cls, json_dict: dict[str, Any], **kwargs: Any) -> "State[StateType]":
        """Return the state that `serialize` wrote down."""
        from app.engine.serde import deserialize_fields  # serialisation is not needed to run a machine

        return State(deserialize_fields(json_dict, **kwargs))

    def __getitem__(self, key: str) -> Any:
        try:
            value = self._values[key]
        except KeyError:
            raise self._missing(key) from None
        return value if type(value) in IMMUTABLE else self._own(key, value)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value at `key`, or `default` when the state has no such key."""
        return self[key] if key in self else default  # noqa: SIM401  # this is `get`

    def __contains__(self, key: object) -> bool:
        return key in self._values

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
        return make_state, (self._values, self._typing_system, self._position)

    def _derived(self, values: dict[str, Any], kind: Kind, changes: Changes) -> "State[StateType]":  # noqa: ARG002
        """Return a state with `values`, which `changes` of one kind have led to."""
        return make_state(values, self._typing_system, self._position)

    def _applied(self, kind: Kind, changes: Changes) -> "State[StateType]":
        values = dict(self._values)
        if kind is Extend:
            changes = {key: _items(key, given) for key, given in changes.items()}
        for key, argument in changes.items():
            self._uncover(key, values)
            kind(key, argument).apply(values)  # type: ignore[call-arg]  # each kind takes its own argument
        return self._derived(values, kind, changes)

    def _deleted(self, keys: set[str], position: Position | None) -> "State[StateType]":
        values = {key: value for key, value in self._values.items() if key not in keys}
        wiped = self._derived(values, Delete, dict.fromkeys(sorted(keys)))
        wiped._position = position
        return wiped

    def _own(self, key: str, value: Any) -> Any:  # noqa: ARG002
        """Return `value`, which is at `key`, as whoever reads it may have it: a copy, if an application's state holds it."""
        lender = LENDERS.get(type(value))
        if lender is not None:
            return lender(value)
        return value if self._position is None else lend(value)

    def _reachable(self) -> set[str]:
        """Return the keys that can be deleted from here."""
        return set(self._values)

    def _uncover(self, key: str, values: dict[str, Any]) -> None:
        """Put into `values` what an operation on `key` has to act on, if it is there and hidden."""

    def _missing(self, key: str) -> UnknownKey:
        return UnknownKey(key, self._values)


def _items(key: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, Iterable):
        raise OperationError(f"cannot extend key {key!r} with {kind_of(given)}; expected the values to add")
    return tuple(given)


_new = State.__new__


def values_of(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of `state` themselves, and no copies: for those who only read them."""
    return state._values if isinstance(state, State) else state


def position_of(state: State[Any]) -> Position | None:
    """Return where the application stands that `state` came from; None if it came from none."""
    return getattr(state, "_position", None)


def make_state(values: dict[str, Any], typing_system: TypingSystem[StateType], position: Position | None) -> State[StateType]:
    """Return a state with all its parts given. `values` is taken as it is: the caller gives it away."""
    state: State[StateType] = _new(State)
    state._values = values
    state._typing_system = typing_system
    state._position = position
    return state
