"""Branches of a parallel action: each a small application of its own, and how a set of them is run side by side.

One failing branch stops the others: tasks are cancelled, threads stop before their next step, what has not begun does not begin.
A single error leaves as it is, several leave together as an ExceptionGroup.
"""

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from app.engine.actions import Action
from app.engine.application import Application
from app.engine.builder import ApplicationBuilder
from app.engine.context import ApplicationContext, ApplicationIdentifiers
from app.engine.errors import EngineError, GraphError, kind_of
from app.engine.graph import Graph, GraphBuilder
from app.engine.hook_set import HookSet, LifecycleAdapter
from app.engine.hooks import PreRunStepHook
from app.engine.persistence_ports import AsyncBaseStateLoader, AsyncBaseStateSaver, BaseStateLoader, BaseStateSaver
from app.engine.state import State

__all__ = ["BranchStopped", "RunnableGraph", "SubGraphTask", "SubgraphType", "arun_branches", "run_branches"]

logger = logging.getLogger(__name__)

Loader: TypeAlias = BaseStateLoader | AsyncBaseStateLoader
Saver: TypeAlias = BaseStateSaver | AsyncBaseStateSaver


_PORTS = (BaseStateLoader, AsyncBaseStateLoader, BaseStateSaver, AsyncBaseStateSaver)


class BranchStopped(EngineError):
    """A branch stopped between two steps because another one failed."""

    def __init__(self) -> None:
        super().__init__("the branch was stopped because another one failed")


@dataclass
class RunnableGraph:
    """A graph with all that it takes to run it: where it begins, and after which actions it is done."""

    graph: Graph
    entrypoint: str
    halt_after: list[str]

    @staticmethod
    def create(from_: "SubgraphType") -> "RunnableGraph":
        """Return `from_` itself, or a graph of the one action that it is. Raises GraphError if that has no name."""
        if isinstance(from_, RunnableGraph):
            return from_
        if isinstance(from_, Action) and from_.name is None:
            raise GraphError(f"{type(from_).__name__} has no name to run under; call with_name on it")
        graph = GraphBuilder().with_actions(from_).build()
        name = graph.actions[0].name
        return RunnableGraph(graph, name, [name])


SubgraphType: TypeAlias = Action | Callable[..., Any] | RunnableGraph


@dataclass
class SubGraphTask:
    """One branch: a graph with its inputs and its state, under an application id that must be unique and should be stable.

    With a `state_initializer` a branch that was interrupted goes on where it stopped.
    """

    graph: RunnableGraph
    inputs: dict[str, Any]
    state: State[Any]
    application_id: str
    tracker: Any = None
    state_persister: Saver | LifecycleAdapter | None = None
    state_initializer: Loader | None = None

    def run(self, parent_context: ApplicationIdentifiers) -> State[Any]:
        """Run the branch here and return its last state."""
        return self._run_with(parent_context)

    async def arun(self, parent_context: ApplicationIdentifiers) -> State[Any]:
        """Run the branch on this event loop and return its last state. Sync hooks and persisters are carried out off it."""
        builder = self._builder(parent_context)
        app = builder.build() if self._is_sync() else await builder.abuild()
        if self._is_over(app):
            return app.state
        return (await app.arun(halt_after=self.graph.halt_after, inputs=self._inputs(app)))[2]

    def _run_with(self, parent_context: ApplicationIdentifiers, *adapters: LifecycleAdapter) -> State[Any]:
        app = self._builder(parent_context).with_hooks(*adapters).build()
        if self._is_over(app):
            return app.state
        return app.run(halt_after=self.graph.halt_after, inputs=self._inputs(app))[2]

    def _builder(self, parent: ApplicationIdentifiers) -> ApplicationBuilder[Any]:
        builder: ApplicationBuilder[Any] = (
            ApplicationBuilder()
            .with_graph(self.graph.graph)
            .with_spawning_parent(app_id=parent.app_id, sequence_id=parent.sequence_id, partition_key=parent.partition_key)
            .with_identifiers(app_id=self.application_id, partition_key=parent.partition_key)
            .with_validation("off")
        )
        if self.tracker is not None:
            builder = builder.with_tracker(self.tracker)
        if self.state_persister is not None:
            builder = builder.with_state_persister(self.state_persister)
        if self.state_initializer is None:
            return builder.with_entrypoint(self.graph.entrypoint).with_state(
                State(self.state.get_all(), self.state.typing_system)
            )
        return builder.initialize_from(
            self.state_initializer,
            resume_at_next_action=True,
            default_state=self.state.get_all(),
            default_entrypoint=self.graph.entrypoint,
        )

    def _inputs(self, app: Application[Any]) -> dict[str, Any]:
        """Return those of the inputs that the first action takes: a parallel action hands its own on to every branch."""
        first = app.get_next_action()
        required, optional = first.optional_and_required_inputs if first is not None else (set(), set())
        taken = {name for name in required | optional if not name.startswith("__")}
        return {name: value for name, value in self.inputs.items() if name in taken}

    def _is_over(self, app: Application[Any]) -> bool:
        # a branch that was resumed may have come to its end before
        return app.prior_action in self.graph.halt_after or not app.has_next_action()

    def _is_sync(self) -> bool:
        hooks = HookSet(*([self.tracker] if self.tracker is not None else []))
        ports = [port for port in (self.state_persister, self.state_initializer) if isinstance(port, _PORTS)]
        return bool(hooks.sync_hooks) or any(not port.is_async() for port in ports)


class _Stop(threading.Event):
    """Set when a branch has failed. In another process it is another one, which nobody sets."""

    def on_end_of(self, branch: "Future[Any]") -> None:
        """Become set if `branch`, which is done, has failed."""
        if not branch.cancelled() and branch.exception() is not None:
            self.set()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Stop, ()


class _StopHook(PreRunStepHook):
    def __init__(self, stop: _Stop) -> None:
        self._stop = stop

    def pre_run_step(self, **_: Any) -> None:
        if self._stop.is_set():
            raise BranchStopped


class _Branch:
    """What an executor is given: one task, and the context variables of the action when it runs in the same process."""

    def __init__(self, task: SubGraphTask, parent: ApplicationContext, stop: _Stop) -> None:
        self._task = task
        self._parent = parent
        self._stop = stop
        self._variables = contextvars.copy_context()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Branch, (self._task, self._parent, self._stop)

    def __call__(self) -> State[Any]:
        return self._variables.run(self._task._run_with, self._parent, _StopHook(self._stop))


def run_branches(tasks: Iterable[SubGraphTask], parent: ApplicationContext, action: str) -> list[State[Any]]:
    """Run the tasks on the executor of `parent`, and return their states in order.

    Tasks are submitted while the iterable yields them. Raises what a task or the iterable raised, or an ExceptionGroup of
    what several tasks raised; by then no branch runs any more.
    """
    stop = _Stop()
    futures: list[Future[State[Any]]] = []
    make_executor: Callable[[], Executor] = parent.parallel_executor_factory or ThreadPoolExecutor
    with make_executor() as executor:
        try:
            for task in tasks:
                if stop.is_set():
                    break
                futures.append(executor.submit(_Branch(_expect_task(task, action), parent, stop)))
                futures[-1].add_done_callback(stop.on_end_of)
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()  # means nothing to branches that are done
            for future in futures:
                future.cancel()
        wait(futures)
    errors = [error for future in futures if (error := _error_of(future)) is not None]
    if errors:
        raise_together(errors, action, len(futures))
    return [future.result() for future in futures]


def _error_of(future: "Future[Any]") -> BaseException | None:
    try:
        error = future.exception()
    except CancelledError:
        return None
    return None if isinstance(error, BranchStopped) else error


async def arun_branches(
    tasks: Iterable[SubGraphTask] | AsyncIterable[SubGraphTask], parent: ApplicationContext, action: str
) -> list[State[Any]]:
    """Run the tasks side by side on this event loop, and return their states in order. Raises as `run_branches` does."""
    given = [task async for task in tasks] if isinstance(tasks, AsyncIterable) else list(tasks)
    ready = [_expect_task(task, action) for task in given]
    errors: Sequence[BaseException] = ()
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(task.arun(parent)) for task in ready]
    except BaseExceptionGroup as failed:
        errors = failed.exceptions
    if errors:  # raised out here, so that an error keeps the cause that it has
        raise_together(errors, action, len(ready))
    return [branch.result() for branch in running]


def _expect_task(task: Any, action: str) -> SubGraphTask:
    if not isinstance(task, SubGraphTask):
        raise GraphError(f"action {action!r} got {kind_of(task)} from its tasks; expected a SubGraphTask")
    if not isinstance(task.state, State):
        raise GraphError(f"action {action!r} begins a branch with {kind_of(task.state)}; expected a State")
    return task


def raise_together(errors: Sequence[BaseException], action: str, branches: int) -> NoReturn:
    """Raise the one error, or all of them as a group."""
    if len(errors) == 1:
        raise errors[0]
    raise BaseExceptionGroup(f"{len(errors)} of {branches} branches of action {action!r} failed", list(errors))
