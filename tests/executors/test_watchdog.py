import asyncio
import queue
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
AT_MOST_S = 20
"""For how long a test holds the loop when nobody names it: it fails then."""


def on_both_loops(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function that runs once on asyncio's loop and once on uvloop's."""

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


class Watch:
    """A watchdog and the stalls that it has told: a test holds the loop until the next one comes out of `told`."""

    def __init__(self, budget_s: float, told: "queue.SimpleQueue[Stall] | queue.Queue[Stall]") -> None:
        self.seen: list[Stall] = []
        self.told = told
        self.watchdog = LoopWatchdog(budget_s, owner_of_code=lambda _code: None, on_stall=self._take)

    def _take(self, stall: Stall) -> None:
        self.seen.append(stall)
        self.told.put(stall)


@contextmanager
def watching(budget_s: float = 0.05, told: "queue.Queue[Stall] | None" = None) -> Iterator[Watch]:
    watch = Watch(budget_s, told or queue.SimpleQueue())
    watch.watchdog.start()
    try:
        yield watch
    finally:
        watch.watchdog.stop()


async def hold_the_loop(watch: Watch) -> int:
    """Hold the loop until somebody is named for it; return the line that does."""
    await asyncio.sleep(0)
    line = sys._getframe().f_lineno + 1
    watch.told.get(timeout=AT_MOST_S)
    await asyncio.sleep(0)
    return line


@on_both_loops
async def test_a_place_is_named_with_its_owner_and_line_while_it_holds_the_loop() -> None:
    with watching() as watch:
        current_owner.set(OWNER)
        line = await hold_the_loop(watch)
        await until(lambda: watch.seen[0].total_s > 0)

    assert [(stall.blame.owner, stall.blame.place, stall.blame.function) for stall in watch.seen] == [
        (OWNER, (__file__, line), "hold_the_loop")
    ]
    assert f"{__file__}:{line} in hold_the_loop: watch.told.get(timeout=AT_MOST_S)" in watch.seen[0].blame.stack
    assert watch.watchdog.stats().longest_lag_s >= 0.05


@on_both_loops
async def test_a_task_that_an_action_started_counts_for_its_owner() -> None:
    with watching() as watch:
        current_owner.set(OWNER)
        async with asyncio.TaskGroup() as group:
            group.create_task(hold_the_loop(watch))

    assert [stall.blame.owner for stall in watch.seen] == [OWNER]


@on_both_loops
async def test_a_place_is_one_stall_however_often_it_does_it() -> None:
    total_s = 0.0
    with watching() as watch:
        for _ in range(3):
            await hold_the_loop(watch)
            await until(lambda: watch.seen[-1].total_s > total_s)  # noqa: B023 - called before the next turn
            total_s = watch.seen[-1].total_s

    assert [(stall.count, stall.total_s) for stall in watch.watchdog.stalls()] == [(3, total_s)]
    assert len(watch.seen) == 3
    assert 0.05 <= watch.watchdog.stalls()[0].longest_s < total_s


@on_both_loops
async def test_an_innermost_library_frame_is_put_on_the_line_that_calls_it() -> None:
    with watching(told=queue.Queue()) as watch:
        await asyncio.sleep(0)
        line = sys._getframe().f_lineno + 1
        watch.told.get(timeout=AT_MOST_S)

    assert [stall.blame.place for stall in watch.seen] == [(__file__, line)]


@on_both_loops
async def test_code_that_computes_on_the_loop_is_named() -> None:
    with watching() as watch:
        current_owner.set(OWNER)
        await asyncio.sleep(0)
        end_s = time.thread_time() + AT_MOST_S
        while not watch.seen and time.thread_time() < end_s:
            sum(range(100))

    assert [(stall.blame.action, stall.blame.function) for stall in watch.seen] == [
        ("checkout", "test_code_that_computes_on_the_loop_is_named")
    ]


@on_both_loops
async def test_a_single_call_that_keeps_the_gil_is_named_though_the_watchdog_cannot_look_meanwhile() -> None:
    with watching() as watch:
        for _ in range(5):  # whether the watchdog asks before the call or after it is chance
            await asyncio.sleep(0.03)
            count = len(watch.seen)
            line = sys._getframe().f_lineno + 1
            sum(range(10_000_000))
            await until(lambda: len(watch.seen) > count)  # noqa: B023 - called before the next turn

    assert {stall.blame.function for stall in watch.seen} == {
        "test_a_single_call_that_keeps_the_gil_is_named_though_the_watchdog_cannot_look_meanwhile"
    }
    assert {stall.blame.place[1] - line for stall in watch.seen} <= {0, 1}


@on_both_loops
async def test_nobody_is_named_for_the_sum_of_many_short_turns() -> None:
    async def compute_a_little(until_late: int) -> None:
        while watch.watchdog.stats().late < until_late:
            end_s = time.thread_time() + 0.001
            while time.thread_time() < end_s:
                sum(range(100))
            await asyncio.sleep(0)

    with watching() as watch:
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(compute_a_little(until_late=3))

    assert watch.seen == []


@on_both_loops
async def test_a_loop_that_waits_for_events_is_nobodys_fault() -> None:
    with watching() as watch:
        await until(lambda: watch.watchdog.stats().probes > 5, every_s=0.2)

    assert watch.seen == []


@on_both_loops
async def test_nobody_is_named_for_what_computing_threads_do() -> None:
    done = threading.Event()

    def burn() -> None:
        while not done.is_set():
            sum(range(1_000))

    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(burn)  # before the watch: to start a thread beside these takes a while
        with watching(0.02) as watch:
            try:
                await until(lambda: watch.watchdog.stats().starved >= 2)
            finally:
                done.set()

    assert watch.seen == []


@on_both_loops
async def test_watching_an_idle_loop_costs_next_to_nothing() -> None:
    with watching(0.1) as watch:
        await until(lambda: watch.watchdog.stats().probes > 0)
        watcher = next(each for each in threading.enumerate() if each.name == "stepwell-watchdog")
        clocks = [time.pthread_getcpuclockid(ident) for ident in (watcher.ident or 0, threading.get_ident())]
        cpu_before_s, began_s = sum(map(time.clock_gettime, clocks)), time.perf_counter()
        await asyncio.sleep(1)
        share = (sum(map(time.clock_gettime, clocks)) - cpu_before_s) / (time.perf_counter() - began_s)
        assert watch.watchdog.stats().probes > 5

    assert share < 0.03, "of a core; half a hundredth on most machines"
