"""The two drivers: they perform what the core decides, one by doing it, the other by awaiting it. No rule is in here.

A driver owns what it opens: the stream of an action is closed when the run ends, fails, is cancelled or dropped.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar, assert_never, cast

from app.engine.context import entered, reset_current, set_current
from app.engine.core_streams import StreamBegun
from app.engine.effects import (
    END,
    ActionCall,
    AfterStep,
    BeforeStep,
    CallHooks,
    Commit,
    Deliver,
    Effect,
    Emit,
    Flow,
    FlushSpans,
    NextItem,
    OpenStream,
    RecordFailure,
    Sleep,
)
from app.engine.errors import ActionQuit, RunAbandoned
from app.engine.flows import StreamEnded
from app.engine.perform import blocking_call
from app.engine.ports import RunPorts
from app.engine.quitting import ENDS_A_SCRIPT, original_of, quit_of
from app.engine.stop_iteration import carried, sealed
from app.engine.streaming import StreamItem
from app.engine.timed_streams import TimedStream
from app.engine.timeouts import await_within, call_within

__all__ = ["AsyncDriver", "SyncDriver"]

T = TypeVar("T")


class SyncDriver(Generic[T]):
    """Performs the effects of one flow in the calling thread. There is no host: nothing is emitted or committed."""

    __slots__ = ("_flow", "_left_s", "_stream", "result")

    result: T  # when the flow has ended
    _left_s: float  # of the time limit of the stream that is open: what its consumer takes does not count

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self._stream: Iterator[Any] | None = None

    def advance(self, error: Exception | None = None) -> Deliver | None:
        """Perform effects until something is to be delivered; None when the flow has ended. `error` is thrown in first."""
        flow = self._flow
        try:
            effect = next(flow) if error is None else flow.throw(error)
            while not isinstance(effect, Deliver):
                try:
                    if type(effect) is ActionCall and (record := effect.record).timeout_s is None and effect.tracer is None:
                        # by far the most frequent effect: in here it costs no call of a method
                        token = set_current(effect)
                        try:
                            # most calls have no inputs, and a call without `**` is faster
                            answer = record.call(effect.view, **effect.arguments()) if effect.inputs else record.call(effect.view)
                        finally:
                            reset_current(token)
                    elif type(effect) is AfterStep:
                        answer = None
                        for hook in effect.listeners.sync:
                            effect.tell(hook)
                    else:
                        answer = self._perform(effect)
                except Exception as raised:
                    effect = flow.throw(carried(raised, _author(effect)))
                except ENDS_A_SCRIPT:
                    raise
                except BaseException as raised:
                    effect = flow.throw(quit_of(raised))
                else:
                    effect = flow.send(answer)
        except StopIteration as end:
            self.result = end.value
            if self._stream is not None:
                self.close()
            return None
        except ActionQuit as failed:
            self.close()
            raise original_of(failed)  # noqa: B904 - it has the cause and the context that the user's code gave it
        except BaseException:
            self.close()
            raise
        return effect

    def finish(self) -> T:
        """Perform everything, and return the result of the flow."""
        while self.advance() is not None:
            pass
        return self.result

    def deliveries(self) -> Generator[Any, None, T]:
        """Yield what is delivered; the generator's value is the result. Closed early, or thrown an error, it abandons the run."""
        while (delivered := self.advance()) is not None:
            try:
                yield delivered.value
            except BaseException:
                self.abandon()
                raise
        return self.result

    def items(self) -> Generator[StreamItem, None, None]:
        """Yield the items of one action, each with None, and then its result with the state. Closed early, it abandons all."""
        while (delivered := self.advance()) is not None:
            if isinstance(delivered.value, StreamEnded):
                yield delivered.value.result, delivered.value.state
                return
            if isinstance(delivered.value, StreamBegun):
                continue  # an action that handles the error of this one takes its place
            try:
                yield delivered.value, None
            except BaseException:
                self.abandon()
                raise
        yield cast("StreamItem", self.result)

    def abandon(self) -> None:
        """End the flow where it stands, and let its hooks know."""
        with suppress(RunAbandoned):
            self.advance(RunAbandoned())

    def close(self) -> None:
        """Drop the flow, and close the stream that is open."""
        self._flow.close()
        self._close_stream()

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        close = getattr(stream, "close", None)  # an iterator that is no generator has none
        if close is not None:
            close()

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case AfterStep() | BeforeStep() | CallHooks():
                for hook in effect.listeners.sync:
                    effect.tell(hook)
                return None
            case ActionCall():
                with entered(effect):
                    return self._call(effect)
            case NextItem(call=call):
                with entered(call):
                    return self._next_item(call)
            case OpenStream(call=call):
                self._close_stream()
                self._left_s = call.record.timeout_s or 0.0
                with entered(call):
                    self._stream = iter(call.record.call(call.view, **call.arguments()))
                return None
            case Sleep():
                return time.sleep(effect.delay_s)
            case Emit() | Commit() | RecordFailure() | FlushSpans() | Deliver():
                return None
            case _:
                assert_never(effect)

    def _call(self, call: ActionCall) -> Any:
        record = call.record
        if record.timeout_s is None:
            return record.call(call.view, **call.arguments())
        return call_within(record.name, record.timeout_s, partial(record.call, call.view, **call.arguments()))

    def _next_item(self, call: ActionCall) -> Any:
        timeout_s = call.record.timeout_s
        if timeout_s is None:
            return next(cast("Iterator[Any]", self._stream), END)
        stream, self._stream = self._stream, None  # a stream that hangs in another thread cannot be closed from here
        begun_at_s = time.monotonic()
        item = call_within(call.record.name, timeout_s, partial(next, stream, END), self._left_s)
        self._left_s -= time.monotonic() - begun_at_s
        self._stream = stream
        return item


class AsyncDriver(Generic[T]):
    """Performs the effects of one flow in a task. What blocks, and what a host takes note of, goes through its ports.

    Without a host, an error that is no Exception leaves as it was raised, after the hooks have heard of it.
    """

    __slots__ = ("_flow", "_is_hosted", "_ports", "_stream", "result")

    result: T  # when the flow has ended

    def __init__(self, flow: Flow[T], ports: RunPorts, *, is_hosted: bool = False) -> None:
        self._flow = flow
        self._ports = ports
        self._is_hosted = is_hosted
        self._stream: AsyncIterator[Any] | TimedStream | None = None

    async def advance(self, error: Exception | None = None) -> Deliver | None:
        """Perform effects until something is to be delivered; None when the flow has ended. `error` is thrown in first."""
        flow = self._flow
        try:
            effect = next(flow) if error is None else flow.throw(error)
            while not isinstance(effect, Deliver):
                try:
                    if (
                        type(effect) is ActionCall
                        and (record := effect.record).is_async
                        and record.timeout_s is None
                        and effect.tracer is None
                    ):
                        # by far the most frequent effect: in here it costs no coroutine of its own
                        token = set_current(effect)
                        try:
                            answer = await (
                                record.call(effect.view, **effect.arguments()) if effect.inputs else record.call(effect.view)
                            )
                        finally:
                            reset_current(token)
                    else:
                        answer = await self._perform(effect)
                except Exception as raised:
                    effect = flow.throw(raised)
                except BaseException as raised:
                    if isinstance(effect, _OF_THE_HOST) or self._has_to_leave(raised):
                        raise
                    effect = flow.throw(quit_of(raised))
                else:
                    effect = flow.send(answer)
        except StopIteration as end:
            self.result = end.value
            if self._stream is not None:
                await self.close()
            return None
        except ActionQuit as failed:
            await self.close()
            raise (failed if self._is_hosted else original_of(failed))  # noqa: B904 - it has its own cause and context
        except BaseException:
            await self.close()
            raise
        return effect

    async def finish(self) -> T:
        """Perform everything, and return the result of the flow."""
        while await self.advance() is not None:
            pass
        return self.result

    async def deliveries(self) -> AsyncGenerator[Any, None]:
        """Yield what is delivered. Closed early, or thrown an error, it abandons the run."""
        while (delivered := await self.advance()) is not None:
            try:
                yield delivered.value
            except BaseException:
                await self.abandon()
                raise

    async def items(self) -> AsyncGenerator[StreamItem, None]:
        """Yield the items of one action, each with None, and then its result with the state. Closed early, it abandons all."""
        while (delivered := await self.advance()) is not None:
            if isinstance(delivered.value, StreamEnded):
                yield delivered.value.result, delivered.value.state
                return
            if isinstance(delivered.value, StreamBegun):
                continue  # an action that handles the error of this one takes its place
            try:
                yield delivered.value, None
            except BaseException:
                await self.abandon()
                raise
        yield cast("StreamItem", self.result)

    async def abandon(self) -> None:
        """End the flow where it stands, and let its hooks know."""
        with suppress(RunAbandoned):
            await self.advance(RunAbandoned())

    async def close(self) -> None:
        """Drop the flow, and close the stream that is open."""
        self._flow.close()
        await self._close_stream()

    async def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        close = getattr(stream, "aclose", None)  # an iterator that is no generator has none
        if close is not None:
            await close()

    def _has_to_leave(self, error: BaseException) -> bool:
        """Whether `error` ends the run, or the script: the run was cancelled or dropped from outside."""
        if isinstance(error, asyncio.CancelledError):
            return self._ports.is_cancelled()
        if isinstance(error, GeneratorExit):  # of a coroutine that is closed, or raised by the action
            return not _is_within_its_task()
        return isinstance(error, ENDS_A_SCRIPT) and not self._is_hosted

    async def _perform(self, effect: Effect) -> Any:
        ports = self._ports
        match effect:
            case Commit():
                await ports.commit(effect.step)
            case Emit():
                ports.emit(effect.event)
            case AfterStep() | BeforeStep() | CallHooks():
                if effect.listeners.sync:
                    await ports.call_hook(partial(sealed, "a hook", partial(_call_each, effect)))
                if effect.listeners.async_:
                    await _await_each(effect)
            case ActionCall():
                with entered(effect):
                    return await self._call(effect)
            case NextItem(call=call):
                with entered(call):
                    return await self._next_item()
            case OpenStream(call=call):
                return await self._open(call)
            case RecordFailure():
                await ports.record_failure(effect.failure)
            case Sleep():
                if ports.is_cancelled():  # the action has answered a cancel with an error of its own
                    raise asyncio.CancelledError
                await ports.pause(effect.delay_s)
            case FlushSpans():
                await effect.tracer.flush()
            case Deliver():
                pass
            case _:
                assert_never(effect)
        return None

    def _call(self, call: ActionCall) -> Awaitable[Any]:
        record = call.record
        if record.is_async:
            answer: Awaitable[Any] = record.call(call.view, **call.arguments())
        else:
            answer = self._ports.call_action(blocking_call(record, call.view, call.arguments()))
        return (
            answer if record.timeout_s is None else await_within(record.name, record.timeout_s, answer, self._ports.leave_behind)
        )

    async def _open(self, call: ActionCall) -> None:
        await self._close_stream()
        record = call.record
        with entered(call):
            if record.is_async:
                stream: AsyncIterator[Any] = record.call(call.view, **call.arguments())
            else:
                stream = self._ports.stream_action(blocking_call(record, call.view, call.arguments()))
        if record.timeout_s is None:
            self._stream = stream
        else:
            self._stream = TimedStream(record.name, record.timeout_s, stream, self._ports.leave_behind)

    async def _next_item(self) -> Any:
        stream = self._stream
        if isinstance(stream, TimedStream):
            return await stream.take()
        return await anext(cast("AsyncGenerator[Any, None]", stream), END)


_OF_THE_HOST = (Commit, Emit, RecordFailure, Sleep, Deliver)


def _is_within_its_task() -> bool:
    """Whether the running task is what called us: a coroutine that is dropped is closed from somewhere else."""
    task, frame = asyncio.current_task(), sys._getframe()
    entry = None if task is None else getattr(task.get_coro(), "cr_frame", None)
    while frame is not entry and frame.f_back is not None:
        frame = frame.f_back
    return frame is entry


def _author(effect: Effect) -> str:
    return f"action {effect.record.name!r}" if isinstance(effect, ActionCall) else "a hook"


def _call_each(effect: AfterStep | BeforeStep | CallHooks) -> None:
    for hook in effect.listeners.sync:
        effect.tell(hook)


async def _await_each(effect: AfterStep | BeforeStep | CallHooks) -> None:
    hooks = effect.listeners.async_
    if len(hooks) == 1:
        await effect.tell(hooks[0])
        return
    calls = [effect.tell(hook) for hook in hooks]
    # all of them are heard, also when one fails: the first error is the one that counts
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
