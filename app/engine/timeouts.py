"""Time limits for an action, in both colours. Whatever runs out of time ends in ActionTimeout."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import TypeVar

from app.engine.errors import ActionTimeout

__all__ = ["await_within", "call_within"]

T = TypeVar("T")


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


async def await_within(action: str, timeout_s: float, awaitable: Awaitable[T], left_s: float | None = None) -> T:
    """Return what `awaitable` gives within `timeout_s`, or what is left of it; it is cancelled when time is up."""
    try:
        async with asyncio.timeout(timeout_s if left_s is None else left_s) as limit:
            return await awaitable
    except TimeoutError:
        if limit.expired():
            raise ActionTimeout(action, timeout_s) from None
        raise  # the action's own
