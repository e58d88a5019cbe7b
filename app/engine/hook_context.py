"""The context variables that the sync hooks of one async run share, whatever thread each of them is carried out in."""

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

__all__ = ["BoundHook", "HookContext"]


class HookContext:
    """What one hook sets in here, a later one sees and can reset. Hooks that come at the same time wait for each other."""

    __slots__ = ("context", "turn")

    def __init__(self) -> None:
        self.context: Context = copy_context()
        self.turn = threading.Lock()

    def bind(self, call: Callable[[], Any]) -> "BoundHook":
        """Return `call` as one that runs in this context, in any thread. One that is bound already is left as it is."""
        return call if isinstance(call, BoundHook) else BoundHook(self, call)


class BoundHook:
    """A call with the context that it belongs in."""

    __slots__ = ("_call", "_home")

    def __init__(self, home: HookContext, call: Callable[[], Any]) -> None:
        self._home = home
        self._call = call

    def __call__(self) -> Any:
        with self._home.turn:
            return self._home.context.run(self._call)
