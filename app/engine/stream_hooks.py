"""The moments of a streaming action: its start, each of its items, its end.

The rules are those of `app.engine.hooks`.
"""

import abc
import datetime
from typing import Any

from app.engine.hook_moments import hook

__all__ = [
    "PostEndStreamHook",
    "PostEndStreamHookAsync",
    "PostStreamItemHook",
    "PostStreamItemHookAsync",
    "PreStartStreamHook",
    "PreStartStreamHookAsync",
]


@hook("pre_start_stream")
class PreStartStreamHook(abc.ABC):
    """Called when a streaming action has been called, before its first item is asked for."""

    @abc.abstractmethod
    def pre_start_stream(
        self,
        *,
        action: str,
        sequence_id: int,
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("pre_start_stream", is_async=True)
class PreStartStreamHookAsync(abc.ABC):
    """`PreStartStreamHook` for async runs."""

    @abc.abstractmethod
    async def pre_start_stream(
        self,
        *,
        action: str,
        sequence_id: int,
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_stream_item")
class PostStreamItemHook(abc.ABC):
    """Called after each intermediate item, counted from 0. The times are those at which the stream and its first item began."""

    @abc.abstractmethod
    def post_stream_item(
        self,
        *,
        item: Any,
        item_index: int,
        stream_initialize_time: datetime.datetime,
        first_stream_item_start_time: datetime.datetime,
        action: str,
        sequence_id: int,
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_stream_item", is_async=True)
class PostStreamItemHookAsync(abc.ABC):
    """`PostStreamItemHook` for async runs."""

    @abc.abstractmethod
    async def post_stream_item(
        self,
        *,
        item: Any,
        item_index: int,
        stream_initialize_time: datetime.datetime,
        first_stream_item_start_time: datetime.datetime,
        action: str,
        sequence_id: int,
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_end_stream")
class PostEndStreamHook(abc.ABC):
    """Called when a stream has given its last item, failed or been closed."""

    @abc.abstractmethod
    def post_end_stream(
        self,
        *,
        action: str,
        sequence_id: int,
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_end_stream", is_async=True)
class PostEndStreamHookAsync(abc.ABC):
    """`PostEndStreamHook` for async runs."""

    @abc.abstractmethod
    async def post_end_stream(
        self,
        *,
        action: str,
        sequence_id: int,
        app_id: str,
        partition_key: str | None,
        **future_kwargs: Any,
    ) -> None: ...
