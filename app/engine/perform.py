"""What an action's call, or its stream, comes to: a result and operations. Used by the core, and by whoever carries sync
actions out somewhere else: another thread, another process.

Everything here is sync and knows no executor.
"""

import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

from app.engine.actions import Action
from app.engine.compiled import CompiledAction
from app.engine.effects import END
from app.engine.errors import ActionTimeout, InvalidResult, kind_of
from app.engine.freezing import Freezer, freeze
from app.engine.mode_warnings import StreamErrorWarning
from app.engine.ports import ActionOutcome, BlockingCall
from app.engine.quitting import asked
from app.engine.state import State
from app.engine.stop_iteration import sealed
from app.engine.view import Log, View, changes_between, frozen_log, log_of, operations_of, show
from app.engine.working_copies import own_copy

__all__ = [
    "NOTHING",
    "Completed",
    "OutcomeReader",
    "Reader",
    "StreamReader",
    "blocking_call",
    "complete",
    "first_index",
    "perform_sync",
    "stream_sync",
]

NOTHING: Final = object()
"""What the reader gives when an item of a stream is none for the caller (yet)."""


Completed: TypeAlias = tuple[Any, Log]
"""What an action came to: its result and its changes, both frozen: they share nothing that can be changed with the action."""


def complete(record: CompiledAction, view: View[Any], returned: Any) -> Completed:
    """Return what `returned`, given by the action on `view`, comes to. An action in two parts is updated here.

    Raises InvalidResult when it is not of the shape that the action must return.
    """
    kind = type(returned)
    if kind is View and record.reduce is None and returned._whole is view._whole:
        return {}, frozen_log(returned._log, None, view._whole)
    if kind is ActionOutcome:
        return freeze(returned.result), frozen_log(log_of(returned.operations), None, view._whole)
    if record.reduce is not None:
        _check_result(record, returned)
        view = show(view, record.declared, record.reducer_keys)
        result, after = returned, asked(record.reduce, own_copy(returned), view)
    elif isinstance(returned, State):
        result, after = {}, returned
    elif isinstance(returned, tuple) and len(returned) == 2:
        result, after = returned
        _check_result(record, result)
    else:
        raise InvalidResult(record.name, kind_of(returned), "the new State, or a tuple of a result and the new State")
    if type(after) is not View and not isinstance(after, State):
        raise InvalidResult(record.name, f"{kind_of(after)} as its state", "a State")
    freezer = Freezer()
    result = {} if type(result) is dict and not result else freezer.freeze(result)
    return result, changes_between(view, after, freezer)


class StreamReader:
    """Tells the items of one stream from its end, item by item."""

    __slots__ = ("_last", "_record", "_view")

    def __init__(self, record: CompiledAction, view: View[Any]) -> None:
        self._record = record
        self._view = view
        self._last: Any = None

    def feed(self, raw: Any) -> Any:
        """Return the item for the caller that `raw` is, frozen, or the one that it shows not to be the last, or NOTHING."""
        if self._record.reduce is not None:
            item, self._last = self._last, freeze(raw)  # the action may go on to change it
            return NOTHING if item is None else item
        if isinstance(raw, tuple) and len(raw) == 2:
            item, state = raw
        elif isinstance(raw, dict):
            item, state = raw, None
        else:
            raise InvalidResult(
                self._record.name, f"{kind_of(raw)} as an item", "a dict, or a tuple of a dict and a State or None"
            )
        # completed at once: the action may go on to change what it has given
        self._last = None if state is None else complete(self._record, self._view, raw)
        return freeze(item) if state is None else NOTHING

    def survives(self, error: Exception) -> bool:
        """Return whether the step can be completed although the stream ended in `error`, with a warning if so.

        As in Burr, it can once the action has yielded its state: a generator may do that while it cleans up. For an action in two
        parts, which yields no state, the last item is its result then.
        """
        if self._last is None or isinstance(error, ActionTimeout):
            return False
        message = f"action {self._record.name!r} raised {type(error).__name__} after it had given what its step needs"
        warnings.warn(StreamErrorWarning(f"{message}; the step was completed"), stacklevel=2)
        return True

    def finish(self) -> Completed:
        """Return what the stream, now at its end, comes to. Raises InvalidResult if it lacks a last item with a state."""
        if self._record.reduce is not None:
            return complete(self._record, self._view, self._last)
        if self._last is None:
            raise InvalidResult(self._record.name, "no state", "a tuple of the result and the new State as its last item")
        completed: Completed = self._last
        return completed


class OutcomeReader:
    """Reads a stream that is carried out elsewhere: `stream_sync` has read it there, and ends it with the outcome."""

    __slots__ = ("_outcome", "_record")

    def __init__(self, record: CompiledAction) -> None:
        self._record = record
        self._outcome: ActionOutcome | None = None

    def feed(self, raw: Any) -> Any:
        """Return the item, or NOTHING for the outcome."""
        if not isinstance(raw, ActionOutcome):
            return freeze(raw)
        self._outcome = raw
        return NOTHING

    def survives(self, error: Exception) -> bool:  # noqa: ARG002
        """Return False: an error comes here only if the reader over there let it."""
        return False

    def finish(self) -> Completed:
        """Return what the stream came to over there."""
        if self._outcome is None:
            raise InvalidResult(self._record.name, "no outcome", "one at the end of its stream")
        return freeze(self._outcome.result), frozen_log(log_of(self._outcome.operations))


Reader: TypeAlias = StreamReader | OutcomeReader


def first_index(record: CompiledAction) -> int:
    """Return the number that hooks get with the first item: as in Burr 1 for function-based actions, 0 for the others."""
    return 1 if record.reduce is None else 0


def perform_sync(action: Action, view: View[Any], inputs: Mapping[str, Any]) -> ActionOutcome:
    """Carry a sync action out in this thread."""
    return _perform(_record_of(action), view, inputs)


def stream_sync(action: Action, view: View[Any], inputs: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the items of a sync streaming action, and what it comes to, an ActionOutcome, as the last one."""
    return _stream(_record_of(action), view, inputs)


def blocking_call(record: CompiledAction, view: View[Any], inputs: Mapping[str, Any]) -> BlockingCall:
    """Return the call of a sync action in a form that any executor can take."""
    return BlockingCall(
        action=record.action,
        view=view,
        inputs=inputs,
        perform=partial(_perform, record, view, inputs),
        stream=partial(_stream, record, view, inputs),
    )


def _perform(record: CompiledAction, view: View[Any], inputs: Mapping[str, Any]) -> ActionOutcome:
    if record.is_streaming:  # nobody wants the items
        return deque(_stream(record, view, inputs), maxlen=1)[0]  # type: ignore[no-any-return]  # the outcome is the last
    returned = sealed(f"action {record.name!r}", partial(record.call, view, **inputs))
    return _outcome(complete(record, view, returned))


def _stream(record: CompiledAction, view: View[Any], inputs: Mapping[str, Any]) -> Iterator[Any]:
    reader = StreamReader(record, view)
    stream = iter(record.call(view, **inputs))
    while True:
        try:
            raw = next(stream, END)
        except Exception as error:
            if not reader.survives(error):
                raise
            break
        if raw is END:
            break
        item = reader.feed(raw)
        if item is not NOTHING:
            yield item
    yield _outcome(reader.finish())


def _outcome(completed: Completed) -> ActionOutcome:
    result, log = completed
    return ActionOutcome(result, operations_of(log))


@lru_cache(maxsize=512)
def _record_of(action: Action) -> CompiledAction:
    return CompiledAction(action)


def _check_result(record: CompiledAction, result: Any) -> None:
    if not isinstance(result, record.result_type):
        raise InvalidResult(record.name, f"{kind_of(result)} as its result", f"a {record.result_type.__name__}")
