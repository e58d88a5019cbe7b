"""What can go wrong in the engine: one root, one class per thing that a caller would handle differently.

Messages name the thing, what was found and what was expected. They never hold a state value: states hold secrets.
Each class is also the builtin that a user of Burr catches today.
"""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

__all__ = [
    "ActionQuit",
    "ActionTimeout",
    "AsyncActionInSyncRun",
    "BuildError",
    "ConditionError",
    "EngineError",
    "GraphError",
    "InvalidInputs",
    "InvalidResult",
    "MissingWrite",
    "MixedModeError",
    "NothingToRun",
    "OperationError",
    "RunAbandoned",
    "UndeclaredRead",
    "UndeclaredWrite",
    "UninitializedPersister",
    "UnknownAction",
    "UnknownKey",
    "UnknownTag",
    "UnsafeExpression",
    "kind_of",
    "nearest",
]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name that looks most like `name`, or nothing when none does."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def kind_of(value: object) -> str:
    """Return what `value` is, for a message: `an int`, `a State`, `None`; never what it holds."""
    if value is None:
        return "None"
    name = type(value).__name__
    if name == "View":  # to an action that is a State, as any other
        name = "State"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


class EngineError(Exception):
    """Root of every error that the engine raises on its own account. It can go to another process and back."""

    def __reduce__(self) -> tuple[Any, ...]:
        # not by calling the class again: it takes what its message is made of, and not the message
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[EngineError], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> EngineError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


class ActionQuit(EngineError, RuntimeError):
    """A user's code raised something that is no Exception; `__cause__` is that, unless it happened in another process.

    `error_type` is the name of its class and `message` its text, which may hold what the code put there.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(f"{error_type}: {message}" if message else error_type)
        self.error_type = error_type
        self.message = message


class OperationError(EngineError, ValueError):
    """An operation does not fit the value it meets: an append to something that is no list, for example."""


class UnknownKey(EngineError, KeyError):
    """A state has no such key. `action` is the one that asked for it, if one did."""

    def __init__(self, key: str, known: Collection[str], action: str | None = None) -> None:
        asked = (
            f"the state has no key {key!r}"
            if action is None
            else f"action {action!r} reads {key!r}, which the state does not have"
        )
        super().__init__(f"{asked}; it has {sorted(known)}{nearest(key, known)}")
        self.key = key
        self.action = action

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError shows the repr of its argument, which hides the sentence in quotes


class UndeclaredRead(UnknownKey):
    """An action asked for a key of the state that it does not declare in its reads."""

    def __init__(self, key: str, action: str, reads: Collection[str], *, exists: bool) -> None:
        found = "which it does not declare" if exists else "which neither the state nor its declaration has"
        KeyError.__init__(self, f"action {action!r} reads {key!r}, {found}; its reads are {sorted(reads)}{nearest(key, reads)}")
        self.key = key
        self.action = action


class UndeclaredWrite(EngineError, ValueError):
    """An action wrote keys outside its declared writes; nothing of the step was kept."""

    def __init__(self, action: str, keys: Collection[str], writes: Collection[str]) -> None:
        first = min(keys)
        super().__init__(f"action {action!r} wrote {sorted(keys)} but declares {sorted(writes)}{nearest(first, writes)}")
        self.action = action
        self.keys = tuple(sorted(keys))


class MissingWrite(EngineError, ValueError):
    """A key that an action declares to write is not in the state after it."""

    def __init__(self, action: str, keys: Collection[str], writes: Collection[str]) -> None:
        super().__init__(f"action {action!r} did not write {sorted(keys)}; it declares {sorted(writes)}")
        self.action = action
        self.keys = tuple(sorted(keys))


class InvalidInputs(EngineError, ValueError):
    """Inputs are missing, not expected, reserved or of a wrong type, or no mapping: then `found` says what.

    Raised before the action runs. `action` is None where no action of the machine takes them.
    """

    def __init__(
        self,
        action: str | None,
        *,
        missing: Collection[str] = (),
        unexpected: Collection[str] = (),
        mistyped: Mapping[str, str] | None = None,
        accepted: Collection[str] = (),
        found: str | None = None,
    ) -> None:
        parts = [] if found is None else [f"got its inputs as a {found}; expected a mapping from their names to values"]
        if missing:
            parts.append(f"misses the inputs {sorted(missing)}")
        if unexpected:
            parts.append(f"got the inputs {sorted(unexpected)}, which it does not declare")
        for name, problem in sorted((mistyped or {}).items()):
            parts.append(f"got an input of a wrong type: {name!r} {problem}")
        hint = nearest(min(unexpected), accepted) if unexpected else ""
        who = "the machine" if action is None else f"action {action!r}"
        super().__init__(f"{who} {' and '.join(parts)}; it takes {sorted(accepted)}{hint}")
        self.action = action
        self.missing = tuple(sorted(missing))
        self.unexpected = tuple(sorted(unexpected))
        self.mistyped = tuple(sorted(mistyped or ()))


class UnknownAction(EngineError, ValueError):
    """A name is given that no action of the graph has."""

    def __init__(self, name: object, known: Collection[str], where: str = "the graph") -> None:
        if isinstance(name, str):
            found, hint = f"the action {name!r}, which does not exist", nearest(name, known)
        else:
            found, hint = f"{kind_of(name)}; expected the name of an action", ""
        super().__init__(f"{where} names {found}; actions are {sorted(known)}{hint}")
        self.name = name


class UnknownTag(EngineError, ValueError):
    """A tag is given that no action of the graph has."""

    def __init__(self, tag: str, known: Collection[str]) -> None:
        super().__init__(f"no action has the tag {tag!r}; tags are {sorted(known)}{nearest(tag, known)}")
        self.tag = tag


class InvalidResult(EngineError, ValueError):
    """What an action returned or yielded has not the shape that its kind of action must have."""

    def __init__(self, action: str, found: str, expected: str) -> None:
        super().__init__(f"action {action!r} gave {found}; expected {expected}")
        self.action = action


class AsyncActionInSyncRun(EngineError, ValueError):
    """A sync run method came to an async action."""

    def __init__(self, action: str) -> None:
        super().__init__(
            f"action {action!r} is async and cannot run in a sync run; use astep, aiterate, arun or an async stream method"
        )
        self.action = action


class MixedModeError(EngineError, ValueError):
    """Sync and async parts are combined in a way that cannot work."""


class GraphError(EngineError, ValueError):
    """Actions or transitions do not make a graph."""


class BuildError(EngineError, ValueError):
    """An application builder was given calls that contradict each other, or too few of them."""


class ConditionError(EngineError, ValueError):
    """A condition cannot be made or cannot be evaluated on this state."""


class UnsafeExpression(ConditionError):
    """An expression uses something that expressions may not use."""


class ActionTimeout(EngineError, TimeoutError):
    """An action did not finish within its `timeout_s`."""

    def __init__(self, action: str, timeout_s: float) -> None:
        super().__init__(f"action {action!r} did not finish within {timeout_s:g} s")
        self.action = action
        self.timeout_s = timeout_s


class RunAbandoned(EngineError):
    """Whoever iterated over a run or a stream stopped before its end. Only hooks ever see this."""

    def __init__(self) -> None:
        super().__init__("the run was abandoned before its end")


class NothingToRun(EngineError, ValueError):
    """A stream was asked for, but no transition leads on."""

    def __init__(self, prior_action: str | None) -> None:
        super().__init__(f"there is nothing to stream: no transition leads on from {prior_action!r}")
        self.prior_action = prior_action


class UninitializedPersister(EngineError, RuntimeError):
    """A persister that must be initialized first was handed to a builder."""

    def __init__(self, persister: object) -> None:
        super().__init__(f"{type(persister).__name__} is not initialized; call its initialize() before building")
