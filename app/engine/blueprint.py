"""A machine, compiled: everything that its applications share and that no step has to work out again.

Made once by `ApplicationBuilder.blueprint()`; applications made of it are small.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from app.engine.burr_keys import without_position
from app.engine.compiled import CompiledAction
from app.engine.core import Instance, Limits
from app.engine.errors import MixedModeError, UnknownAction, UnknownTag
from app.engine.freezing import freeze_all
from app.engine.graph import ApplicationGraph
from app.engine.hook_set import HookSet
from app.engine.mode_warnings import (
    async_hooks_skipped,
    async_hooks_without_abuild,
    sync_hooks_after_abuild,
    sync_hooks_in_async_run,
)
from app.engine.moments import Moments, run_hooks
from app.engine.state import State, make_state, values_of
from app.engine.state_types import StateTypes
from app.engine.typing import TypingSystem

if TYPE_CHECKING:
    from app.engine.application import Application
    from app.engine.builder import ApplicationBuilder

__all__ = ["Blueprint"]

TAG = "@tag:"
_HERE = os.path.join(os.path.dirname(__file__), "")

_NO_TAGS: Mapping[str, frozenset[str]] = {}


@dataclass(eq=False)
class Blueprint:
    """The compiled graph of a machine, with its hooks and what its actions can reach through their context.

    `is_async` says which of `build` and `abuild` made it; None for `blueprint()` itself, whose host has ports of its own.
    """

    graph: ApplicationGraph
    actions: dict[str, CompiledAction]
    entrypoint: str
    default_state: dict[str, Any]  # frozen; nobody changes it: states share it
    hooks: HookSet
    typing_system: TypingSystem[Any]
    is_async: bool | None = None
    builder: "ApplicationBuilder[Any] | None" = None
    tracker: Any = None
    parallel_executor_factory: Callable[[], Executor] | None = None
    state_persister: Any = None
    state_initializer: Any = None
    sync_moments: Moments = field(init=False)
    async_moments: Moments = field(init=False)
    has_span_hooks: bool = field(init=False)
    _warned: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        hooks = run_hooks(self.hooks)
        self.sync_moments, self.async_moments = hooks.in_sync_runs, hooks.in_async_runs
        self.has_span_hooks = hooks.has_span_hooks
        self._sync_names, self._async_names = hooks.sync_names, hooks.async_names
        self._tags = _tags(self.graph)
        self._default = State(self.default_state, self.typing_system)

    @cached_property
    def state_types(self) -> StateTypes:
        """What values from outside are checked against."""
        actions = [each.action for each in self.actions.values()]
        return StateTypes(self.typing_system, actions, self.default_state)

    def instantiate(
        self,
        *,
        app_id: str,
        partition_key: str | None = None,
        state: Mapping[str, Any] | None = None,
        seq: int = -1,
        prior_action: str | None = None,
    ) -> "Application[Any]":
        """Return an application that stands after step `seq`, whose action was `prior_action`, with `state`.

        Without `state` it has the default one. No hook is called. Raises UnknownAction for a prior action that the graph lacks.
        """
        from app.engine.application import Application  # it is made of blueprints

        values = self._default if state is None else State(dict(values_of(state)), self.typing_system)
        return Application(self, self.instance(app_id, partition_key, values, seq, prior_action))

    def instance(self, app_id: str, partition_key: str | None, state: State[Any], seq: int, prior_action: str | None) -> Instance:
        """Return what a run of such an application moves."""
        prior = None if prior_action is None else self.record(prior_action)
        if state is self._default:  # frozen already: all applications share it
            state = make_state(self.default_state, self.typing_system, (prior_action, seq))
        else:
            state = positioned(state, prior_action, seq)
        return Instance(app_id, partition_key, state, seq, prior)

    def record(self, name: str) -> CompiledAction:
        """Return the compiled action of that name. Raises UnknownAction."""
        try:
            return self.actions[name]
        except KeyError:
            raise UnknownAction(name, self.actions) from None

    def redirect(self, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Have the action called through `wrap(call)` from its next call on: for a host that carries it out elsewhere.

        What `wrap` gives must be of the colour and kind of `call`. Raises UnknownAction.
        """
        record = self.record(name)
        record.call = wrap(record.call)

    def next_record(self, instance: Instance) -> CompiledAction | None:
        """Return the action that comes next; None when no transition leads on."""
        if instance.prior is None:
            return self.actions[self.entrypoint]
        return instance.prior.follower(instance.state)

    def next_action(self, state: Mapping[str, Any], prior_action: str | None) -> str | None:
        """Return the name of the action that comes after `prior_action` (None: of the first one) on `state`, if there is one."""
        if prior_action is None:
            return self.entrypoint
        known = state if isinstance(state, State) else make_state(dict(state), self.typing_system, (prior_action, -1))
        following = self.record(prior_action).follower(known)
        return None if following is None else following.name

    def limits(self, halt_before: Iterable[str] | None, halt_after: Iterable[str] | None, max_steps: int | None = None) -> Limits:
        """Return when a run stops, with tags as the actions that have them. A string counts as one name.

        Raises UnknownAction, UnknownTag, and ValueError for a `max_steps` below 1.
        """
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, not {max_steps}")
        return Limits(self._expand(halt_before, "halt_before"), self._expand(halt_after, "halt_after"), max_steps)

    def check_sync_run(self) -> None:
        """Raise MixedModeError if this was built for async runs; warn about the hooks that a sync run leaves out."""
        if self.is_async:
            remedy = "use the async run methods" if self._async_names or not self._sync_names else "use build()"
            raise MixedModeError(f"the application was built with abuild() and is run by a sync method; {remedy}")
        if self._async_names:
            self.warn_once("skipped", partial(async_hooks_skipped, self._async_names))

    def check_async_run(self) -> None:
        """Warn about hooks whose colour does not fit an async run, or the builder method."""
        if self.is_async is None:
            return
        if self._sync_names:
            warning = sync_hooks_after_abuild if self.is_async else sync_hooks_in_async_run
            self.warn_once("sync hooks", partial(warning, self._sync_names))
        if self._async_names and not self.is_async:
            self.warn_once("async hooks", partial(async_hooks_without_abuild, self._async_names))

    def warn_once(self, key: str, warning: Callable[[], Warning]) -> None:
        """Give the warning, unless the key was warned about before on behalf of this blueprint."""
        if key not in self._warned:
            self._warned += (key,)
            warnings.warn(warning(), stacklevel=_frames_of_the_engine())

    def _expand(self, names: Iterable[str] | None, where: str) -> frozenset[str]:
        if not names:
            return frozenset()
        found: set[str] = set()
        for name in (names,) if isinstance(names, str) else names:
            if name in self.actions:
                found.add(name)
            elif isinstance(name, str) and name.startswith(TAG):
                found |= self._tagged(name.removeprefix(TAG))
            else:
                raise UnknownAction(name, self.actions, where)
        return frozenset(found)

    def _tagged(self, tag: str) -> frozenset[str]:
        try:
            return self._tags[tag]
        except KeyError:
            raise UnknownTag(tag, self._tags) from None


def _tags(graph: ApplicationGraph) -> Mapping[str, frozenset[str]]:
    """Return the names of the actions that have each tag."""
    tagged = graph.tagged
    return {tag: frozenset(action.name for action in actions) for tag, actions in tagged.items()} if tagged else _NO_TAGS


def _frames_of_the_engine() -> int:
    """Return the stack level, for whoever calls, of the innermost line that is not the engine's."""
    frame, level = sys._getframe(1).f_back, 2
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame, level = frame.f_back, level + 1
    return level


def positioned(state: State[Any], prior_action: str | None, seq: int) -> State[Any]:
    """Return `state` as that of an application which stands there: frozen, without Burr's own keys, and without operations."""
    return make_state(freeze_all(without_position(state._values)), state._typing_system, (prior_action, seq))
