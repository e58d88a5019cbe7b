"""Spans and attributes inside an action: the tracer that an action is given as `__tracer`.

A tracer records nothing itself: it keeps the tree of open spans and calls the span hooks. In an async run, hooks of both colours
are called, and waited for, by `async with`. A plain `with`, and `log_attributes`, cannot wait, and must not hold the event loop:
they note the calls, which a task makes in order as soon as the action waits for anything. The next `async with` border and the
end of the action wait for them (`TracerFactory.flush`).
"""

import asyncio
import functools
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any, Self, TypeAlias

from app.engine.hook_set import HookSet
from app.engine.stop_iteration import sealed

__all__ = [
    "ActionSpan",
    "ActionSpanTracer",
    "TracerFactory",
    "create_span_id",
    "execution_context_var",
    "tracer_factory_context_var",
]

CallHook: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass
class ActionSpan:
    """One span of the tree that an action opens. `sequence_id` counts the spans beside it from 0."""

    action: str
    action_sequence_id: int
    name: str
    parent: "ActionSpan | None"
    sequence_id: int = 0
    child_count: int = 0
    owner: object = field(default=None, repr=False, compare=False)

    def spawn(self, name: str) -> "ActionSpan":
        """Return a new child of this span."""
        child = ActionSpan(self.action, self.action_sequence_id, name, self, self.child_count, owner=self.owner)
        self.child_count += 1
        return child

    @property
    def uid(self) -> str:
        """An id that is unique in the application: the step, a colon, and the way through the tree (`3:0.2`)."""
        way = [self.sequence_id]
        span = self
        while span.parent is not None:
            span = span.parent
            way.append(span.sequence_id)
        return f"{self.action_sequence_id}:{'.'.join(map(str, reversed(way)))}"

    @classmethod
    def create_initial(cls, action: str, name: str, sequence_id: int, action_sequence_id: int) -> "ActionSpan":
        """Return a span without a parent."""
        return cls(action=action, action_sequence_id=action_sequence_id, name=name, parent=None, sequence_id=sequence_id)


execution_context_var: ContextVar[ActionSpan | None] = ContextVar("execution_context", default=None)


def create_span_id() -> str:
    """Return a new id for a span that needs one beyond its application."""
    return f"span_{uuid.uuid4()}"


class _HookCalls:
    """Where the hook calls of one action's tracers go."""

    def __init__(self, hooks: HookSet, call_hook: CallHook | None) -> None:
        self.hooks = hooks
        self.top_level_spans = 0
        self._call_hook = call_hook
        self._loop_thread = None if call_hook is None else get_ident()
        self._noted: deque[Callable[[], Awaitable[Any]]] = deque()
        self._making: asyncio.Task[None] | None = None

    def make(self, name: str, arguments: dict[str, Any]) -> None:
        for method in self.hooks.sync(name):
            if self._is_on_the_loop():
                self._noted.append(functools.partial(self._off_the_loop, functools.partial(method, **arguments)))
            else:
                method(**arguments)
        self._noted.extend(functools.partial(method, **arguments) for method in self.hooks.async_(name))
        if self._noted and self._is_on_the_loop() and (self._making is None or _is_over(self._making)):
            self._making = asyncio.create_task(self._make_noted())

    async def amake(self, name: str, arguments: dict[str, Any]) -> None:
        await self.flush()
        for method in self.hooks.sync(name):
            await self._off_the_loop(functools.partial(method, **arguments))
        await self.hooks.call_all_lifecycle_hooks_async(name, **arguments)

    async def flush(self) -> None:
        while self._noted or self._making is not None:
            making = self._making = self._making or asyncio.create_task(self._make_noted())
            try:
                await making
            finally:
                if self._making is making:
                    self._making = None

    async def _make_noted(self) -> None:
        while self._noted:
            await self._noted.popleft()()

    async def _off_the_loop(self, call: Callable[[], Any]) -> None:
        if self._call_hook is not None and self._is_on_the_loop():
            await self._call_hook(functools.partial(sealed, "a hook", call))
        else:
            call()

    def _is_on_the_loop(self) -> bool:
        """Whether this is the thread of the run's event loop, and not that of a sync action."""
        return self._loop_thread == get_ident()


def _is_over(task: "asyncio.Task[None]") -> bool:
    """Whether the task has ended well; if it has not, `flush` tells."""
    return task.done() and not task.cancelled() and task.exception() is None


class ActionSpanTracer(AbstractContextManager["ActionSpanTracer"], AbstractAsyncContextManager["ActionSpanTracer"]):
    """One span as a context manager, sync or async. It is made by calling the `__tracer` that an action is given."""

    def __init__(
        self,
        action: str,
        action_sequence_id: int,
        span_name: str,
        lifecycle_adapters: HookSet,
        app_id: str,
        partition_key: str | None,
        span_dependencies: Sequence[str],
        top_level_span_count: int = 0,
        context_var: ContextVar[ActionSpan | None] = execution_context_var,
        *,
        _calls: _HookCalls | None = None,
    ) -> None:
        self.action = action
        self.action_sequence_id = action_sequence_id
        self.span_name = span_name
        self.lifecycle_adapters = lifecycle_adapters
        self.app_id = app_id
        self.partition_key = partition_key
        self.span_dependencies = list(span_dependencies)
        self.context_var = context_var
        self._calls = _calls or _HookCalls(lifecycle_adapters, None)
        self._calls.top_level_spans = max(self._calls.top_level_spans, top_level_span_count - 1)
        self._open: list[tuple[ActionSpan, ActionSpan | None]] = []

    @property
    def top_level_span_count(self) -> int:
        """How many spans without a parent the action has opened so far."""
        return self._calls.top_level_spans

    def log_attribute(self, key: str, value: Any) -> None:
        """Tell the hooks of one attribute of the span that is open, or of the action when none is."""
        self.log_attributes(**{key: value})

    def log_attributes(self, /, **attributes: Any) -> None:
        """Tell the hooks of attributes of the span that is open, or of the action when none is."""
        span = self._current()
        self._calls.make("do_log_attributes", self._arguments(attributes=attributes, span=span, tags={}))

    def __enter__(self) -> Self:
        self._calls.make("pre_start_span", self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.make("post_end_span", self._end())

    async def __aenter__(self) -> Self:
        await self._calls.amake("pre_start_span", self._begin())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._calls.amake("post_end_span", self._end())

    def _begin(self) -> dict[str, Any]:
        before, parent = self.context_var.get(), self._current()
        if parent is None:
            span = ActionSpan.create_initial(self.action, self.span_name, self._calls.top_level_spans, self.action_sequence_id)
            span.owner = self._calls
            self._calls.top_level_spans += 1
        else:
            span = parent.spawn(self.span_name)
        self.context_var.set(span)
        self._open.append((span, before))
        return self._arguments(span=span, span_dependencies=self.span_dependencies)

    def _end(self) -> dict[str, Any]:
        span, before = self._open.pop()
        self.context_var.set(before)
        return self._arguments(span=span, span_dependencies=self.span_dependencies)

    def _current(self) -> ActionSpan | None:
        # a span of an application that runs inside an action has no parent outside that application
        span = self.context_var.get()
        return span if span is not None and span.owner is self._calls else None

    def _arguments(self, **more: Any) -> dict[str, Any]:
        return {
            "action": self.action,
            "action_sequence_id": self.action_sequence_id,
            "app_id": self.app_id,
            "partition_key": self.partition_key,
            **more,
        }


class TracerFactory(ActionSpanTracer):
    """What an action gets for its parameter `__tracer`: called with a name it gives a span; it logs attributes, too.

    `call_hook` carries a sync hook out off the event loop, for the spans of an async action.
    """

    def __init__(
        self,
        action: str,
        sequence_id: int,
        app_id: str,
        partition_key: str | None,
        lifecycle_adapters: HookSet,
        _context_var: ContextVar[ActionSpan | None] = execution_context_var,
        *,
        call_hook: CallHook | None = None,
    ) -> None:
        super().__init__(
            action=action,
            action_sequence_id=sequence_id,
            span_name="root",
            lifecycle_adapters=lifecycle_adapters,
            app_id=app_id,
            partition_key=partition_key,
            span_dependencies=(),
            context_var=_context_var,
            _calls=_HookCalls(lifecycle_adapters, call_hook),
        )

    def __call__(self, span_name: str, span_dependencies: list[str] | None = None) -> ActionSpanTracer:
        """Return a span, not open yet. `span_dependencies` are names or ids of spans that it builds on, for the hooks."""
        return ActionSpanTracer(
            action=self.action,
            action_sequence_id=self.action_sequence_id,
            span_name=span_name,
            lifecycle_adapters=self.lifecycle_adapters,
            app_id=self.app_id,
            partition_key=self.partition_key,
            span_dependencies=span_dependencies or (),
            context_var=self.context_var,
            _calls=self._calls,
        )

    async def flush(self) -> None:
        """Wait for the hooks that plain `with` blocks and `log_attributes` have left. To be awaited when the action is over."""
        await self._calls.flush()


tracer_factory_context_var: ContextVar[TracerFactory | None] = ContextVar("tracer_context", default=None)
