"""What goes to another process and comes back, as values; packing and unpacking them with errors that name the key.

The machine itself never travels: the other side loads it from its source. Packing is pickle: both sides are ours and run
the same code, and nothing here reads bytes that a stranger sent.
"""

import importlib
import io
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from app.engine.actions import Action
from app.engine.context import ApplicationContext
from app.engine.ports import ActionOutcome
from app.engine.state import State
from app.engine.view import travelling_values
from app.executors.errors import CannotTravel, RemoteActionError
from app.executors.told_errors import RemoteTraceback, ToldError, chain_of, text_of, written

__all__ = ["Errand", "Failure", "Item", "MachineSource", "Reply", "describe_failure", "pack", "rebuild", "unpack"]


@dataclass(frozen=True, slots=True)
class MachineSource:
    """Where another process finds a machine: `loader`, as "package.module:function", called with `spec`.

    What it returns has a `blueprint`.
    """

    loader: str
    spec: str


@dataclass(frozen=True, slots=True)
class Errand:
    """One sync action to be carried out elsewhere. `payload` is what it sees and is given, packed.

    `carried` is the action itself, packed, when the machine's graph does not have it under its name.
    """

    source: MachineSource
    action: str
    is_streaming: bool
    payload: bytes
    carried: bytes | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One packed item of a streaming action."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception on its way home, with its causes in `chain`; `error` is None when it could not be pickled."""

    error: bytes | None
    type_name: str
    message: str
    traceback: str
    chain: tuple[ToldError, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """How an errand ended: a packed ActionOutcome or a failure, after how many items, and what it took there."""

    outcome: bytes | None
    failure: Failure | None
    items: int
    wall_s: float
    cpu_s: float


def pack(view: State[Any], inputs: Mapping[str, Any], action: str) -> bytes:
    """Return what an action sees and is given as bytes, with the context of the call that is under way.

    Raises CannotTravel naming the first key that cannot go.
    """
    try:
        return _dump((view, dict(inputs), ApplicationContext.get()))
    except Exception as exc:  # whatever a user's __reduce__ raises
        raise _culprit({"state": _travelling(view), "input": inputs}, action, exc) from None


def pack_action(action: Action) -> bytes:
    """Return an action as bytes. Raises CannotTravel."""
    buffer = io.BytesIO()
    try:
        _ActionPickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(action)
        return buffer.getvalue()
    except Exception as exc:
        raise CannotTravel(
            f"action {action.name!r} is not of the machine's graph and cannot go to another process: {_reason(action, exc)}",
            where="action",
            key=action.name,
        ) from None


def pack_outcome(outcome: ActionOutcome, action: str) -> bytes:
    """Return `outcome` as bytes. Raises CannotTravel naming the first key of the result or the state that cannot."""
    try:
        return _dump(outcome)
    except Exception as exc:
        written = {operation.key: operation for operation in outcome.operations}
        raise _culprit({"result": outcome.result or {}, "state": written}, action, exc) from None


def pack_item(item: Any, action: str, index: int) -> bytes:
    try:
        return _dump(item)
    except Exception as exc:
        raise CannotTravel(
            f"action {action!r}: item {index} cannot be sent from another process: {_reason(item, exc)}",
            where="item",
            key=str(index),
        ) from None


def unpack(payload: bytes, action: str) -> Any:
    """Return what was packed. Raises CannotTravel when it cannot be read here."""
    try:
        return pickle.loads(payload)  # noqa: S301 - written by our own worker
    except Exception as exc:
        raise CannotTravel(
            f"action {action!r}: what came back cannot be read: {type(exc).__name__}", where="result", key=None
        ) from exc


def describe_failure(error: Exception) -> Failure:
    """Return `error` in a form that travels. Never fails, whatever the error's class does."""
    dumped: bytes | None = None
    try:
        dumped = _dump(error)
        pickle.loads(dumped)  # noqa: S301 - our own bytes; many exceptions dump and do not load
    except BaseException:  # the border to the user's class
        dumped = None
    chain = chain_of(error)
    return Failure(dumped, type(error).__qualname__, text_of(error), written(chain), chain)


def rebuild(failure: Failure, action: str) -> Exception:
    """Return the exception that `failure` describes, with the other side's traceback as its cause."""
    error: Exception = RemoteActionError(f"action {action!r} raised {failure.type_name}: {failure.message}", failure.type_name)
    if failure.error is not None:
        try:
            error = pickle.loads(failure.error)  # noqa: S301 - written by our own worker
        except Exception as exc:
            error.add_note(f"{failure.type_name} cannot be rebuilt here: {type(exc).__name__}")
    error.__cause__ = RemoteTraceback(failure.chain, failure.traceback)
    return error


class _ActionPickler(pickle.Pickler):
    """Finds the function of a decorated action, whose name in its module means what the decorator made of it."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType):
            name: str = obj.__qualname__
            named = getattr(sys.modules.get(obj.__module__), name, None)
            if named is not obj and getattr(getattr(named, "action_function", None), "fn", None) is obj:
                return _undecorated, (obj.__module__, name)
        return NotImplemented


def _undecorated(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name).action_function.fn


def _dump(value: Any) -> bytes:
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def _travelling(view: State[Any]) -> Mapping[str, Any]:
    """The values that a view takes along, by the pickle protocol: those it shows, and those that its action may write."""
    return travelling_values(view)


def _culprit(parts: Mapping[str, Mapping[str, Any]], action: str, error: Exception) -> CannotTravel:
    for where, values in parts.items():
        for key, value in values.items():
            try:
                _dump(value)
            except Exception as exc:
                return CannotTravel(
                    f"action {action!r}: {where} key {key!r} cannot go to another process: {_reason(value, exc)}",
                    where=where,
                    key=key,
                )
    return CannotTravel(f"action {action!r}: cannot go to another process: {type(error).__name__}", where="state", key=None)


def _reason(value: Any, error: Exception) -> str:
    """Why `value` cannot be pickled: by types, never by its repr, which could show a secret."""
    text = str(error)
    by_type = text if isinstance(error, TypeError) and text.startswith("cannot pickle '") else type(error).__name__
    return f"{type(value).__module__}.{type(value).__qualname__}: {by_type}"
