"""What the core can ask a driver to do. Values only; each comes with what the driver answers.

They are made on every step, so they are plain slots classes rather than frozen ones.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from app.engine.argument_copies import own_values
from app.engine.hook_set import AsyncHookCall, HookCall
from app.engine.ports import Step, StepEvent, StepFailure
from app.engine.working_copies import lend

if TYPE_CHECKING:
    from app.engine.compiled import CompiledAction
    from app.engine.core import Run
    from app.engine.state import State
    from app.engine.tracing import TracerFactory
    from app.engine.view import View

__all__ = [
    "END",
    "ActionCall",
    "AfterStep",
    "BeforeStep",
    "CallHooks",
    "Commit",
    "Deliver",
    "Effect",
    "Emit",
    "Flow",
    "FlushSpans",
    "Listeners",
    "NextItem",
    "OpenStream",
    "RecordFailure",
    "Sleep",
]

END: Final = object()
"""The answer to NextItem when the stream has no more items."""


@dataclass(slots=True, eq=False, repr=False)
class ActionCall:
    """Call the action. Answer: what it returned, or an ActionOutcome if it was carried out elsewhere."""

    record: "CompiledAction"
    view: "View[Any]"
    inputs: Mapping[str, Any]  # under the names of the action's parameters
    run: "Run"
    seq: int
    tracer: "TracerFactory | None" = None

    def arguments(self) -> dict[str, Any]:
        """Return the inputs for one call of the action: the containers among them are copies."""
        return own_values(self.inputs)

    def given(self) -> dict[str, Any]:
        """Return copies of the inputs under the names that the action declares."""
        declared = {name: injected for injected, name in self.record.renamed.items()}
        return {declared.get(name, name): value for name, value in own_values(self.inputs).items()}


@dataclass(slots=True, eq=False)
class OpenStream:
    """Call the streaming action and keep what it gives, instead of what was kept before. Answer: None."""

    call: ActionCall


@dataclass(slots=True, eq=False)
class NextItem:
    """Take an item from the open stream. Answer: the item, an ActionOutcome if it was carried out elsewhere, or END."""

    call: ActionCall


@dataclass(slots=True)
class Listeners:
    """The hooks of one moment; a sync run has no async ones."""

    sync: tuple[HookCall, ...]
    async_: tuple[AsyncHookCall, ...]


@dataclass(slots=True)
class CallHooks:
    """Call the hooks with `arguments`, the sync ones in order and then the async ones together. Answer: None."""

    listeners: Listeners
    arguments: dict[str, Any]

    def tell(self, hook: HookCall) -> Any:
        """Return what one hook gives when it is told."""
        return hook(**self.arguments)


@dataclass(slots=True, eq=False, repr=False)
class BeforeStep:
    """Call the hooks before a step, as CallHooks does. Answer: None."""

    listeners: Listeners
    call: ActionCall

    def tell(self, hook: HookCall) -> Any:
        call = self.call
        instance = call.run.instance
        return hook(
            action=call.record.action,
            sequence_id=call.seq,
            app_id=instance.app_id,
            partition_key=instance.partition_key,
            state=instance.state,
            inputs=call.given(),
        )


@dataclass(slots=True, eq=False, repr=False)
class AfterStep:
    """Call the hooks after a step, as CallHooks does. Answer: None."""

    listeners: Listeners
    call: ActionCall
    state: "State[Any]"
    result: Any
    error: Exception | None

    def tell(self, hook: HookCall) -> Any:
        call = self.call
        instance = call.run.instance
        # keywords, and no dict: with every step of every application that is stored or watched, that is a tenth of its cost
        return hook(
            action=call.record.action,
            sequence_id=call.seq,
            app_id=instance.app_id,
            partition_key=instance.partition_key,
            state=self.state,
            result=lend(self.result) if self.result else self.result,
            exception=self.error,
        )


@dataclass(slots=True)
class Emit:
    """Tell the host what happens. Answer: None."""

    event: StepEvent


@dataclass(slots=True)
class Commit:
    """Make the step durable. Answer: None, when it is."""

    step: Step


@dataclass(slots=True)
class RecordFailure:
    """Make a note of a failed step. Answer: None."""

    failure: StepFailure


@dataclass(slots=True)
class Sleep:
    """Wait. Answer: None."""

    delay_s: float


@dataclass(slots=True)
class FlushSpans:
    """Call the async span hooks that are left from the action. Answer: None."""

    tracer: "TracerFactory"


@dataclass(slots=True)
class Deliver:
    """Hand `value` to whoever iterates over the run. Answer: None, when they ask for more."""

    value: Any


Effect: TypeAlias = (
    ActionCall
    | OpenStream
    | NextItem
    | BeforeStep
    | AfterStep
    | CallHooks
    | Emit
    | Commit
    | RecordFailure
    | Sleep
    | FlushSpans
    | Deliver
)

T = TypeVar("T")
Flow: TypeAlias = Generator[Effect, Any, T]
"""A generator that decides: it yields effects, is sent their answers, and returns a result."""
