"""The hooks of one application, sorted once by moment and colour, ready to be called without any look-up.

Drivers take the tuples of bound methods; deciding when to call them, and where a blocking one runs, is theirs. The
`call_all_lifecycle_hooks_*` methods are for code written against Burr's adapter set.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from app.engine.hook_moments import HOOK_NAMES, declared_hooks
from app.engine.hooks import (
    PostApplicationCreateHook,
    PostApplicationExecuteCallHook,
    PostApplicationExecuteCallHookAsync,
    PostRunStepHook,
    PostRunStepHookAsync,
    PreApplicationExecuteCallHook,
    PreApplicationExecuteCallHookAsync,
    PreRunStepHook,
    PreRunStepHookAsync,
)
from app.engine.span_hooks import (
    DoLogAttributeHook,
    DoLogAttributeHookAsync,
    PostEndSpanHook,
    PostEndSpanHookAsync,
    PreStartSpanHook,
    PreStartSpanHookAsync,
)
from app.engine.stream_hooks import (
    PostEndStreamHook,
    PostEndStreamHookAsync,
    PostStreamItemHook,
    PostStreamItemHookAsync,
    PreStartStreamHook,
    PreStartStreamHookAsync,
)

__all__ = ["NO_HOOKS", "AsyncHookCall", "HookCall", "HookSet", "LifecycleAdapter", "LifecycleAdapterSet"]

HookCall: TypeAlias = Callable[..., Any]
AsyncHookCall: TypeAlias = Callable[..., Awaitable[Any]]

LifecycleAdapter: TypeAlias = (
    PreRunStepHook
    | PreRunStepHookAsync
    | PostRunStepHook
    | PostRunStepHookAsync
    | PostApplicationCreateHook
    | PreApplicationExecuteCallHook
    | PreApplicationExecuteCallHookAsync
    | PostApplicationExecuteCallHook
    | PostApplicationExecuteCallHookAsync
    | PreStartSpanHook
    | PreStartSpanHookAsync
    | DoLogAttributeHook
    | DoLogAttributeHookAsync
    | PostEndSpanHook
    | PostEndSpanHookAsync
    | PreStartStreamHook
    | PreStartStreamHookAsync
    | PostStreamItemHook
    | PostStreamItemHookAsync
    | PostEndStreamHook
    | PostEndStreamHookAsync
)


class HookSet:
    """The adapters of one application in the order in which they were given.

    An adapter listens to a moment when it inherits from that moment's class. It counts as async when that class is the async
    one, or when its method is a coroutine function; each method of an adapter is called once per moment, however
    many classes it inherits from. An object given twice is called once.
    """

    __slots__ = ("_adapters", "_async", "_sync", "async_hooks", "sync_hooks")

    def __init__(self, *adapters: LifecycleAdapter) -> None:
        self._adapters = tuple(adapters)
        # which adapters listen to which moment: Burr's view of the set
        self.sync_hooks: dict[str, list[LifecycleAdapter]] = {}
        self.async_hooks: dict[str, list[LifecycleAdapter]] = {}
        for adapter in self._adapters:
            for name, colours in declared_hooks(type(adapter)).items():
                is_async = inspect.iscoroutinefunction(getattr(adapter, name)) or colours == {True}
                listening = (self.async_hooks if is_async else self.sync_hooks).setdefault(name, [])
                if not any(other is adapter for other in listening):
                    listening.append(adapter)
        self._sync: dict[str, tuple[HookCall, ...]] = _bind(self.sync_hooks)
        self._async: dict[str, tuple[AsyncHookCall, ...]] = _bind(self.async_hooks)

    @property
    def adapters(self) -> list[LifecycleAdapter]:
        """The adapters as a new list."""
        return list(self._adapters)

    def with_new_adapters(self, *adapters: LifecycleAdapter) -> "HookSet":
        """Return a new set with `adapters` after those of this one."""
        return HookSet(*self._adapters, *adapters)

    def sync(self, name: str) -> tuple[HookCall, ...]:
        """Return the bound sync methods for the moment `name`, in order; empty when nobody listens."""
        return self._sync.get(name, ())

    def async_(self, name: str) -> tuple[AsyncHookCall, ...]:
        """Return the bound async methods for the moment `name`, in order; empty when nobody listens."""
        return self._async.get(name, ())

    @property
    def sync_names(self) -> tuple[str, ...]:
        """Each sync hook as `Class.method`, once, for messages."""
        return _names(self.sync_hooks)

    @property
    def async_names(self) -> tuple[str, ...]:
        """Each async hook as `Class.method`, once, for messages."""
        return _names(self.async_hooks)

    def call_all_lifecycle_hooks_sync(self, hook_name: str, **kwargs: Any) -> None:
        """Call the sync hooks of one moment, one after the other. Raises ValueError for a name that is no moment."""
        for method in self._sync.get(_known(hook_name), ()):
            method(**kwargs)

    async def call_all_lifecycle_hooks_async(self, hook_name: str, **kwargs: Any) -> None:
        """Call the async hooks of one moment, at the same time. Raises ValueError for a name that is no moment."""
        methods = self._async.get(_known(hook_name), ())
        if len(methods) == 1:
            await methods[0](**kwargs)
        elif methods:
            await asyncio.gather(*(method(**kwargs) for method in methods))

    async def call_all_lifecycle_hooks_sync_and_async(self, hook_name: str, **kwargs: Any) -> None:
        """Call the sync hooks of one moment on this thread, then the async ones."""
        self.call_all_lifecycle_hooks_sync(hook_name, **kwargs)
        await self.call_all_lifecycle_hooks_async(hook_name, **kwargs)


LifecycleAdapterSet = HookSet


def _bind(listeners: Mapping[str, list[LifecycleAdapter]]) -> dict[str, tuple[Callable[..., Any], ...]]:
    return {name: tuple(getattr(adapter, name) for adapter in adapters) for name, adapters in listeners.items()}


def _names(listeners: Mapping[str, list[LifecycleAdapter]]) -> tuple[str, ...]:
    return tuple({f"{type(adapter).__name__}.{name}": None for name, adapters in listeners.items() for adapter in adapters})


def _known(hook_name: str) -> str:
    if hook_name not in HOOK_NAMES:
        raise ValueError(f"{hook_name!r} is no hook; hooks are {', '.join(HOOK_NAMES)}")
    return hook_name


NO_HOOKS = HookSet()
"""The set of every application that has none."""
