"""The ports of an async run without a host: sync code goes to the event loop's default threads, and nothing is kept.

A run that an action of a hosted one starts (a branch of a parallel action, say) has its sync code carried out by that host.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from app.engine.blueprint import Blueprint
from app.engine.context import ports_around
from app.engine.effects import END
from app.engine.hook_context import HookContext
from app.engine.mode_warnings import blocking_action
from app.engine.ports import ActionOutcome, BlockingCall, RunPorts, Step, StepEvent, StepFailure

__all__ = ["LocalPorts"]


class LocalPorts:
    """Implements RunPorts for one run of an application that runs by itself."""

    __slots__ = ("_blueprint", "_hooks", "_host")

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._hooks: HookContext | None = None
        self._host: RunPorts | None = ports_around()
        if isinstance(self._host, LocalPorts):
            self._host = self._host._host

    def is_cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0

    def leave_behind(self, task: "asyncio.Task[Any]") -> None:
        _left_behind.add(task)
        task.add_done_callback(_drop)

    async def call_action(self, call: BlockingCall) -> ActionOutcome:
        if self._host is not None:
            return await self._host.call_action(call)
        self._warn(call)
        # the loop is the user's, and so is its default executor: here the engine runs in a script, not in the service
        return await asyncio.to_thread(call.perform)

    def stream_action(self, call: BlockingCall) -> AsyncGenerator[Any, None]:
        return self._stream(call) if self._host is None else self._host.stream_action(call)

    async def _stream(self, call: BlockingCall) -> AsyncGenerator[Any, None]:
        self._warn(call)
        loop, context, items = asyncio.get_running_loop(), copy_context(), call.stream()
        try:
            while (item := await loop.run_in_executor(None, _next_in, context, items)) is not END:
                yield item
        finally:
            await loop.run_in_executor(None, _close, items)

    async def call_hook(self, call: Callable[[], Any]) -> Any:
        if self._hooks is None:
            self._hooks = HookContext()
        bound = self._hooks.bind(call)
        if self._host is not None:
            return await self._host.call_hook(bound)
        return await asyncio.get_running_loop().run_in_executor(None, bound)

    async def pause(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    def emit(self, event: StepEvent) -> None:
        """Nobody listens."""

    async def commit(self, step: Step) -> None:
        """Nothing is stored."""

    async def record_failure(self, failure: StepFailure) -> None:
        """Nothing is stored."""

    def _warn(self, call: BlockingCall) -> None:
        name = call.action.name
        if call.action.executor is None:  # whoever chose one knows that the action is sync
            self._blueprint.warn_once(f"blocking {name}", lambda: blocking_action(name))


_left_behind: "set[asyncio.Task[Any]]" = set()  # a task that nobody refers to could be collected while it runs


def _drop(task: "asyncio.Task[Any]") -> None:
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()  # seen: nobody wants it any more


def _next_in(context: Context, items: Iterator[Any]) -> Any:
    return context.run(next, items, END)


def _close(items: Any) -> None:
    with suppress(ValueError):  # it still runs in its thread, which nobody can stop
        items.close()
