"""An application: one instance of a machine inside a process, and the methods that advance it, in both colours.

The methods are thin: the rules are in `core` and `flows`, the doing is in `drivers`.
"""

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import aclosing, closing
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, cast

from typing_extensions import TypeVar

from app.engine.actions import Action
from app.engine.blueprint import Blueprint
from app.engine.context import ApplicationContext
from app.engine.core import NO_INPUTS, Instance, Run
from app.engine.core_streams import StreamBegun
from app.engine.drivers import AsyncDriver, SyncDriver
from app.engine.effects import Deliver, Flow
from app.engine.flows import (
    Ending,
    iterate_flow,
    run_flow,
    step_flow,
    stream_flow,
    stream_iterate_flow,
    with_execute_hooks,
)
from app.engine.freezing import freeze_all
from app.engine.graph import ApplicationGraph
from app.engine.hooks import ExecuteMethod
from app.engine.local_ports import LocalPorts
from app.engine.pointers import ParentPointer
from app.engine.ports import HaltReason, RunPorts, RunResult
from app.engine.state import State, make_state, position_of
from app.engine.streaming import AsyncStreamingResultContainer, StreamingResultContainer

if TYPE_CHECKING:
    from app.engine.builder import ApplicationBuilder

__all__ = ["Application"]

S = TypeVar("S", default=Any)
T = TypeVar("T")

Inputs: TypeAlias = Mapping[str, Any] | None
Names: TypeAlias = Iterable[str] | None
"""Names of actions, or `@tag:x` for all actions that have a tag."""

_STEP, _ASTEP = ExecuteMethod.step, ExecuteMethod.astep

StepResult: TypeAlias = tuple[Action, Any, State[S]]
RunTriple: TypeAlias = tuple[Action | None, Any, State[S]]


class Application(Generic[S]):
    """A state and its place in a graph. Made by ApplicationBuilder, or in numbers by `Blueprint.instantiate`.

    A run takes at least one step before it looks at its halt conditions, and `halt_before` beats `halt_after`. Inputs reach the
    first step only; missing or unexpected ones are an error before anything runs. A step that fails changes nothing.
    """

    __slots__ = ("__weakref__", "_blueprint", "_instance", "_parent_pointer", "_spawning_parent_pointer", "_step_run")

    def __init__(
        self,
        blueprint: Blueprint,
        instance: Instance,
        parent_pointer: ParentPointer | None = None,
        spawning_parent_pointer: ParentPointer | None = None,
    ) -> None:
        self._blueprint = blueprint
        self._instance = instance
        self._step_run: Run | None = None
        self._parent_pointer = parent_pointer
        self._spawning_parent_pointer = spawning_parent_pointer

    # where it stands

    @property
    def state(self) -> State[S]:
        return self._instance.state

    @property
    def uid(self) -> str:
        return self._instance.app_id

    @property
    def partition_key(self) -> str | None:
        return self._instance.partition_key

    @property
    def sequence_id(self) -> int | None:
        """The number of the last committed step, from 0; None before the first."""
        seq = self._instance.seq
        return None if seq < 0 else seq

    @property
    def prior_action(self) -> str | None:
        """The name of the action that the next one follows; None when that is the entrypoint."""
        prior = self._instance.prior
        return None if prior is None else prior.name

    @property
    def entrypoint(self) -> str:
        return self._blueprint.entrypoint

    @property
    def graph(self) -> ApplicationGraph:
        return self._blueprint.graph

    @property
    def blueprint(self) -> Blueprint:
        """What this application shares with all others of its machine."""
        return self._blueprint

    @property
    def builder(self) -> "ApplicationBuilder[S] | None":
        """The builder that made it, if one did."""
        return self._blueprint.builder

    @property
    def parent_pointer(self) -> ParentPointer | None:
        """The application that this one was forked from, if any."""
        return self._parent_pointer

    @property
    def spawning_parent_pointer(self) -> ParentPointer | None:
        """The application whose action started this one, if any."""
        return self._spawning_parent_pointer

    @property
    def context(self) -> ApplicationContext:
        """What the next action would know of the application."""
        following = self.get_next_action()
        name = None if following is None else following.name
        return ApplicationContext.at(self._blueprint, self._instance, self.sequence_id, name)

    def get_next_action(self) -> Action | None:
        """Return the action that comes next; None when no transition leads on."""
        record = self._blueprint.next_record(self._instance)
        return None if record is None else record.action

    def has_next_action(self) -> bool:
        return self._blueprint.next_record(self._instance) is not None

    def update_state(self, new_state: State[S]) -> None:
        """Take `new_state` as it is, with the position that it had.

        A state that came from this application, or was derived from one that did, goes back to where it was then; any other
        one starts over.
        """
        prior_action, seq = position_of(new_state) or (None, -1)
        instance = self._instance
        instance.prior = None if prior_action is None else self._blueprint.record(prior_action)
        instance.seq = seq
        instance.state = make_state(freeze_all(new_state._values), new_state._typing_system, (prior_action, seq))

    def reset_to_entrypoint(self) -> None:
        """Make the entrypoint the next action. State and `sequence_id` stay."""
        instance, old = self._instance, self._instance.state
        instance.prior = None
        instance.state = make_state(old._values, old._typing_system, (None, instance.seq))

    def validate_correct_async_use(self) -> None:
        """Raise MixedModeError if sync run methods cannot be used; warn about async hooks that they would skip."""
        self._blueprint.check_sync_run()

    # sync runs

    def step(self, inputs: Inputs = None) -> StepResult[S] | None:
        """Run one action. Returns it with its result and the new state; None when no transition leads on."""
        run = self._step_run
        if run is None or run.method is not _STEP:
            run = self._step_run = self._sync_run(_STEP)  # one step after the other is the same run, told anew
        taken = SyncDriver(step_flow(run, inputs or NO_INPUTS)).finish()
        return None if taken is None else (taken[0].action, taken[1], self._instance.state)

    def run(self, *, halt_before: Names = None, halt_after: Names = None, inputs: Inputs = None) -> RunTriple[S]:
        """Run until a halt condition is met or no transition leads on.

        Returns the last action with its result and the state; for `halt_before` the action that would be next, and None.
        """
        run = self._sync_run(ExecuteMethod.run)
        limits = self._blueprint.limits(halt_before, halt_after)
        return self._triple(SyncDriver(_hooked(run, run_flow(run, inputs or NO_INPUTS, limits))).finish())

    def iterate(
        self, *, halt_before: Names = None, halt_after: Names = None, inputs: Inputs = None
    ) -> Generator[StepResult[S], None, RunTriple[S]]:
        """Yield what `step` returns, step by step, as `run` would take them. The generator's value is what `run` returns."""
        run = self._sync_run(ExecuteMethod.iterate)
        limits = self._blueprint.limits(halt_before, halt_after)
        driver = SyncDriver(_hooked(run, iterate_flow(run, inputs or NO_INPUTS, limits)))
        return self._triple((yield from driver.deliveries()))

    def stream_result(
        self, halt_after: Names, halt_before: Names = None, inputs: Inputs = None
    ) -> tuple[Action, StreamingResultContainer[S, Any]]:
        """Run until an action of `halt_after` is next, and return it with a container that streams its items.

        An action that does not stream has run when this returns, and so has everything if `halt_before` or the end came first:
        the container then has no items. Raises NothingToRun when no transition leads on.
        """
        run = self._sync_run(ExecuteMethod.stream_result, streams=True)
        limits = self._blueprint.limits(halt_before, halt_after)
        driver = SyncDriver(_hooked(run, stream_flow(run, inputs or NO_INPUTS, limits)))
        action = _streamed_action(driver.advance())
        return action, StreamingResultContainer(driver.items(), self.state)

    def stream_iterate(
        self, halt_after: Names = None, halt_before: Names = None, inputs: Inputs = None
    ) -> Generator[tuple[Action, StreamingResultContainer[S, Any]], None, None]:
        """Yield each action with a container of its items, as `run` would take them.

        What is left in a container is taken before the next action begins.
        """
        run = self._sync_run(ExecuteMethod.stream_iterate, streams=True)
        limits = self._blueprint.limits(halt_before, halt_after)
        driver = SyncDriver(_hooked(run, stream_iterate_flow(run, inputs or NO_INPUTS, limits)))
        with closing(driver.deliveries()) as streams:
            for begun in streams:
                container: StreamingResultContainer[S, Any] = StreamingResultContainer(driver.items(), self.state)
                yield begun.action, container
                container.get()

    # async runs

    async def astep(self, inputs: Inputs = None) -> StepResult[S] | None:
        """`step` for async applications."""
        run = self._step_run
        if run is None or run.method is not _ASTEP:
            run = self._step_run = self._async_run(_ASTEP)[0]
        run.ports = ports = LocalPorts(self._blueprint)
        run.thread_id = get_ident()
        taken = await AsyncDriver(step_flow(run, inputs or NO_INPUTS), ports).finish()
        return None if taken is None else (taken[0].action, taken[1], self._instance.state)

    async def arun(self, *, halt_before: Names = None, halt_after: Names = None, inputs: Inputs = None) -> RunTriple[S]:
        """`run` for async applications."""
        run, ports = self._async_run(ExecuteMethod.arun)
        limits = self._blueprint.limits(halt_before, halt_after)
        return self._triple(await AsyncDriver(_hooked(run, run_flow(run, inputs or NO_INPUTS, limits)), ports).finish())

    def aiterate(
        self, *, halt_before: Names = None, halt_after: Names = None, inputs: Inputs = None
    ) -> AsyncGenerator[StepResult[S], None]:
        """`iterate` for async applications, without a value at its end."""
        run, ports = self._async_run(ExecuteMethod.aiterate)
        limits = self._blueprint.limits(halt_before, halt_after)
        return AsyncDriver(_hooked(run, iterate_flow(run, inputs or NO_INPUTS, limits)), ports).deliveries()

    async def astream_result(
        self, halt_after: Names, halt_before: Names = None, inputs: Inputs = None
    ) -> tuple[Action, AsyncStreamingResultContainer[S, Any]]:
        """`stream_result` for async applications."""
        run, ports = self._async_run(ExecuteMethod.astream_result, streams=True)
        limits = self._blueprint.limits(halt_before, halt_after)
        driver = AsyncDriver(_hooked(run, stream_flow(run, inputs or NO_INPUTS, limits)), ports)
        action = _streamed_action(await driver.advance())
        return action, AsyncStreamingResultContainer(driver.items(), self.state)

    async def astream_iterate(
        self, halt_after: Names = None, halt_before: Names = None, inputs: Inputs = None
    ) -> AsyncGenerator[tuple[Action, AsyncStreamingResultContainer[S, Any]], None]:
        """`stream_iterate` for async applications."""
        run, ports = self._async_run(ExecuteMethod.astream_iterate, streams=True)
        limits = self._blueprint.limits(halt_before, halt_after)
        driver = AsyncDriver(_hooked(run, stream_iterate_flow(run, inputs or NO_INPUTS, limits)), ports)
        async with aclosing(driver.deliveries()) as streams:
            async for begun in streams:
                container: AsyncStreamingResultContainer[S, Any] = AsyncStreamingResultContainer(driver.items(), self.state)
                yield begun.action, container
                await container.get()

    async def drive(
        self,
        ports: RunPorts,
        *,
        inputs: Inputs = None,
        halt_before: Names = None,
        halt_after: Names = None,
        max_steps: int | None = None,
        run_id: str | None = None,
    ) -> RunResult:
        """Run as `arun` does, for a host: each step is committed through `ports` before the next one starts.

        An error of the user that is no Exception is raised as ActionQuit.

        Raises UnknownAction, UnknownTag and InvalidInputs before anything runs; the action's own error unchanged, after it has
        been recorded; and what `ports` raise. `run_id` is for the context of the actions.
        """
        blueprint, instance = self._blueprint, self._instance
        run = Run(blueprint, instance, ExecuteMethod.arun, blueprint.async_moments, is_async=True)
        run.is_hosted = True
        run.run_id, run.ports, run.thread_id = run_id, ports, get_ident()
        limits = blueprint.limits(halt_before, halt_after, max_steps)
        flow = _hooked(run, run_flow(run, inputs or NO_INPUTS, limits))
        ending = await AsyncDriver(flow, ports, is_hosted=True).finish()
        return RunResult(
            halt=ending.halt,
            steps=ending.steps,
            action=None if ending.last is None else ending.last.name,
            result=ending.result,
            state=instance.state,
            next_action=None if ending.next is None else ending.next.name,
        )

    def visualize(
        self,
        output_file_path: str | None = None,
        include_conditions: bool = False,
        include_state: bool = False,
        view: bool = False,
        engine: Literal["graphviz"] = "graphviz",
        write_dot: bool = False,
        **engine_kwargs: Any,
    ) -> Any:
        """Draw the graph. See `Graph.visualize`."""
        return self.graph.visualize(
            output_file_path=output_file_path,
            include_conditions=include_conditions,
            include_state=include_state,
            view=view,
            engine=engine,
            write_dot=write_dot,
            **engine_kwargs,
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **kwargs: Any) -> Any:
        """Return what a notebook shows."""
        return self.graph._repr_mimebundle_(include=include, exclude=exclude, **kwargs)

    def _sync_run(self, method: ExecuteMethod, *, streams: bool = False) -> Run:
        blueprint = self._blueprint
        blueprint.check_sync_run()
        return Run(blueprint, self._instance, method, blueprint.sync_moments, is_async=False, streams=streams)

    def _async_run(self, method: ExecuteMethod, *, streams: bool = False) -> tuple[Run, LocalPorts]:
        blueprint = self._blueprint
        blueprint.check_async_run()
        run = Run(blueprint, self._instance, method, blueprint.async_moments, is_async=True, streams=streams)
        run.ports = ports = LocalPorts(blueprint)
        run.thread_id = get_ident()
        return run, ports

    def _triple(self, ending: Ending) -> RunTriple[S]:
        if ending.halt is HaltReason.HALT_BEFORE and ending.next is not None:
            return ending.next.action, None, self.state
        return None if ending.last is None else ending.last.action, ending.result, self.state


def _hooked(run: Run, flow: Flow[T]) -> Flow[T]:
    """Put the execute-call hooks around `flow`, if there are any."""
    return with_execute_hooks(run, flow) if run.moments.has_execute else flow


def _streamed_action(first: Deliver | None) -> Action:
    """Return the action that a stream is of: it is the first thing that the flow delivers."""
    return cast("StreamBegun", cast("Deliver", first).value).action
