"""Streaming actions, and the containers in which `stream_result` hands their items to the caller.

How the items of a stream become a step is decided in `perform` (what an item means) and `core` (when it is passed on).
"""

import abc
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeAlias

from typing_extensions import TypeVar

from app.engine.actions import Action, SingleStepAction
from app.engine.state import State

__all__ = [
    "AsyncStreamingAction",
    "AsyncStreamingResultContainer",
    "SingleStepStreamingAction",
    "StreamingAction",
    "StreamingResultContainer",
]

StateType = TypeVar("StateType", default=Any)
StreamResultType = TypeVar("StreamResultType", default=Any)

StreamItem: TypeAlias = tuple[Any, State[Any] | None]
"""An item of a stream and None, or the result and the new state."""


class StreamingAction(Action, abc.ABC):
    """An action in two parts whose first part yields items. The last item is the result that `update` gets."""

    @abc.abstractmethod
    def stream_run(self, state: State[Any], **run_kwargs: Any) -> Generator[Any, None, None]:
        """Yield the items, and the result last."""

    def run(self, state: State[Any], **run_kwargs: Any) -> Any:
        """Return the result alone."""
        result = None
        for item in self.stream_run(state, **run_kwargs):
            result = item
        return result

    @property
    def streaming(self) -> bool:
        return True

    def is_async(self) -> bool:
        return False


class AsyncStreamingAction(Action, abc.ABC):
    """`StreamingAction` with an async generator."""

    @abc.abstractmethod
    def stream_run(self, state: State[Any], **run_kwargs: Any) -> AsyncGenerator[Any, None]:
        """Yield the items, and the result last. Written as `async def` with `yield`."""

    async def run(self, state: State[Any], **run_kwargs: Any) -> Any:
        """Return the result alone."""
        items = [item async for item in self.stream_run(state, **run_kwargs)]
        return items[-1] if items else None

    @property
    def streaming(self) -> bool:
        return True

    def is_async(self) -> bool:
        return True


class SingleStepStreamingAction(SingleStepAction, abc.ABC):
    """An action that yields items, and at its end the result together with the new state."""

    @abc.abstractmethod
    def stream_run_and_update(self, state: State[Any], /, **run_kwargs: Any) -> Any:
        """Yield items (a dict, or a tuple of a dict and None), then a tuple of the result and the new state."""

    def run_and_update(self, state: State[Any], /, **run_kwargs: Any) -> Any:
        """Return the result and the new state alone; a coroutine of them if the action is async."""
        stream = self.stream_run_and_update(state, **run_kwargs)
        if self.is_async():
            return _last_of(stream)
        last = None
        for item in stream:
            last = item
        return last

    @property
    def streaming(self) -> bool:
        return True

    def is_async(self) -> bool:
        return inspect.isasyncgenfunction(self.stream_run_and_update)


async def _last_of(stream: AsyncIterator[Any]) -> Any:
    items = [item async for item in stream]
    return items[-1] if items else None


def _same(result: Any, state: State[Any]) -> tuple[Any, State[Any]]:
    return result, state


class _Container(Generic[StateType, StreamResultType]):
    """What the containers of both colours know: what an item of the stream means, and how the stream ended."""

    _stop: type[Exception]

    def __init__(
        self,
        streaming_result_generator: Any,
        initial_state: State[StateType],
        process_result: Callable[[Any, State[Any]], tuple[Any, State[Any]]] = _same,
        callback: Callable[[Any, State[Any], Any], Any] | None = None,
    ) -> None:
        self.streaming_result_generator = streaming_result_generator
        self._initial_state = initial_state
        self._process_result = process_result
        self._callback = callback
        self._result: tuple[StreamResultType | None, State[StateType]] | None = None

    def _demand(self) -> Any:
        """Return the stream, or stop when it has ended."""
        if self._result is not None:
            raise self._stop
        return self.streaming_result_generator

    def _accept(self, item: StreamItem) -> StreamResultType:
        """Return an item for the caller, or keep the last one and stop."""
        result, state = item
        if state is None:
            return result  # type: ignore[no-any-return]  # an item is the user's own value
        self._result = self._process_result(result, state)
        raise self._stop

    def _ending(self) -> tuple[StreamResultType | None, State[StateType]]:
        # without a result the stream failed, or was left before its end
        return self._result or (None, self._initial_state)

    def _report(self, error: BaseException | None) -> Any:
        """Make the ending final, and tell the callback once."""
        self._result = self._ending()
        callback, self._callback = self._callback, None
        return None if callback is None else callback(*self._result, error)


class StreamingResultContainer(
    _Container[StateType, StreamResultType], Iterator[StreamResultType], Generic[StateType, StreamResultType]
):
    """The items of a running step, one by one, and with `get()` its result and state at the end.

    The step is committed when the last item has been taken. Leaving a loop over it early abandons the step: `get()` then
    gives None and the state from before it.
    """

    _stop = StopIteration

    @staticmethod
    def pass_through(results: Any, final_state: State[Any]) -> "StreamingResultContainer[Any, Any]":
        """Return a container without items for a step that is over."""
        return StreamingResultContainer((item for item in [(results, final_state)]), final_state)

    def __next__(self) -> StreamResultType:
        return self._accept(next(self._demand()))

    def __iter__(self) -> Iterator[StreamResultType]:
        error = None
        try:
            yield from iter(self.__next__, self)  # until it stops: no item is the container itself
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.streaming_result_generator.close()
            self._report(error)

    def get(self) -> tuple[StreamResultType | None, State[StateType]]:
        """Take the rest of the items, and return the result and the new state."""
        deque(self, maxlen=0)
        return self._ending()


class AsyncStreamingResultContainer(
    _Container[StateType, StreamResultType], AsyncIterator[StreamResultType], Generic[StateType, StreamResultType]
):
    """`StreamingResultContainer` for async runs: `async for` gives the items, `await get()` the result and the state."""

    _stop = StopAsyncIteration

    @staticmethod
    def pass_through(results: Any, final_state: State[Any]) -> "AsyncStreamingResultContainer[Any, Any]":
        """Return a container without items for a step that is over."""

        async def only() -> AsyncGenerator[StreamItem, None]:
            yield results, final_state

        return AsyncStreamingResultContainer(only(), final_state)

    async def __anext__(self) -> StreamResultType:
        return self._accept(await anext(self._demand()))

    async def __aiter__(self) -> AsyncGenerator[StreamResultType, None]:
        error = None
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield await anext(self)
        except BaseException as raised:
            error = raised
            raise
        finally:
            await self.streaming_result_generator.aclose()
            told = self._report(error)
            if told is not None:
                await told

    async def get(self) -> tuple[StreamResultType | None, State[StateType]]:
        """Take the rest of the items, and return the result and the new state."""
        async for _ in self:
            pass
        return self._ending()
