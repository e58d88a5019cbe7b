"""What the core has to know of an action, worked out once: after a blueprint is made nothing looks at a signature again."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from app.engine.actions import Action
from app.engine.argument_copies import with_own_attributes, with_own_defaults
from app.engine.conditions import Condition, OnError, default
from app.engine.errors import InvalidInputs
from app.engine.function_actions import FunctionBasedAction, FunctionBasedStreamingAction
from app.engine.graph import Graph
from app.engine.input_types import InputTypes, input_types, mistyped
from app.engine.quitting import failure_of
from app.engine.state import State
from app.engine.view import Declared, View, show

__all__ = ["CONTEXT", "TRACER", "CompiledAction", "compile_actions"]

CONTEXT = "__context"
TRACER = "__tracer"


Holds: TypeAlias = Callable[[State[Any]], bool]


class CompiledAction:
    """One action of a graph, ready to be called. Never changes after `compile_actions`, but for a `Blueprint.redirect`."""

    __slots__ = (
        "accepted",
        "action",
        "call",
        "declared",
        "executor",
        "input_types",
        "is_async",
        "is_plain",
        "is_streaming",
        "name",
        "reads",
        "reduce",
        "reducer_keys",
        "renamed",
        "required",
        "rescues",
        "result_type",
        "retry",
        "timeout_s",
        "transitions",
        "wants_context",
        "wants_tracer",
        "writes",
    )

    def __init__(self, action: Action) -> None:
        self.action = action
        self.name = action.name
        self.reads = tuple(action.reads)
        self.writes = _names(*action.writes)
        self.declared = Declared(self.name, self.reads, self.writes)
        required, optional = action.optional_and_required_inputs
        self.wants_context = CONTEXT in required or CONTEXT in optional
        self.wants_tracer = TRACER in required or TRACER in optional
        self.required = _names(*required - {CONTEXT, TRACER})
        self.accepted = _names(*(required | optional) - {CONTEXT, TRACER})
        self.is_async = action.is_async()
        self.is_streaming = action.streaming
        self.call = _callable_of(action)
        self.is_plain = not (self.required or self.wants_context or self.wants_tracer)
        self.renamed = _mangled(self.call) if self.wants_context or self.wants_tracer else {}
        # an action in two parts has its reducer look at what it reads and writes
        self.reduce = None if action.single_step else with_own_attributes(action, "update")
        self.reducer_keys = tuple(dict.fromkeys((*self.reads, *action.writes)))
        self.result_type: type[Any] = action.schema.intermediate_result_type()
        self.timeout_s = action.timeout_s
        self.retry = action.retry
        self.executor = action.executor
        self.input_types: InputTypes | None = None  # looked at when a host first has inputs for it
        self.transitions: tuple[tuple[Holds | None, CompiledAction], ...] = ()
        self.rescues: tuple[tuple[OnError, CompiledAction], ...] = ()

    def view(self, state: State[Any]) -> View[Any]:
        """Return what the action sees of `state`."""
        return show(state, self.declared, self.reads)

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raise InvalidInputs if an input is missing, is not expected, or has a reserved name."""
        if not isinstance(inputs, Mapping):
            raise InvalidInputs(self.name, found=type(inputs).__name__, accepted=self.accepted)
        given = inputs.keys()
        if given <= self.accepted and self.required <= given:
            return
        raise InvalidInputs(self.name, missing=self.required - given, unexpected=given - self.accepted, accepted=self.accepted)

    def check_input_types(self, inputs: Mapping[str, Any]) -> None:
        """Raise InvalidInputs if an input is not of the type that the action declares, as far as JSON can be."""
        if self.input_types is None:
            self.input_types = input_types(getattr(self.action, "originating_fn", self.call), self.accepted)
        wrong = mistyped(self.input_types, inputs)
        if wrong:
            raise InvalidInputs(self.name, mistyped=wrong, accepted=self.accepted)

    def follower(self, state: State[Any]) -> "CompiledAction | None":
        """Return the action that comes after this one on `state`; None when no transition holds."""
        try:
            for holds, target in self.transitions:
                if holds is None or holds(state):
                    return target
        except BaseException as error:  # a border to a user's code; nothing is awaited or yielded in here
            raise failure_of(error)  # noqa: B904 - often the same error: its cause stays
        return None


def compile_actions(graph: Graph) -> dict[str, CompiledAction]:
    """Return the actions of `graph` by name, each with its transitions in order. A graph is compiled once.

    Applications that are made of the same graph share the outcome.
    """
    known: dict[str, CompiledAction] | None = vars(graph).get("_compiled")
    if known is not None:
        return known
    records = {action.name: CompiledAction(action) for action in graph.actions}
    for name, record in records.items():
        edges = [(condition, records[to]) for condition, to in graph.edges_from(name)]
        record.transitions = tuple((_holds(each), to) for each, to in edges if not isinstance(each, OnError))
        record.rescues = tuple((each, to) for each, to in edges if isinstance(each, OnError))
    vars(graph)["_compiled"] = records
    return records


@lru_cache(maxsize=4096)
def _names(*names: str) -> frozenset[str]:
    """Return the names as a set, the same one for all applications: a set of its own is a twentieth of a small application."""
    return frozenset(names)


def _holds(condition: Condition) -> Holds | None:
    """Return the question that a transition asks; None when it always holds."""
    if condition is default:
        return None
    if type(condition).run is Condition.run:
        return condition.holds
    return lambda state: bool(condition.run(state)[Condition.KEY])


def _callable_of(action: Action) -> Callable[..., Any]:
    """Return what is called with a view and the inputs, without a detour where the class is one of ours."""
    if type(action) in (FunctionBasedAction, FunctionBasedStreamingAction):
        return action.call  # type: ignore[attr-defined, no-any-return]  # both classes have it
    if action.streaming:
        method = "stream_run_and_update" if action.single_step else "stream_run"
    else:
        method = "run_and_update" if action.single_step else "run"
    return with_own_defaults(with_own_attributes(action, method), getattr(action, method), {})


def _mangled(function: Callable[..., Any]) -> dict[str, str]:
    """Return the parameters that Python renamed because they stand in a class: `__context` is `_Name__context` there."""
    parameters = inspect.signature(function).parameters
    found = {
        injected: name for injected in (CONTEXT, TRACER) for name in parameters if name.endswith(injected) and name != injected
    }
    return {injected: name for injected, name in found.items() if injected not in parameters}
