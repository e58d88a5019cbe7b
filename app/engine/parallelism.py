"""Actions that run other actions, or whole graphs, side by side, and reduce their states to one.

The user says which branches there are (`tasks`, or `actions` and `states`) and how their states become one (`reduce`). How they
are run is in `parallel_tasks`; map and reduce from plain functions in `map_reduce`.
"""

import abc
import hashlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Generator, Iterable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar

from app.engine.actions import SingleStepAction
from app.engine.context import ApplicationContext
from app.engine.errors import GraphError
from app.engine.hook_set import LifecycleAdapter
from app.engine.parallel_tasks import (
    Loader,
    RunnableGraph,
    Saver,
    SubGraphTask,
    SubgraphType,
    arun_branches,
    run_branches,
)
from app.engine.state import State

__all__ = [
    "MapActions",
    "MapActionsAndStates",
    "MapStates",
    "SyncOrAsyncGenerator",
    "SyncOrAsyncGeneratorOrItemOrList",
    "SyncOrAsyncIterable",
    "TaskBasedParallelAction",
]

ItemType = TypeVar("ItemType")
Many: TypeAlias = Iterable[ItemType] | AsyncIterable[ItemType]
States: TypeAlias = Any  # an iterator in a sync action, an async one in an async action: the user annotates the one that it is
Handed = TypeVar("Handed")

# as Burr calls them, for the annotations of `actions`, `states`, `tasks` and `reduce`
SyncOrAsyncIterable: TypeAlias = AsyncIterable[ItemType] | list[ItemType]
SyncOrAsyncGenerator: TypeAlias = Generator[ItemType, None, None] | AsyncGenerator[ItemType, None]
SyncOrAsyncGeneratorOrItemOrList: TypeAlias = SyncOrAsyncGenerator[ItemType] | list[ItemType] | ItemType


class TaskBasedParallelAction(SingleStepAction, abc.ABC):
    """An action whose branches are SubGraphTasks. Async when `is_async` is overridden to say so.

    A sync one runs them on the executor of `with_parallel_executor` (threads by default), `reduce` gets an iterator. An async
    one runs them as asyncio tasks; `tasks` may be an async generator, `reduce` gets an async iterator and may be a coroutine
    function.
    """

    def __init__(self) -> None:
        super().__init__()

    @abc.abstractmethod
    def tasks(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Many[SubGraphTask]:
        """Yield the branches."""

    @abc.abstractmethod
    def reduce(self, state: State[Any], states: States) -> Any:
        """Return the new state, from the state of the action and those of the branches, in the order of the tasks."""

    def is_async(self) -> bool:
        return False

    @property
    def inputs(self) -> list[str] | tuple[list[str], list[str]]:
        """The context. An override adds its own names to these."""
        return ["__context"]

    def run_and_update(self, state: State[Any], /, **run_kwargs: Any) -> Any:
        """Run the branches and reduce their states. Not to be overridden."""
        context = run_kwargs.get("__context")
        if not isinstance(context, ApplicationContext):
            raise GraphError(f"action {self.name!r} needs its context: `inputs` must include '__context'")
        tasks = self.tasks(state, context, run_kwargs)
        if self.is_async():
            return self._reduced(state, arun_branches(tasks, context, self.name))
        if isinstance(tasks, AsyncIterable):
            raise GraphError(f"action {self.name!r} is sync, but its tasks are an async generator; override is_async")
        return {}, self.reduce(state, iter(run_branches(tasks, context, self.name)))

    async def _reduced(self, state: State[Any], branches: Awaitable[list[State[Any]]]) -> tuple[dict[str, Any], State[Any]]:
        reduced = self.reduce(state, _each(await branches))
        return {}, await reduced if inspect.isawaitable(reduced) else reduced


class MapActionsAndStates(TaskBasedParallelAction, abc.ABC):
    """Runs every one of some actions on every one of some states.

    `tracker`, `state_persister` and `state_initializer` say what a branch has: that of the application ("cascade"; a copy, if it
    has a method `copy`), none (None), or the one returned.
    """

    @abc.abstractmethod
    def actions(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Many[SubgraphType]:
        """Yield decorated functions, named actions or RunnableGraphs."""

    @abc.abstractmethod
    def states(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Many[State[Any]]:
        """Yield the states that the actions begin with."""

    def tracker(self, **_: Any) -> Any | Literal["cascade"] | None:
        return "cascade"

    def state_persister(self, **_: Any) -> Saver | LifecycleAdapter | Literal["cascade"] | None:
        return "cascade"

    def state_initializer(self, **_: Any) -> Loader | Literal["cascade"] | None:
        return "cascade"

    def tasks(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Many[SubGraphTask]:
        """Yield one branch for each action and state."""
        actions = self.actions(state, context, inputs)
        if self.is_async():
            return self._atasks(actions, self.states(state, context, inputs), context, inputs)
        return self._tasks(actions, lambda: self.states(state, context, inputs), context, inputs)

    def _tasks(self, actions: Any, states: Any, context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[SubGraphTask]:
        for i, action in enumerate(actions):
            for j, substate in enumerate(states()):
                yield self._task(f"{i}-{j}", action, substate, context, inputs)

    async def _atasks(
        self, actions: Any, states: Any, context: ApplicationContext, inputs: dict[str, Any]
    ) -> AsyncIterator[SubGraphTask]:
        all_actions, all_states = await _realized(actions), await _realized(states)
        for task in self._tasks(all_actions, lambda: all_states, context, inputs):
            yield task

    def _task(
        self, key: str, action: SubgraphType, substate: State[Any], context: ApplicationContext, inputs: dict[str, Any]
    ) -> SubGraphTask:
        loader_kind, saver_kind = self.state_initializer(), self.state_persister()
        loader: Any = _handed_down(loader_kind, context.state_initializer)
        if loader_kind == saver_kind == "cascade" and context.state_persister is context.state_initializer:
            saver = loader  # what is one object in the application is one object in the branch
        else:
            saver = _handed_down(saver_kind, context.state_persister)
        return SubGraphTask(
            graph=RunnableGraph.create(action),
            inputs=inputs,
            state=substate,
            application_id=_branch_id(context, key),
            tracker=_handed_down(self.tracker(), context.tracker),
            state_persister=saver,
            state_initializer=loader,
        )


class MapActions(MapActionsAndStates, abc.ABC):
    """Runs some actions on one state: that of the action, unless `state` is overridden."""

    def state(self, state: State[Any], inputs: dict[str, Any]) -> State[Any]:  # noqa: ARG002
        """Return the state that every action begins with."""
        return state

    def states(
        self,
        state: State[Any],
        context: ApplicationContext,  # noqa: ARG002
        inputs: dict[str, Any],
    ) -> Generator[State[Any], None, None]:
        yield self.state(state, inputs)


class MapStates(MapActionsAndStates, abc.ABC):
    """Runs one action on some states."""

    @abc.abstractmethod
    def action(self, state: State[Any], inputs: dict[str, Any]) -> SubgraphType:
        """Return the decorated function, named action or RunnableGraph to run."""

    def actions(
        self,
        state: State[Any],
        context: ApplicationContext,  # noqa: ARG002
        inputs: dict[str, Any],
    ) -> Generator[SubgraphType, None, None]:
        yield self.action(state, inputs)


def _handed_down(behavior: Handed | Literal["cascade"] | None, own: Any) -> Any:
    if behavior != "cascade":
        return behavior
    return own.copy() if hasattr(own, "copy") else own


def _branch_id(context: ApplicationContext, key: str) -> str:
    """Return the same id for the same branch of the same step, also when a step that was interrupted is taken again."""
    step = f"{context.app_id}:{context.action_name}:{context.sequence_id}:{key}"
    return hashlib.sha256(step.encode()).hexdigest()


async def _realized(items: Many[ItemType]) -> list[ItemType]:
    return [item async for item in items] if isinstance(items, AsyncIterable) else list(items)


async def _each(items: Iterable[ItemType]) -> AsyncGenerator[ItemType, None]:
    for item in items:
        yield item
