import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from blocking import AT_ONCE_S, Gate, begun, until

from app.engine.errors import ActionQuit
from app.executors.errors import ExecutorsClosed, PoolExhausted
from app.executors.jobs import Usage
from app.executors.threads import FairThreadPool

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture
async def pool() -> AsyncIterator[FairThreadPool]:
    made = FairThreadPool("thread", size=2, replacements=1, max_queued=100)
    yield made
    await made.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


async def test_a_call_runs_in_another_thread_with_the_callers_context(pool: FairThreadPool) -> None:
    colour.set("green")

    assert await pool.run(lambda: (colour.get(), threading.current_thread().name), key="s") == ("green", "stepwell-thread")


async def test_what_a_call_raises_reaches_its_caller_unchanged(pool: FairThreadPool) -> None:
    error = LookupError("gone")

    def fail() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        await pool.run(fail, key="s")
    assert caught.value is error


@pytest.mark.parametrize("quit_call", [sys.exit, lambda: (_ for _ in ()).throw(KeyboardInterrupt)])
async def test_a_call_that_quits_ends_only_itself(pool: FairThreadPool, quit_call: Callable[[], object]) -> None:
    with pytest.raises(ActionQuit):
        await pool.run(lambda: list(quit_call()) if quit_call is not sys.exit else sys.exit(3), key="s")  # type: ignore[call-overload]
    assert await pool.run(lambda: 1, key="s") == 1


async def test_a_stop_iteration_becomes_a_runtime_error(pool: FairThreadPool) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.run(lambda: next(iter(())), key="s")


async def test_no_more_than_size_calls_run_at_once(pool: FairThreadPool, gate: Gate) -> None:
    calls = [asyncio.ensure_future(pool.run(gate, key=str(n))) for n in range(5)]
    await begun(gate, 2)

    assert (pool.stats().busy, pool.stats().queued, pool.stats().threads) == (2, 3, 2)
    assert pool.stats().oldest_wait_s > 0
    gate.open()
    assert await asyncio.gather(*calls) == ["through"] * 5
    assert (pool.stats().calls, pool.stats().queued) == (5, 0)


async def test_a_session_with_a_thousand_calls_does_not_starve_another(gate: Gate) -> None:
    pool = FairThreadPool("thread", size=1)
    order: list[str] = []
    first = asyncio.ensure_future(pool.run(gate, key="many"))
    await begun(gate)
    crowd = [asyncio.ensure_future(pool.run(lambda: order.append("many"), key="many")) for _ in range(1_000)]
    await asyncio.sleep(0)
    other = asyncio.ensure_future(pool.run(lambda: order.append("one"), key="one"))
    await asyncio.sleep(0)

    gate.open()
    await asyncio.gather(first, other, *crowd)
    assert order.index("one") <= 1
    assert len(order) == 1_001
    await pool.close()


async def test_a_cancelled_call_that_waited_is_never_carried_out(pool: FairThreadPool, gate: Gate) -> None:
    ran: list[str] = []
    running = [asyncio.ensure_future(pool.run(gate, key="s")) for _ in range(2)]
    await begun(gate, 2)
    waiting = asyncio.ensure_future(pool.run(lambda: ran.append("waiting"), key="s"))
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pool.stats().queued == 0
    gate.open()
    await asyncio.gather(*running)
    assert ran == []


async def test_a_cancelled_call_frees_its_caller_at_once_and_its_late_result_is_dropped(pool: FairThreadPool, gate: Gate) -> None:
    call = asyncio.ensure_future(pool.run(gate, key="s"))
    await begun(gate)
    began_s = time.perf_counter()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert time.perf_counter() - began_s < AT_ONCE_S
    assert (pool.stats().busy, pool.stats().abandoned, pool.stats().late_results) == (0, 1, 0)
    gate.open()
    await until(lambda: pool.stats().abandoned == 0)
    assert pool.stats().late_results == 1


async def test_an_abandoned_thread_is_replaced_while_replacements_last(pool: FairThreadPool, gate: Gate) -> None:
    stuck = [asyncio.ensure_future(pool.run(gate, key="s")) for _ in range(2)]
    await begun(gate, 2)
    waiting = asyncio.ensure_future(pool.run(threading.get_ident, key="t"))
    await asyncio.sleep(0)

    stuck[0].cancel()
    assert await waiting > 0
    assert (pool.stats().threads, pool.stats().abandoned, pool.stats().replaced) == (3, 1, 1)
    gate.open()
    await stuck[1]
    await until(lambda: pool.stats().threads == 2)


async def test_a_pool_that_abandoned_calls_hold_refuses_at_once_and_recovers(pool: FairThreadPool, gate: Gate) -> None:
    stuck = [asyncio.ensure_future(pool.run(gate, key=str(n))) for n in range(2)]
    await begun(gate, 2)
    for call in stuck:
        call.cancel()
    await asyncio.wait(stuck)
    third = asyncio.ensure_future(pool.run(gate, key="third"))
    await begun(gate)
    waiting = asyncio.ensure_future(pool.run(lambda: 1, key="waiting"))
    await asyncio.sleep(0)

    third.cancel()
    with pytest.raises(PoolExhausted) as refused:
        await waiting
    assert refused.value.retry_after_s >= 1
    with pytest.raises(PoolExhausted):
        await pool.run(lambda: 1, key="another")
    assert pool.stats().refused == 2

    gate.open()
    await until(lambda: pool.stats().abandoned == 0)
    assert await pool.run(lambda: 1, key="another") == 1


async def test_a_queue_that_is_full_refuses(gate: Gate) -> None:
    pool = FairThreadPool("thread", size=1, max_queued=1)
    calls = [asyncio.ensure_future(pool.run(gate, key="s")) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(PoolExhausted, match="wait already"):
        await pool.run(gate, key="t")
    gate.open()
    await asyncio.gather(*calls)
    await pool.close()


async def test_closing_fails_what_waits_and_lets_the_running_end(pool: FairThreadPool, gate: Gate) -> None:
    running = [asyncio.ensure_future(pool.run(gate, key="s")) for _ in range(2)]
    await begun(gate, 2)
    waiting = asyncio.ensure_future(pool.run(lambda: 1, key="s"))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(pool.close())

    with pytest.raises(ExecutorsClosed):
        await waiting
    with pytest.raises(ExecutorsClosed):
        await pool.run(lambda: 1, key="s")
    gate.open()
    assert await asyncio.gather(*running) == ["through", "through"]
    await closing
    await until(lambda: pool.stats().threads == 0)


async def test_closing_leaves_a_call_behind_that_does_not_end(gate: Gate) -> None:
    pool = FairThreadPool("thread", size=1)
    call = asyncio.ensure_future(pool.run(gate, key="s"))
    await begun(gate)

    await pool.close(grace_s=0.01)
    assert not call.done()
    gate.open()
    assert await call == "through"


async def test_clock_and_cpu_time_of_a_call_are_measured_apart(pool: FairThreadPool) -> None:
    seen: list[Usage] = []

    def burn() -> None:
        until_s = time.thread_time() + 0.05
        while time.thread_time() < until_s:
            pass

    await pool.run(burn, key="s", observe=seen.append)
    await pool.run(lambda: time.sleep(0.05), key="s", observe=seen.append)
    assert (seen[0].cpu_s >= 0.05, seen[1].cpu_s < 0.02) == (True, True)
    assert min(usage.wall_s for usage in seen) >= 0.05
    assert seen[0].neighbours == 1


async def test_an_abandoned_call_is_measured_too(pool: FairThreadPool, gate: Gate) -> None:
    seen: list[Usage] = []
    call = asyncio.ensure_future(pool.run(gate, key="s", observe=seen.append))
    await begun(gate)
    call.cancel()
    gate.open()

    await until(lambda: bool(seen))


class Letters:
    """A generator's maker that remembers in which threads it lived and whether it was closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.threads: set[int] = set()
        self.made = 0
        self.closed = threading.Event()

    def __call__(self) -> Iterator[int]:
        try:
            for n in range(self.count):
                self.threads.add(threading.get_ident())
                self.made += 1
                yield n
        finally:
            self.threads.add(threading.get_ident())
            self.closed.set()


async def test_a_stream_gives_every_item_in_order_from_one_thread(pool: FairThreadPool) -> None:
    letters = Letters(1_000)

    assert [item async for item in pool.stream(letters, key="s")] == list(range(1_000))
    assert len(letters.threads) == 1
    assert threading.get_ident() not in letters.threads


async def test_a_stream_is_a_bounded_number_of_items_ahead_of_its_reader(pool: FairThreadPool) -> None:
    letters = Letters(10_000)
    stream = pool.stream(letters, key="s")

    assert await anext(stream) == 0
    await asyncio.sleep(0.05)
    assert letters.made < 200
    await stream.aclose()


async def test_a_reader_that_leaves_closes_the_generator(pool: FairThreadPool) -> None:
    letters = Letters(10_000)
    stream = pool.stream(letters, key="s")
    assert await anext(stream) == 0

    await stream.aclose()
    assert await asyncio.to_thread(letters.closed.wait, 60)
    assert len(letters.threads) == 1
    await until(lambda: pool.stats().abandoned == 0)


async def test_an_error_amid_a_stream_comes_after_the_items_before_it(pool: FairThreadPool) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("gone")

    stream = pool.stream(items, key="s")
    assert await anext(stream) == 1
    with pytest.raises(LookupError, match="gone"):
        await anext(stream)


async def test_a_cancelled_stream_frees_its_reader_at_once(pool: FairThreadPool, gate: Gate) -> None:
    def items() -> Iterator[str]:
        yield "first"
        yield gate()

    async def read() -> None:
        async for _ in pool.stream(items, key="s"):
            pass

    reading = asyncio.ensure_future(read())
    await begun(gate)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert pool.stats().abandoned == 1


@pytest.mark.parametrize(("size", "replacements"), [(0, 0), (1, -1)])
def test_a_pool_without_threads_is_an_error(size: int, replacements: int) -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        FairThreadPool("thread", size=size, replacements=replacements)


async def test_a_system_without_threads_to_give_refuses_instead_of_hanging(
    pool: FairThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await pool.run(lambda: 1, key="s") == 1  # there is one thread, and the one that starts others
    gate = Gate()
    running = asyncio.ensure_future(pool.run(gate, key="s"))
    await begun(gate)

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(PoolExhausted, match="can't start new thread"):
            await pool.run(lambda: 2, key="t")
    assert await pool.run(lambda: 2, key="t") == 2
    gate.open()
    await running
