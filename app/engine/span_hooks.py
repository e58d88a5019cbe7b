"""The moments of a tracing span: it opens, it logs attributes, it closes.

The rules are those of `app.engine.hooks`. The spans themselves are in `app.engine.tracing`.
"""

import abc
from typing import TYPE_CHECKING, Any

from app.engine.hook_moments import hook

if TYPE_CHECKING:
    from app.engine.tracing import ActionSpan

__all__ = [
    "DoLogAttributeHook",
    "DoLogAttributeHookAsync",
    "PostEndSpanHook",
    "PostEndSpanHookAsync",
    "PreStartSpanHook",
    "PreStartSpanHookAsync",
]


@hook("pre_start_span")
class PreStartSpanHook(abc.ABC):
    """Called when a tracing span opens."""

    @abc.abstractmethod
    def pre_start_span(
        self,
        *,
        action: str,
        action_sequence_id: int,
        span: "ActionSpan",
        span_dependencies: list[str],
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("pre_start_span", is_async=True)
class PreStartSpanHookAsync(abc.ABC):
    """`PreStartSpanHook` for spans opened with `async with`."""

    @abc.abstractmethod
    async def pre_start_span(
        self,
        *,
        action: str,
        action_sequence_id: int,
        span: "ActionSpan",
        span_dependencies: list[str],
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("do_log_attributes")
class DoLogAttributeHook(abc.ABC):
    """Called with the attributes that an action logs; `span` is None outside any span."""

    @abc.abstractmethod
    def do_log_attributes(
        self,
        *,
        attributes: dict[str, Any],
        action: str,
        action_sequence_id: int,
        span: "ActionSpan | None",
        tags: dict[str, Any],
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("do_log_attributes", is_async=True)
class DoLogAttributeHookAsync(abc.ABC):
    """`DoLogAttributeHook` for attributes logged while an event loop runs."""

    @abc.abstractmethod
    async def do_log_attributes(
        self,
        *,
        attributes: dict[str, Any],
        action: str,
        action_sequence_id: int,
        span: "ActionSpan | None",
        tags: dict[str, Any],
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_end_span")
class PostEndSpanHook(abc.ABC):
    """Called when a tracing span closes."""

    @abc.abstractmethod
    def post_end_span(
        self,
        *,
        action: str,
        action_sequence_id: int,
        span: "ActionSpan",
        span_dependencies: list[str],
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_end_span", is_async=True)
class PostEndSpanHookAsync(abc.ABC):
    """`PostEndSpanHook` for spans opened with `async with`."""

    @abc.abstractmethod
    async def post_end_span(
        self,
        *,
        action: str,
        action_sequence_id: int,
        span: "ActionSpan",
        span_dependencies: list[str],
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...
