"""Code of an action may fail on the service's event loop, but not end the loop.

SystemExit and KeyboardInterrupt, raised in a task or a callback, would leave the loop, and `loop.stop()` would stop it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from app.engine.quitting import ENDS_A_SCRIPT, quit_of
from app.executors.owner import current_owner

__all__ = ["guard_callbacks", "guard_stop", "guard_tasks", "keep_running"]

T = TypeVar("T")

logger = logging.getLogger(__name__)


def guard_tasks(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Guard the tasks that actions and hooks start on `loop` from now on, branches among them; return what ends that."""
    before: Any = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if current_owner.get() is not None:
            coroutine = _Guarded(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options) if before is None else before(loop, coroutine, **options)

    loop.set_task_factory(make)
    return lambda: loop.set_task_factory(before)


def guard_stop(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Refuse `loop.stop()` to code that runs on the account of a run, from now on; return what ends that."""
    stop = loop.stop

    def refuse_or_stop() -> None:
        owner = current_owner.get()
        if owner is None:
            stop()
            return
        who = f"a hook of the machine {owner.machine!r}" if owner.action is None else f"action {owner.action!r}"
        raise RuntimeError(f"{who} called stop() of the event loop, which belongs to the service")

    loop.stop = refuse_or_stop  # type: ignore[method-assign]  # loops have no other place to ask before they stop

    def end() -> None:
        loop.stop = stop  # type: ignore[method-assign]  # as above

    return end


def guard_callbacks(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    """Return `loop`, which from now on goes on after SystemExit or KeyboardInterrupt of a callback until its main task is done.

    It costs nothing as long as nothing is raised, unlike a guard of each callback.
    """
    run_until_complete, run_forever = loop.run_until_complete, loop.run_forever
    main: list[asyncio.Future[Any]] = []  # those that the loop runs for, the last one now

    def complete(future: Any) -> Any:
        main.append(asyncio.ensure_future(future, loop=loop))
        return run_until_complete(main[-1])

    loop.run_until_complete = complete  # type: ignore[method-assign]  # asyncio and uvloop both call the methods of the object
    loop.run_forever = lambda: keep_running(run_forever, lambda: bool(main) and not main[-1].done())  # type: ignore[method-assign]
    return loop


def keep_running(run_forever: Callable[[], None], is_needed: Callable[[], bool]) -> None:
    """Run a loop until it is stopped, also when a callback raises what would end a script."""
    while True:
        try:
            run_forever()
        except ENDS_A_SCRIPT as exc:
            if not is_needed():
                raise
            logger.error(  # without the error's text, which may hold values
                "a callback on the event loop would have ended the service; it goes on",
                extra={"error_type": type(exc).__name__, "place": _place_of(exc)},
            )
        else:
            return


def _place_of(error: BaseException) -> str | None:
    """Return the line that raised `error`, without its values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    code = trace.tb_frame.f_code
    return f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}"


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
