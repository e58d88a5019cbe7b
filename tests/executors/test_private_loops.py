import asyncio
import contextvars
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
import uvloop
from blocking import Gate, begun, until

from app.engine.errors import ActionQuit
from app.executors.owner import CallOwner, current_owner
from app.executors.private_loops import PrivateLoop

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture
async def private() -> AsyncIterator[PrivateLoop]:
    made = PrivateLoop("test")
    yield made
    made.close()
    await asyncio.to_thread(made._thread.join, 60)
    assert not made._thread.is_alive()


async def whereabouts(answer: int = 1) -> tuple[int, str, str]:
    await asyncio.sleep(0)
    return answer, colour.get(), threading.current_thread().name


async def test_a_coroutine_runs_in_another_thread_with_the_callers_context(private: PrivateLoop) -> None:
    colour.set("blue")
    redirected = private.redirect(whereabouts, is_streaming=False)

    assert await redirected(answer=2) == (2, "blue", "stepwell-loop-test")


async def test_a_coroutine_that_blocks_holds_nobody_else_up(private: PrivateLoop) -> None:
    gate = Gate()

    async def block() -> str:
        return gate()

    call = asyncio.ensure_future(private.run(block))
    await begun(gate)
    await asyncio.sleep(0.001)
    assert not call.done()
    gate.open()
    assert await call == "through"


async def test_an_error_arrives_as_it_was_raised(private: PrivateLoop) -> None:
    error = LookupError("gone")

    async def fail() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        await private.run(fail)
    assert caught.value is error


async def test_code_that_quits_ends_only_its_own_call(private: PrivateLoop) -> None:
    async def leave() -> None:
        sys.exit(3)

    with pytest.raises(ActionQuit):
        await private.run(leave)
    assert (await private.run(whereabouts))[0] == 1


async def test_cancelling_frees_the_caller_and_cancels_the_coroutine(private: PrivateLoop) -> None:
    entered, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    call = asyncio.ensure_future(private.run(wait))
    await until(entered.is_set)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(cancelled.is_set)


class Numbers:
    """An async generator's maker that remembers in which tasks it lived and whether it was closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.tasks: set[object] = set()
        self.closed = threading.Event()

    async def __call__(self) -> AsyncGenerator[int, None]:
        try:
            for n in range(self.count):
                self.tasks.add(asyncio.current_task())
                self.made += 1
                yield n
                await asyncio.sleep(0)
        finally:
            self.closed.set()


async def test_a_stream_gives_every_item_in_order_from_one_task(private: PrivateLoop) -> None:
    numbers = Numbers(1_000)
    redirected = private.redirect(numbers, is_streaming=True)

    assert [item async for item in redirected()] == list(range(1_000))
    assert len(numbers.tasks) == 1


async def test_a_stream_is_a_bounded_number_of_items_ahead_of_its_reader(private: PrivateLoop) -> None:
    numbers = Numbers(10_000)
    stream = private.stream(numbers)

    assert await anext(stream) == 0
    await asyncio.sleep(0.1)
    assert numbers.made < 100
    await stream.aclose()
    await until(numbers.closed.is_set)


async def test_an_error_amid_a_stream_comes_after_the_items_before_it(private: PrivateLoop) -> None:
    async def items() -> AsyncGenerator[int, None]:
        yield 1
        raise LookupError("gone")

    stream = private.stream(items)
    assert await anext(stream) == 1
    with pytest.raises(LookupError, match="gone"):
        await anext(stream)


def test_a_private_loop_is_of_the_kind_of_the_one_it_leaves() -> None:
    async def kind() -> type:
        return type(asyncio.get_running_loop())

    async def scene() -> tuple[type, type]:
        private = PrivateLoop("test")
        found = await private.run(kind)
        private.close()
        await asyncio.to_thread(private._thread.join, 60)
        return found, type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert len(set(runner.run(scene()))) == 1


async def test_a_private_loop_goes_on_after_a_call_that_stops_it_or_schedules_what_would_end_a_script(
    private: PrivateLoop,
) -> None:
    current_owner.set(CallOwner("s", "machine", "act"))

    async def stop() -> None:
        asyncio.get_running_loop().stop()

    async def quit_soon() -> str:
        asyncio.get_running_loop().call_soon(sys.exit)
        await asyncio.sleep(0.01)
        return "done"

    with pytest.raises(RuntimeError, match=r"action 'act' called stop\(\) of the event loop"):
        await private.run(stop)
    assert await private.run(quit_soon) == "done"
