"""What an action starts on the service's event loop may fail, but not end the loop, as SystemExit in a task does."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from app.engine.quitting import ENDS_A_SCRIPT, quit_of
from app.executors.owner import current_owner

__all__ = ["guard_tasks"]

T = TypeVar("T")


def guard_tasks(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Guard the tasks that actions and hooks start on `loop` from now on, branches among them; return what ends that."""
    before: Any = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if current_owner.get() is not None:
            coroutine = _Guarded(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options) if before is None else before(loop, coroutine, **options)

    loop.set_task_factory(make)
    return lambda: loop.set_task_factory(before)


class _Guarded(Coroutine[Any, Any, T]):
    """The same coroutine, but for what would end the loop. Without a frame of its own: one never begun is just closed."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Coroutine[Any, Any, T]) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except ENDS_A_SCRIPT as exc:
            raise quit_of(exc) from exc

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except ENDS_A_SCRIPT as exc:
            raise quit_of(exc) from exc

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:
        """Names, code and frames of the coroutine itself, for whoever looks at the task."""
        return getattr(self._inner, name)
