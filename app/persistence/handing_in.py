"""A step's values become text when the step is handed in: from then on nothing that is stored can fail because of a value.

The error of a value that cannot be stored names the action, the key and the type, never the value.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.engine.edits import Edit, Grow, Put, Splice
from app.engine.operations import Append, Extend, Patch, Set, StoredOperation
from app.engine.serde import UnserializableValue
from app.engine.serde_size import are_many
from app.engine.state import values_of
from app.persistence.codec import encode_state, encode_step
from app.persistence.records import EncodedStep, StepCommit
from app.system.encoding_threads import run_aside

__all__ = ["MOST_ON_LOOP", "MOST_VALUES", "encoded_state", "encoded_step", "with_values_encoded"]

MOST_VALUES = 2_000_000
"""Values that one key of a state, or a result, may hold: objects that share their parts can stand for any number."""
MOST_ON_LOOP = 2_000
"""Values that are encoded on the event loop, which takes less than a millisecond; more are encoded in a thread."""


async def encoded_step(
    action: str | None, operations: tuple[StoredOperation, ...], result: Any, state: Mapping[str, Any]
) -> EncodedStep:
    """Return the values of a step as text; `state` is the one after it. Raises UnserializableValue."""
    try:
        if are_many((*map(_value_of, operations), result), MOST_ON_LOOP):
            return await run_aside(lambda: _encode_many(operations, result, state))
        return encode_step(operations, result, state)
    except UnserializableValue as error:
        raise error if action is None else error.of(f"action {action!r}") from None


async def with_values_encoded(step: StepCommit, action: str | None = None) -> StepCommit:
    """Return `step` with its values as text, too. Raises UnserializableValue."""
    return replace(step, encoded=await encoded_step(action, step.operations, step.result, values_of(step.state)))


async def encoded_state(state: Mapping[str, Any]) -> bytes:
    """Return the blob of a whole state, not deflated yet. Raises UnserializableValue."""
    if are_many(state.values(), MOST_ON_LOOP):
        return await run_aside(lambda: _encode_many_keys(state))
    return encode_state(state)


def _encode_many(operations: tuple[StoredOperation, ...], result: Any, state: Mapping[str, Any]) -> EncodedStep:
    for operation in operations:
        _require_bounded(f"state[{operation.key!r}]", _value_of(operation))
    _require_bounded("result", result)
    return encode_step(operations, result, state)


def _encode_many_keys(state: Mapping[str, Any]) -> bytes:
    for key, value in state.items():
        _require_bounded(f"[{key!r}]", value)
    return encode_state(state)


def _require_bounded(place: str, value: Any) -> None:
    if are_many([value], MOST_VALUES):
        raise UnserializableValue(
            type(value).__name__, f"it holds more than {MOST_VALUES:,} values, or contains itself", (place,)
        )


def _value_of(operation: StoredOperation) -> Any:
    if isinstance(operation, Set | Append):
        return operation.value
    if isinstance(operation, Extend):
        return operation.items
    return [_part_of(edit) for edit in operation.edits] if isinstance(operation, Patch) else None


def _part_of(edit: Edit) -> Any:
    match edit:
        case Put():
            return edit.value
        case Splice():
            return edit.items
        case Grow():
            return edit.text
    return None
