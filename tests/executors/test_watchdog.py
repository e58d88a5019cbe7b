import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop
from blocking import until

from app.executors.owner import CallOwner, current_owner
from app.executors.watchdog import LoopWatchdog, Stall

OWNER = CallOwner("session-1", "shop", "checkout")


def on_both_loops(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function that runs once on asyncio's loop and once on uvloop's."""

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


@contextmanager
def watching(budget_s: float = 0.05) -> "Iterator[tuple[LoopWatchdog, list[Stall]]]":
    seen: list[Stall] = []
    watchdog = LoopWatchdog(budget_s, owner_of_code=lambda _code: None, on_stall=seen.append)
    watchdog.start()
    try:
        yield watchdog, seen
    finally:
        watchdog.stop()


async def sleep_by_mistake(seconds: float) -> int:
    """Block the loop; return the line that does."""
    await asyncio.sleep(0)
    line = sys._getframe().f_lineno + 1
    time.sleep(seconds)  # noqa: ASYNC251 - on purpose
    await asyncio.sleep(0)
    return line


@on_both_loops
async def test_a_place_that_holds_the_loop_is_named_with_its_owner_and_line() -> None:
    with watching() as (watchdog, seen):
        current_owner.set(OWNER)
        line = await sleep_by_mistake(0.3)
        await until(lambda: watchdog.stalls()[0].total_s > 0)

    assert [(stall.blame.owner, stall.blame.place, stall.blame.function) for stall in seen] == [
        (OWNER, (__file__, line), "sleep_by_mistake")
    ]
    assert f"{__file__}:{line} in sleep_by_mistake: time.sleep(seconds)" in seen[0].blame.stack
    assert watchdog.stats().longest_lag_s > 0.1


@on_both_loops
async def test_it_is_named_while_it_still_holds_the_loop() -> None:
    with watching() as (_watchdog, seen):
        await asyncio.sleep(0.05)
        time.sleep(0.5)  # noqa: ASYNC251 - on purpose
        assert len(seen) == 1


@on_both_loops
async def test_a_task_that_an_action_started_counts_for_its_owner() -> None:
    with watching() as (_watchdog, seen):
        current_owner.set(OWNER)
        async with asyncio.TaskGroup() as group:
            group.create_task(sleep_by_mistake(0.3))

    assert [stall.blame.owner for stall in seen] == [OWNER]


@on_both_loops
async def test_a_place_is_one_stall_however_often_it_does_it() -> None:
    with watching() as (watchdog, seen):
        for _ in range(3):
            await sleep_by_mistake(0.2)
            await asyncio.sleep(0.06)

    assert [stall.count for stall in watchdog.stalls()] == [3]
    assert len(seen) == 3
    assert watchdog.stalls()[0].longest_s >= 0.05


@on_both_loops
async def test_an_innermost_library_frame_is_put_on_the_line_that_calls_it() -> None:
    ready = threading.Event()
    with watching() as (_watchdog, seen):
        await asyncio.sleep(0)
        line = sys._getframe().f_lineno + 1
        ready.wait(0.3)

    assert [stall.blame.place for stall in seen] == [(__file__, line)]


@on_both_loops
async def test_code_that_computes_on_the_loop_is_named() -> None:
    with watching() as (_watchdog, seen):
        current_owner.set(OWNER)
        await asyncio.sleep(0)
        end_s = time.thread_time() + 0.4
        while time.thread_time() < end_s:
            sum(range(100))

    assert [(stall.blame.action, stall.blame.function) for stall in seen] == [
        ("checkout", "test_code_that_computes_on_the_loop_is_named")
    ]


@on_both_loops
async def test_a_loop_that_waits_for_events_is_nobodys_fault() -> None:
    with watching() as (watchdog, seen):
        await asyncio.sleep(0.5)

    assert seen == []
    assert watchdog.stats().probes > 5


@on_both_loops
async def test_nobody_is_named_for_what_computing_threads_do() -> None:
    done = threading.Event()

    def burn() -> None:
        while not done.is_set():
            sum(range(1_000))

    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(burn)  # before the watch: to start a thread beside these takes a while
        with watching(0.02) as (watchdog, seen):
            try:
                await until(lambda: watchdog.stats().starved >= 2)
            finally:
                done.set()

    assert seen == []


@on_both_loops
async def test_watching_an_idle_loop_costs_less_than_a_hundredth_of_a_core() -> None:
    with watching(0.1) as (watchdog, _seen):
        await asyncio.sleep(0.1)
        cpu_before_s, began_s = time.process_time(), time.perf_counter()
        await asyncio.sleep(2)
        share = (time.process_time() - cpu_before_s) / (time.perf_counter() - began_s)

    assert watchdog.stats().probes > 20
    assert share < 0.01
