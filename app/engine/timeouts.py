"""Time limits for an action, in both colours. Whatever runs out of time ends in ActionTimeout."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import Any, TypeAlias, TypeVar

from app.engine.errors import ActionTimeout

__all__ = ["LeaveBehind", "await_within", "call_within", "end_soon"]

T = TypeVar("T")
LeaveBehind: TypeAlias = Callable[["asyncio.Task[Any]"], None]
_UNWINDING_S = 0.2


def call_within(action: str, timeout_s: float, function: Callable[[], T], left_s: float | None = None) -> T:
    """Return what `function` returns within `timeout_s`, or within what is left of it.

    A thread cannot be stopped: `function` runs in one of its own, which is left to itself when time is up.
    """
    future: Future[T] = Future()
    context = copy_context()

    def work() -> None:
        try:
            result = context.run(function)
        except BaseException as raised:  # handed over to the waiting thread
            future.set_exception(raised)
        else:
            future.set_result(result)

    threading.Thread(target=work, name=f"timeout-{action}", daemon=True).start()
    if not wait([future], timeout_s if left_s is None else max(left_s, 0)).done:
        raise ActionTimeout(action, timeout_s)
    return future.result()


async def await_within(action: str, timeout_s: float, awaitable: Awaitable[T], leave_behind: LeaveBehind) -> T:
    """Return what `awaitable` gives within `timeout_s`; it is cancelled when time is up.

    It runs in a task of its own. One that does not end when it is cancelled is handed to `leave_behind`, and nobody waits for it.
    """
    task = asyncio.ensure_future(_awaited(awaitable))
    try:
        await asyncio.wait([task], timeout=timeout_s)
    except asyncio.CancelledError:
        await end_soon(task, leave_behind)
        raise
    if task.done():
        return task.result()
    await end_soon(task, leave_behind)
    raise ActionTimeout(action, timeout_s)


async def end_soon(task: "asyncio.Task[Any]", leave_behind: LeaveBehind) -> None:
    """Cancel `task` and give it a moment to clean up; then it is left behind. What it gives is dropped."""
    task.cancel()
    try:
        await asyncio.wait([task], timeout=_UNWINDING_S)
    finally:
        if not task.done():
            leave_behind(task)
        elif not task.cancelled():
            task.exception()  # seen


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
