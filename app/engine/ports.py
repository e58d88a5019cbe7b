"""What the engine tells whoever hosts it, and what it asks of them while a run goes on.

`Application.drive` (async) takes a `RunPorts`; the service implements it with executors, the step log and the event
stream, and a script that uses the engine alone gets `app.engine.drivers`' own. Only values and protocols here.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from app.engine.frozen import frozen
from app.engine.operations import Operation

if TYPE_CHECKING:
    import asyncio

    from app.engine.actions import Action
    from app.engine.state import State

__all__ = [
    "ActionOutcome",
    "BlockingCall",
    "HaltReason",
    "ItemStreamed",
    "RunPorts",
    "RunResult",
    "Step",
    "StepBegun",
    "StepEvent",
    "StepFailure",
]


class HaltReason(StrEnum):
    """Why a run that did not fail came to its end."""

    HALT_BEFORE = "halt_before"
    HALT_AFTER = "halt_after"
    END = "end"
    MAX_STEPS = "max_steps"


@frozen
class StepBegun:
    """The action of step `seq` is about to run."""

    seq: int
    action: str


@frozen
class ItemStreamed:
    """A streaming action yielded its `index`-th intermediate item (from 0)."""

    seq: int
    action: str
    index: int
    item: Any


@frozen
class Step:
    """One finished action, about to be committed.

    `operations` lead from the state before to `state`, user keys only. `halt` is set when the run ends with this step, so
    that a host may commit the step and the end of the run together. `next_action` is None when no transition holds.
    `started_at_s` and `finished_at_s` are Unix times in seconds.
    """

    seq: int
    action: str
    operations: tuple[Operation, ...]
    result: Mapping[str, Any] | None
    state: "State[Any]"
    next_action: str | None
    halt: HaltReason | None
    started_at_s: float
    finished_at_s: float


@frozen
class StepFailure:
    """The action of step `seq` raised `error`; the state and `seq` of the application did not move."""

    seq: int
    action: str
    error: Exception
    started_at_s: float
    finished_at_s: float


@frozen
class RunResult:
    """How a run that did not raise ended.

    `steps` counts the steps that this run committed; `action` and `result` are those of the last of them (None, None when
    there was none); `next_action` is the one that would run next.
    """

    halt: HaltReason
    steps: int
    action: str | None
    result: Mapping[str, Any] | None
    state: "State[Any]"
    next_action: str | None


StepEvent: TypeAlias = StepBegun | ItemStreamed


@frozen
class ActionOutcome:
    """What an action gave: its result, and what it does to the state as operations on its view."""

    result: Mapping[str, Any] | None
    operations: tuple[Operation, ...]


@frozen
class BlockingCall:
    """One run of a sync action, in a form that any executor can take.

    `view` holds the values that the action reads and `inputs` what it is given: with the action's name they are all that
    has to travel to another process, which carries the call out with `app.engine.perform`. `perform` and `stream` do it here,
    in the calling thread: `stream` yields the items of a streaming action, and an ActionOutcome as its last.
    """

    action: "Action"
    view: "State[Any]"
    inputs: Mapping[str, Any]
    perform: Callable[[], ActionOutcome]
    stream: Callable[[], Iterator[Any]]


class RunPorts(Protocol):
    """What a run needs from its host. Every object serves one run of one application."""

    def is_cancelled(self) -> bool:
        """Return whether the run was cancelled from outside: a CancelledError is an action's own otherwise."""
        ...

    def leave_behind(self, task: "asyncio.Task[Any]") -> None:
        """Own the task of an action that has not ended although it was cancelled: nobody waits for it any more."""
        ...

    def call_action(self, call: BlockingCall) -> Awaitable[ActionOutcome]:
        """Carry out a sync action off the event loop."""
        ...

    def stream_action(self, call: BlockingCall) -> AsyncGenerator[Any, None]:
        """Carry out a sync streaming action off the event loop; the last item is its ActionOutcome."""
        ...

    def call_hook(self, call: Callable[[], Any]) -> Awaitable[Any]:
        """Carry out a sync hook or persister off the event loop."""
        ...

    def pause(self, delay_s: float) -> Awaitable[None]:
        """Return after so many seconds: an action is to be called again then."""
        ...

    def emit(self, event: StepEvent) -> None:
        """Take note of `event`; must not block."""
        ...

    def commit(self, step: Step) -> Awaitable[None]:
        """Make `step` durable. The next action starts when this returns; if it raises, the step did not happen."""
        ...

    def record_failure(self, failure: StepFailure) -> Awaitable[None]:
        """Make a note of a failed step. Called before the error leaves the run."""
        ...
