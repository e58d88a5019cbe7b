"""The hooks of an application as a run needs them: moment by moment, in each colour, and what messages call them.

Sorted out when a blueprint is made. Where nobody listens there is nothing, and a run has no effect for that moment.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.engine.effects import Listeners
from app.engine.hook_set import NO_HOOKS, HookSet

__all__ = ["RUN_MOMENTS", "Moments", "RunHooks", "run_hooks"]

RUN_MOMENTS = (
    "pre_run_execute_call",
    "post_run_execute_call",
    "pre_run_step",
    "post_run_step",
    "pre_start_stream",
    "post_stream_item",
    "post_end_stream",
)
"""The moments that a run calls hooks at. Spans call theirs from inside an action."""

_SPAN_MOMENTS = ("pre_start_span", "post_end_span", "do_log_attributes")


@dataclass(slots=True)
class Moments:
    """The hooks of each moment of a run; None where nobody listens, and then there is no effect."""

    pre_execute: Listeners | None
    post_execute: Listeners | None
    pre_step: Listeners | None
    post_step: Listeners | None
    start_stream: Listeners | None
    item: Listeners | None
    end_stream: Listeners | None
    has_execute: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_execute = self.pre_execute is not None or self.post_execute is not None

    @classmethod
    def of(cls, hooks: HookSet, *, is_async: bool) -> "Moments":
        """Return the moments of a run in one colour: a sync one has no async hooks."""
        if not hooks.sync_hooks and not (is_async and hooks.async_hooks):
            return _NO_MOMENTS
        found = (Listeners(hooks.sync(name), hooks.async_(name) if is_async else ()) for name in RUN_MOMENTS)
        return cls(*(each if each.sync or each.async_ else None for each in found))


_NO_MOMENTS = Moments(*[None] * len(RUN_MOMENTS))


@dataclass(frozen=True, slots=True)
class RunHooks:
    """The hooks of one set, for runs of both colours. The names are those of hooks that a run calls, as `Class.method`."""

    in_sync_runs: Moments
    in_async_runs: Moments
    has_span_hooks: bool
    sync_names: tuple[str, ...]
    async_names: tuple[str, ...]

    @classmethod
    def of(cls, hooks: HookSet) -> "RunHooks":
        return cls(
            in_sync_runs=Moments.of(hooks, is_async=False),
            in_async_runs=Moments.of(hooks, is_async=True),
            has_span_hooks=any(hooks.sync(name) or hooks.async_(name) for name in _SPAN_MOMENTS),
            sync_names=_listening(hooks.sync_names),
            async_names=_listening(hooks.async_names),
        )


def _listening(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the hooks that a run calls: all but those of the making."""
    return tuple(name for name in names if not name.endswith(".post_application_create"))


_NONE = RunHooks.of(NO_HOOKS)


def run_hooks(hooks: HookSet) -> RunHooks:
    """Return `hooks` as runs need them."""
    return _NONE if hooks is NO_HOOKS else RunHooks.of(hooks)
