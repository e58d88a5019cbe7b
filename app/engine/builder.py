"""The builder of applications: it collects what was said, checks that it fits together, and makes a blueprint of it.

`build` and `abuild` make one application, `blueprint` the shared part of many. They go the same way; the only thing that one
awaits and the other does not is the persister.
"""

import uuid
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, Literal, Self, cast

from typing_extensions import TypeVar

from app.engine.application import Application
from app.engine.blueprint import Blueprint, positioned
from app.engine.burr_keys import position_in
from app.engine.compiled import compile_actions
from app.engine.errors import BuildError, MixedModeError, UninitializedPersister, UnknownAction, kind_of
from app.engine.graph import ActionLike, ApplicationGraph, Graph, GraphBuilder, TransitionLike
from app.engine.hook_moments import declared_hooks
from app.engine.hook_set import NO_HOOKS, HookSet, LifecycleAdapter
from app.engine.persistence_ports import (
    AsyncBaseStateLoader,
    AsyncBaseStateSaver,
    BaseStateLoader,
    BaseStateSaver,
    PersistedStateData,
    PersisterHook,
    PersisterHookAsync,
)
from app.engine.pointers import ParentPointer
from app.engine.shared_graphs import forget, shared_graph
from app.engine.starting import Beginning, Initializer
from app.engine.state import PLAIN, State, values_of
from app.engine.typing import TypingSystem
from app.engine.validation import ValidationMode, report

__all__ = ["ApplicationBuilder"]

S = TypeVar("S", default=Any)
NewS = TypeVar("NewS")


class ApplicationBuilder(Generic[S]):
    """Collects actions, transitions, state, hooks and persistence, in any order, and builds applications.

    Every `with_…` method returns the builder.
    """

    def __init__(self) -> None:
        self.start: str | None = None
        self.state: State[S] | None = None
        self.lifecycle_adapters: list[LifecycleAdapter] = []
        self.app_id: str = str(uuid.uuid4())
        self.partition_key: str | None = None
        self.sequence_id: int | None = None
        self.initializer: Initializer | None = None
        self.spawning_parent: ParentPointer | None = None
        self.tracker: Any = None
        self.graph_builder: GraphBuilder | None = None
        self.typing_system: TypingSystem[S] | None = None
        self.parallel_executor_factory: Callable[[], Executor] | None = None
        self.state_persister: Any = None
        self.validation: ValidationMode = "warn"
        self._is_async = False

    @property
    def is_async(self) -> bool:
        """Whether `abuild` was called."""
        return self._is_async

    def with_identifiers(
        self, app_id: str | None = None, partition_key: str | None = None, sequence_id: int | None = None
    ) -> Self:
        """Set the identity; what is not given stays.

        Without an `app_id` it is a random UUID. The first step is `sequence_id` + 1, or 0.
        """
        self.app_id = self.app_id if app_id is None else app_id
        self.partition_key = self.partition_key if partition_key is None else partition_key
        self.sequence_id = self.sequence_id if sequence_id is None else sequence_id
        return self

    def with_typing(self, typing_system: TypingSystem[NewS]) -> "ApplicationBuilder[NewS]":
        """Set the type of the state."""
        typed = cast("ApplicationBuilder[NewS]", self)
        typed.typing_system = typing_system
        return typed

    def with_state(self, /, state: State[Any] | S | None = None, **kwargs: Any) -> Self:
        """Set the initial state: as keyword arguments, as a State, or as a value of the type given by `with_typing`."""
        if self.initializer is not None:
            raise BuildError("with_state cannot follow initialize_from: the initializer gives the state")
        if state is None:
            self.state = State(kwargs) if self.state is None else self.state.update(**kwargs)
        elif self.state is not None:
            raise BuildError("with_state got a whole state, but part of the state has been set before")
        elif isinstance(state, State):
            self.state = state
        elif self.typing_system is not None:
            self.state = self.typing_system.construct_state(state)
        else:
            raise BuildError(f"with_state got {kind_of(state)}; call with_typing first, or pass a State")
        return self

    def with_entrypoint(self, action: str) -> Self:
        """Set the action that runs first."""
        if self.initializer is not None:
            raise BuildError("with_entrypoint cannot follow initialize_from: pass default_entrypoint to it")
        if self.start is not None:
            raise BuildError(f"the entrypoint is {self.start!r} already and cannot be set to {action!r}")
        self.start = action
        return self

    def with_actions(self, /, *action_list: ActionLike, **action_dict: ActionLike) -> Self:
        """Add actions: by keyword under that name, or decorated functions and named actions under their own."""
        self._graphs().with_actions(*action_list, **action_dict)
        return self

    def with_transitions(self, *transitions: TransitionLike) -> Self:
        """Add transitions `(from, to)` or `(from, to, condition)`; `from` may be a list of names. Order is precedence."""
        self._graphs().with_transitions(*transitions)
        return self

    def with_graph(self, graph: Graph) -> Self:
        """Add all actions and transitions of `graph`."""
        self._graphs().with_graph(graph)
        return self

    def with_graphs(self, *graphs: Graph) -> Self:
        """Add all actions and transitions of several graphs."""
        for graph in graphs:
            self.with_graph(graph)
        return self

    def with_hooks(self, *adapters: LifecycleAdapter) -> Self:
        """Add hooks; they are called in the order in which they were added."""
        self.lifecycle_adapters += adapters
        return self

    def with_parallel_executor(self, executor_factory: Callable[[], Executor]) -> Self:
        """Set what makes the executor of parallel actions in sync runs; a thread pool otherwise."""
        if self.parallel_executor_factory is not None:
            raise BuildError("with_parallel_executor was called before; there is one factory")
        self.parallel_executor_factory = executor_factory
        return self

    def with_tracker(
        self,
        tracker: Any = "local",
        project: str = "default",
        params: dict[str, Any] | None = None,
        use_otel_tracing: bool = False,
    ) -> Self:
        """Add a hook that keeps track of the application; the context of actions holds it, for the applications they start.

        `"local"` stands for a `LocalTrackingClient`, made with `project` and `params`, which writes a log of steps to a folder.
        """
        if use_otel_tracing:
            raise BuildError("use_otel_tracing is not there: add an OpenTelemetry hook of your own with with_hooks")
        if isinstance(tracker, str):
            if tracker != "local":
                raise BuildError(f"there is no tracker {tracker!r}; pass 'local', or an object with hooks")
            from app.engine.tracking import LocalTrackingClient  # most applications are not tracked

            tracker = LocalTrackingClient(**{"project": project, **(params or {})})
        elif params is not None:
            raise BuildError("params are for a tracker that is given by name; this one is an object already")
        self.lifecycle_adapters.append(tracker)
        self.tracker = tracker
        return self

    def with_state_persister(
        self,
        persister: BaseStateSaver | AsyncBaseStateSaver | LifecycleAdapter,
        on_every: Literal["step"] = "step",
    ) -> Self:
        """Save the state after every step, failed ones too. A hook in place of a saver is called as a hook."""
        if on_every != "step":
            raise BuildError(f"on_every is {on_every!r}; only 'step' is there")
        if not isinstance(persister, BaseStateSaver | AsyncBaseStateSaver) and not declared_hooks(type(persister)):
            raise BuildError(f"with_state_persister got {kind_of(persister)}; expected a persister, or an object with hooks")
        self.state_persister = persister
        return self

    def with_spawning_parent(self, app_id: str, sequence_id: int | None, partition_key: str | None = None) -> Self:
        """Set the application whose action starts this one."""
        self.spawning_parent = ParentPointer(app_id, partition_key, sequence_id)
        return self

    def initialize_from(
        self,
        initializer: BaseStateLoader | AsyncBaseStateLoader,
        resume_at_next_action: bool,
        default_state: dict[str, Any],
        default_entrypoint: str,
        fork_from_app_id: str | None = None,
        fork_from_partition_key: str | None = None,
        fork_from_sequence_id: int | None = None,
        override_state_values: dict[str, Any] | None = None,
    ) -> Self:
        """Begin from a saved state, of this application or (`fork_from_…`) of another one, if there is one.

        With `resume_at_next_action` it goes on after the last action (or with it again, if that failed); otherwise, and when
        nothing was saved, at `default_entrypoint`. Without a saved state it has `default_state`.
        """
        if self.start is not None or self.state is not None:
            raise BuildError("initialize_from cannot be combined with with_state or with_entrypoint: it gives both")
        if fork_from_app_id is None and (fork_from_partition_key is not None or fork_from_sequence_id is not None):
            raise BuildError("fork_from_partition_key and fork_from_sequence_id need fork_from_app_id")
        fork = None
        if fork_from_app_id is not None:
            fork = ParentPointer(fork_from_app_id, fork_from_partition_key, fork_from_sequence_id)
        self.initializer = Initializer(
            initializer, resume_at_next_action, default_state, default_entrypoint, fork, override_state_values or {}
        )
        self.start = default_entrypoint
        return self

    def with_validation(self, mode: ValidationMode) -> Self:
        """Set what comes of findings about the graph: a GraphWarning each (the default), InvalidGraph for all, or nothing.

        What findings are is said in `app.engine.validation`.
        """
        self.validation = mode
        return self

    def blueprint(self) -> Blueprint:
        """Return what all applications of this machine share, compiled. A host makes them with `Blueprint.instantiate`.

        Raises GraphError, BuildError and UnknownAction for what does not fit together. No persister is asked for anything.
        """
        beginning = self._beginning(None)
        return self._compile(beginning, self._saver_hooks(), None)

    def build(self) -> Application[S]:
        """Return an application for sync runs. An async persister or initializer is an error."""
        self._require_colour(is_async=False)
        loaded, is_ready = None, True
        if isinstance(self.state_persister, BaseStateSaver):
            with suppress(NotImplementedError):
                is_ready = self.state_persister.is_initialized()
        if self.initializer is not None and is_ready:
            loaded = cast("BaseStateLoader", self.initializer.loader).load(*self._source())
        application, announcement = self._assemble(loaded, is_ready=is_ready, is_async=False)
        application.blueprint.hooks.call_all_lifecycle_hooks_sync("post_application_create", **announcement)
        return application

    async def abuild(self) -> Application[S]:
        """Return an application for async runs. A sync persister or initializer is an error."""
        self._is_async = True
        self._require_colour(is_async=True)
        loaded, is_ready = None, True
        if isinstance(self.state_persister, AsyncBaseStateSaver):
            with suppress(NotImplementedError):
                is_ready = await self.state_persister.is_initialized()
        if self.initializer is not None and is_ready:
            loaded = await cast("AsyncBaseStateLoader", self.initializer.loader).load(*self._source())
        application, announcement = self._assemble(loaded, is_ready=is_ready, is_async=True)
        hooks = application.blueprint.hooks
        await hooks.call_all_lifecycle_hooks_sync_and_async("post_application_create", **announcement)
        return application

    def _graphs(self) -> GraphBuilder:
        if self.graph_builder is None:
            self.graph_builder = GraphBuilder()
        return self.graph_builder

    def _require_colour(self, *, is_async: bool) -> None:
        """Raise MixedModeError for a persister or an initializer of the other colour."""
        called, other = ("abuild()", "build()") if is_async else ("build()", "abuild()")
        parts = [("persister", self.state_persister)]
        if self.initializer is not None:
            parts.append(("initializer", self.initializer.loader))
        for what, part in parts:
            if part is not None and hasattr(part, "is_async") and part.is_async() is not is_async:
                found = "sync" if is_async else "async"
                raise MixedModeError(f"{called} got the {found} {what} {type(part).__name__}; use {other}, or the other colour")

    def _source(self) -> tuple[str | None, str, int | None]:
        initializer = cast("Initializer", self.initializer)
        return initializer.source(self.app_id, self.partition_key, self.sequence_id)

    def _beginning(self, loaded: PersistedStateData | None) -> Beginning:
        if self.initializer is not None:
            return self.initializer.begin(loaded)
        if self.start is None:
            raise BuildError("an application needs to know where it begins; call with_entrypoint")
        state: State[Any] = State() if self.state is None else self.state
        prior_action, seq = position_in(state)
        return Beginning(state, self.start, seq if self.sequence_id is None else self.sequence_id, prior_action)

    def _saver_hooks(self) -> tuple[LifecycleAdapter, ...]:
        persister = self.state_persister
        if persister is None:
            return ()
        if isinstance(persister, BaseStateSaver):
            return (PersisterHook(persister),)
        return (PersisterHookAsync(persister) if isinstance(persister, AsyncBaseStateSaver) else persister,)

    def _compile(self, beginning: Beginning, saver_hooks: tuple[LifecycleAdapter, ...], is_async: bool | None) -> Blueprint:
        if self.graph_builder is None:
            raise BuildError("an application needs actions; call with_actions or with_graph")
        # a host changes how actions are called, and must do so to its own machine alone
        graph = self.graph_builder.build() if is_async is None else shared_graph(self.graph_builder)
        if beginning.entrypoint not in graph.action_names:
            raise UnknownAction(beginning.entrypoint, graph.action_names, "the entrypoint")
        # a resumed application may begin anywhere: it is the machine that is looked at
        keys, start = beginning.state.keys(), self.start or beginning.entrypoint
        if beginning.prior_action is None and report(graph, start, keys, self.validation):
            forget(graph)  # whoever builds it again is to hear of it again
        adapters = (*self.lifecycle_adapters, *saver_hooks)
        return Blueprint(
            graph=ApplicationGraph.of(graph, beginning.entrypoint),
            actions=compile_actions(graph),
            entrypoint=beginning.entrypoint,
            default_state=dict(values_of(positioned(beginning.state, None, -1))),
            hooks=HookSet(*adapters) if adapters else NO_HOOKS,
            typing_system=self.typing_system or PLAIN,
            is_async=is_async,
            builder=self,
            tracker=self.tracker,
            parallel_executor_factory=self.parallel_executor_factory or ThreadPoolExecutor,
            state_persister=self.state_persister,
            state_initializer=None if self.initializer is None else self.initializer.loader,
        )

    def _assemble(
        self, loaded: PersistedStateData | None, *, is_ready: bool, is_async: bool
    ) -> tuple[Application[S], dict[str, Any]]:
        """Return the application, and what the create hooks are told of it."""
        if not is_ready:
            raise UninitializedPersister(self.state_persister)
        beginning = self._beginning(loaded)
        blueprint = self._compile(beginning, self._saver_hooks(), is_async)
        state = beginning.state.with_typing_system(blueprint.typing_system)
        instance = blueprint.instance(self.app_id, self.partition_key, state, beginning.seq, beginning.prior_action)
        announcement = {
            "app_id": self.app_id,
            "partition_key": self.partition_key,
            "state": instance.state,
            "application_graph": blueprint.graph,
            "parent_pointer": beginning.parent,
            "spawning_parent_pointer": self.spawning_parent,
        }
        return Application(blueprint, instance, beginning.parent, self.spawning_parent), announcement
