"""What an action works on: a state that shows the keys which the action reads, and remembers what it changes.

A view is a State to the action. Whatever the action derives from it knows the way from the view, as changes that become
operations only if somebody wants to store them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from app.engine.errors import MissingWrite, OperationError, UndeclaredRead, UndeclaredWrite, UnknownKey
from app.engine.freezing import Freezer, freeze, frozen_extension
from app.engine.frozen_values import SETTLED, FrozenList
from app.engine.operations import Append, Delete, Extend, Increment, Operation, Set
from app.engine.state import Changes, Kind, State
from app.engine.typing import TypingSystem
from app.engine.working_copies import LENDERS, lend

__all__ = [
    "Declared",
    "View",
    "changes_between",
    "frozen_log",
    "is_view",
    "operations_of",
    "present_values",
    "settle",
    "show",
    "travelling_values",
]

StateType = TypeVar("StateType")

Entry: TypeAlias = "tuple[Log, Kind, Changes]"
Log: TypeAlias = "Entry | None"
"""What has changed since the view was made, the latest change first; None at the beginning."""

_NOTHING = object()
_NO_VALUES: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Declared:
    """What an action says about the state: the keys that it reads and those that it writes."""

    action: str
    reads: tuple[str, ...]
    writes: frozenset[str]


class View(State[StateType]):
    """A part of a whole state, for one action. It never answers wrongly about a key that it does not show: it raises.

    An operation on a hidden key acts on the real value; what it leads to is shown from then on. A value of the whole state is
    given out as one working copy, however often it is read, also from states that are derived from the view.
    """

    __slots__ = ("_declared", "_lent", "_log", "_whole")

    _whole: Mapping[str, Any]
    _lent: dict[str, tuple[Any, Any]]  # key -> the value and its working copy
    _declared: Declared
    _log: Log

    def update(self, /, **updates: Any) -> "State[StateType]":
        after: View[StateType] = _new(View)
        after._values = {**self._values, **updates}
        after._typing_system = self._typing_system
        after._whole = self._whole
        after._lent = self._lent
        after._declared = self._declared
        after._log = (self._log, Set, updates)
        return after

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value at `key`, or `default` when the state has no such key.

        Raises UndeclaredRead for a key that the state has and that the action does not declare.
        """
        return self[key] if key in self else default  # noqa: SIM401  # this is `get`

    def with_typing_system(self, typing_system: TypingSystem[Any]) -> "State[Any]":
        return make_view(self._values, typing_system, self._whole, self._declared, self._log, self._lent)

    def __contains__(self, key: object) -> bool:
        if key in self._values:
            return True
        if key in self._whole and not self._has_deleted(key):
            raise self._missing(str(key))
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        # another process gets what the action may touch, and no more
        kept = {key: self._whole[key] for key in self._declared.writes if key in self._whole}
        return _view_from_elsewhere, (self._values, self._typing_system, kept, self._declared, self._log)

    def _derived(self, values: dict[str, Any], kind: Kind, changes: Changes) -> "State[StateType]":
        return make_view(values, self._typing_system, self._whole, self._declared, (self._log, kind, changes), self._lent)

    def _own(self, key: str, value: Any) -> Any:
        lent = self._lent.get(key)
        if lent is not None and lent[0] is value:
            return lent[1]
        if type(value) in LENDERS or value is self._whole.get(key, _NOTHING):
            own = lend(value)
            if own is not value:
                self._lent[key] = value, own
            return own
        return value  # the action has put it there itself

    def _applied(self, kind: Kind, changes: Changes) -> "State[StateType]":
        try:
            return super()._applied(kind, changes)
        except OperationError as error:
            raise OperationError(f"action {self._declared.action!r} {error}") from None

    def _reachable(self) -> set[str]:
        return {*self._values, *(key for key in self._whole if not self._has_deleted(key))}

    def _uncover(self, key: str, values: dict[str, Any]) -> None:
        if key not in values and key in self._whole and not self._has_deleted(key):
            values[key] = self._whole[key]

    def _has_deleted(self, key: object) -> bool:
        return any(kind is Delete and key in changes for _, kind, changes in _in_order(self._log))

    def _missing(self, key: str) -> UnknownKey:
        if key in self._declared.reads:
            return UnknownKey(key, self._reachable(), self._declared.action)
        return UndeclaredRead(key, self._declared.action, self._declared.reads, exists=key in self._whole)


_new = State.__new__


def make_view(
    values: dict[str, Any],
    typing_system: TypingSystem[StateType],
    whole: Mapping[str, Any],
    declared: Declared,
    log: Log,
    lent: dict[str, tuple[Any, Any]],
) -> View[StateType]:
    """Return a view with all its parts given."""
    made: View[StateType] = _new(View)
    made._values = values
    made._typing_system = typing_system
    made._whole = whole
    made._lent = lent
    made._declared = declared
    made._log = log
    return made


def _view_from_elsewhere(
    values: dict[str, Any], typing_system: TypingSystem[StateType], whole: Mapping[str, Any], declared: Declared, log: Log
) -> View[StateType]:
    """Return a view that has come from another process: its values are nobody else's, and become committed ones here."""
    freezer = Freezer()
    frozen = {key: freezer.freeze(value) for key, value in whole.items()}
    shown = {key: freezer.freeze(value) if log is None else value for key, value in values.items()}
    return make_view(shown, typing_system, {**shown, **frozen} if log is None else frozen, declared, log, {})


def show(state: State[StateType], declared: Declared, keys: Iterable[str]) -> View[StateType]:
    """Return what an action sees of `state`: those of `keys` that exist. A view of a view shows more of the same state."""
    # `type() is`, because isinstance of a Mapping costs more than the rest of this
    whole = state._whole if type(state) is View else state._values
    shown = {}
    for key in keys:
        if key in whole:
            shown[key] = whole[key]
    made: View[StateType] = _new(View)
    made._values = shown
    made._typing_system = state._typing_system
    made._whole = whole
    made._lent = {}
    made._declared = declared
    made._log = None
    return made


def is_view(state: State[Any]) -> bool:
    """Return whether `state` is what an action sees, and not a whole state."""
    return isinstance(state, View)


def present_values(state: State[Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the values at those of `keys` that exist, also where a view hides them."""
    values = dict(state._values)
    for key in keys:
        state._uncover(key, values)
    return {key: values[key] for key in keys if key in values}


def changes_between(before: View[Any], after: State[Any], freezer: Freezer | None = None) -> Log:
    """Return what leads from `before` to `after`, with its values frozen.

    A state that descends from the view knows it. Any other one is compared with what the view shows: keys that differ are
    set, keys that are missing are deleted, keys that start with two underscores are left alone.
    """
    freezer = freezer or Freezer()
    if type(after) is View and after._whole is before._whole:
        return frozen_log(after._log, freezer, before._whole)
    old, new, whole = before._values, after._values, before._whole
    changed = {}
    for key, value in new.items():
        known = whole.get(key, _NOTHING)
        if value is not known and not key.startswith("__"):
            frozen = freezer.freeze(value, known)
            if not _same(known, frozen):
                changed[key] = frozen
    gone = dict.fromkeys(key for key in old if key not in new)
    log: Log = (None, Set, changed) if changed else None
    return (log, Delete, gone) if gone else log


def frozen_log(log: Log, freezer: Freezer | None = None, before: Mapping[str, Any] = _NO_VALUES) -> Log:
    """Return the same changes with their values frozen; what is as in `before` is taken from there."""
    if log is None:
        return None
    if log[0] is None and log[1] is not Extend:  # one change of values that are frozen, or never change: most frequent by far
        for value in log[2].values():
            if type(value) not in SETTLED:
                break
        else:
            return log
    frozen: Log = None
    freezer = freezer or Freezer()
    for _, kind, changes in _in_order(log):
        if kind is Extend:
            changes = {key: tuple(map(freezer.freeze, items)) for key, items in changes.items()}
        else:
            changes = {key: freezer.freeze(value, before.get(key)) for key, value in changes.items()}
        frozen = (frozen, kind, changes)
    return frozen


def operations_of(log: Log) -> tuple[Operation, ...]:
    """Return the changes as operations, one per key, in the order in which they were made."""
    if log is None:
        return ()
    if log[0] is None:  # one change, by far the most frequent way
        _, kind, changes = log
        return tuple([_operation(kind, key, changes[key]) for key in changes])
    return tuple([_operation(kind, key, changes[key]) for _, kind, changes in _in_order(log) for key in changes])


def settle(declared: Declared, before: Mapping[str, Any], log: Log) -> dict[str, Any]:
    """Return `before` after the changes in `log`, whose values are frozen. Keys that they do not touch keep their value.

    Raises UndeclaredWrite for a key that is set without being declared, and MissingWrite for a declared one that is not there in
    the end. Any key may be deleted.
    """
    writes = declared.writes
    if log is not None and log[0] is None and log[1] is Set and log[2].keys() == writes:
        return {**before, **log[2]}  # one update of all that is declared: by far the most frequent way
    values = dict(before)
    for _, kind, changes in _in_order(log):
        if kind is not Delete and not changes.keys() <= writes:
            raise UndeclaredWrite(declared.action, _written(log) - writes, writes)
        if kind is Set:
            values.update(changes)
            continue
        for key, argument in changes.items():
            current = values.get(key)
            if (kind is Append or kind is Extend) and isinstance(current, FrozenList):
                values[key] = frozen_extension(current, argument if kind is Extend else (argument,))
                continue
            _operation(kind, key, argument).apply(values)
            if kind is not Delete:
                values[key] = freeze(values[key])
    if not writes <= values.keys():
        raise MissingWrite(declared.action, writes - values.keys(), writes)
    return values


def _written(log: Log) -> set[str]:
    return {key for _, kind, changes in _in_order(log) if kind is not Delete for key in changes}


def log_of(operations: Collection[Operation]) -> Log:
    """Return operations as changes."""
    log: Log = None
    for operation in operations:
        log = (log, type(operation), {operation.key: _argument(operation)})
    return log


def travelling_values(view: State[Any]) -> Mapping[str, Any]:
    """Return the values that a view takes along when it is pickled: those it shows, and those that its action may write."""
    if not isinstance(view, View):
        return view._values
    return {**{key: view._whole[key] for key in view._declared.writes if key in view._whole}, **view._values}


def _in_order(log: Log) -> list[Entry]:
    """Return the entries of a log, the first change first."""
    entries = []
    while log is not None:
        entries.append(log)
        log = log[0]
    entries.reverse()
    return entries


def _operation(kind: Kind, key: str, argument: Any) -> Operation:
    if kind is Delete:
        return Delete(key)
    return kind(key, argument)  # type: ignore[call-arg]  # all but Delete take an argument


def _argument(operation: Operation) -> Any:
    match operation:
        case Set(_, argument) | Append(_, argument) | Extend(_, argument) | Increment(_, argument):
            return argument
        case Delete():
            return None


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    try:
        return type(old) is type(new) and bool(old == new)
    except Exception:  # a value that refuses to be compared (an array, say) counts as changed
        return False
