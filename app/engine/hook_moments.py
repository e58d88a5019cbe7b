"""Which class stands for which hook method, and in which colour: the registry behind the hook classes.

The classes themselves are in `hooks`, `span_hooks` and `stream_hooks`; `hook_set` asks here what an adapter implements.
"""

from collections.abc import Callable
from typing import TypeVar

__all__ = ["HOOK_NAMES", "declared_hooks", "hook"]

HOOK_NAMES: tuple[str, ...] = (
    "pre_run_step",
    "post_run_step",
    "post_application_create",
    "pre_start_span",
    "do_log_attributes",
    "post_end_span",
    "pre_run_execute_call",
    "post_run_execute_call",
    "pre_start_stream",
    "post_stream_item",
    "post_end_stream",
)

_DECLARED: dict[type, tuple[str, bool]] = {}
_HookClass = TypeVar("_HookClass", bound=type)


def hook(name: str, *, is_async: bool = False) -> Callable[[_HookClass], _HookClass]:
    """Return a class decorator which says that the class stands for the hook method `name` in one colour."""

    def declare(cls: _HookClass) -> _HookClass:
        if name not in HOOK_NAMES or not hasattr(cls, name):
            raise ValueError(f"class {cls.__name__} has no hook method {name!r}; hooks are {', '.join(HOOK_NAMES)}")
        _DECLARED[cls] = (name, is_async)
        return cls

    return declare


def declared_hooks(cls: type) -> dict[str, frozenset[bool]]:
    """Return the hook methods that `cls` stands for by inheritance, each with its declared colours (True: async)."""
    found: dict[str, frozenset[bool]] = {}
    for base in cls.__mro__:
        if base in _DECLARED:
            name, is_async = _DECLARED[base]
            found[name] = found.get(name, frozenset()) | {is_async}
    return found
