"""A parallel action made of plain functions instead of a class."""

import inspect
from collections.abc import AsyncIterable, Callable
from typing import Any, TypeAlias

from app.engine.actions import Action
from app.engine.context import ApplicationContext
from app.engine.function_actions import FunctionBasedAction
from app.engine.parallel_tasks import RunnableGraph, SubgraphType
from app.engine.parallelism import Many, MapActionsAndStates, States
from app.engine.state import State

__all__ = ["PassThroughMapActionsAndStates", "map_reduce_action"]

Make: TypeAlias = Callable[[State[Any], ApplicationContext, dict[str, Any]], Any]


class PassThroughMapActionsAndStates(MapActionsAndStates):
    """Runs every one of some actions on every one of some states, all given to the constructor.

    `action` is one action, a list of them, or a function that gives one or yields many; `state` is a function that gives a
    state or yields many. The action is async when the reducer is a coroutine function, or one of the others an async
    generator function.
    """

    def __init__(
        self,
        action: SubgraphType | list[SubgraphType] | Make,
        state: Make,
        reducer: Callable[[State[Any], Any], Any],
        reads: list[str],
        writes: list[str],
        inputs: list[str],
    ) -> None:
        super().__init__()
        self._action = action
        self._state = state
        self._reducer = reducer
        self._reads = reads
        self._writes = writes
        self._inputs = inputs

    @property
    def reads(self) -> list[str]:
        return self._reads

    @property
    def writes(self) -> list[str]:
        return self._writes

    @property
    def inputs(self) -> list[str]:
        return ["__context", *self._inputs]

    def is_async(self) -> bool:
        makers = (self._action, self._state)
        return inspect.iscoroutinefunction(self._reducer) or any(inspect.isasyncgenfunction(maker) for maker in makers)

    def actions(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Many[SubgraphType]:
        if isinstance(self._action, list):
            return self._action
        if isinstance(self._action, Action | RunnableGraph) or hasattr(self._action, FunctionBasedAction.ACTION_FUNCTION):
            return [self._action]
        return _many(self._action(state, context, inputs))

    def states(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Many[State[Any]]:
        return _many(self._state(state, context, inputs))

    def reduce(self, state: State[Any], states: States) -> Any:
        return self._reducer(state, states)


def map_reduce_action(
    action: SubgraphType | list[SubgraphType] | Make,
    state: Make,
    reducer: Callable[[State[Any], Any], Any],
    reads: list[str],
    writes: list[str],
    inputs: list[str],
) -> PassThroughMapActionsAndStates:
    """Return an action that runs `action` on each state of `state` and brings the outcomes together with `reducer`."""
    return PassThroughMapActionsAndStates(action, state, reducer, reads, writes, inputs)


def _many(given: Any) -> Many[Any]:
    is_one = isinstance(given, State | Action | RunnableGraph) or hasattr(given, FunctionBasedAction.ACTION_FUNCTION)
    if is_one or (not isinstance(given, AsyncIterable) and not hasattr(given, "__iter__")):
        return [given]
    many: Many[Any] = given
    return many
