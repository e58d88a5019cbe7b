import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from blocking import Gate, begun

from app.executors.errors import ExecutorsClosed
from app.executors.jobs import Usage
from app.executors.measure import ENOUGH, QUICK_S, ActionFigures, CpuLimits
from app.executors.quick_lane import QuickLane
from app.executors.threads import FairThreadPool

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


def who() -> str:
    return threading.current_thread().name


@pytest.fixture
async def pool() -> AsyncIterator[FairThreadPool]:
    made = FairThreadPool("thread", size=2)
    yield made
    await made.close()


@pytest.fixture
def lane(pool: FairThreadPool) -> Iterator[QuickLane]:
    made = QuickLane(pool)
    yield made
    made.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


async def test_calls_share_one_thread_and_keep_their_callers_contexts(lane: QuickLane) -> None:
    async def call(name: str) -> tuple[str, str]:
        colour.set(name)
        return await lane.run(lambda: (colour.get(), who()), key=name)

    names = [str(number) for number in range(100)]
    assert await asyncio.gather(*map(call, names)) == [(name, "stepwell-quick") for name in names]


async def test_what_a_call_raises_reaches_its_caller_alone(lane: QuickLane) -> None:
    error = LookupError("gone")

    def fail() -> None:
        raise error

    first, second = await asyncio.gather(lane.run(fail, key="a"), lane.run(who, key="b"), return_exceptions=True)
    assert (first, second) == (error, "stepwell-quick")


async def test_a_call_that_takes_its_time_holds_nobody_up(lane: QuickLane, gate: Gate) -> None:
    before = asyncio.create_task(lane.run(who, key="before"))
    slow = asyncio.create_task(lane.run(gate, key="slow"))
    behind = asyncio.create_task(lane.run(who, key="behind"))
    await begun(gate)
    assert (await before, await behind) == ("stepwell-quick", "stepwell-thread")
    assert await lane.run(who, key="later") == "stepwell-thread"
    assert not slow.done()
    gate.open()
    assert await slow == "through"


async def test_a_call_that_nobody_waits_for_any_more_is_left_out(lane: QuickLane, gate: Gate) -> None:
    done: list[str] = []
    slow = asyncio.create_task(lane.run(gate, key="slow"))
    await begun(gate)
    behind = asyncio.create_task(lane.run(lambda: done.append("behind"), key="behind"))
    await asyncio.sleep(0)
    behind.cancel()
    await asyncio.wait([behind])
    gate.open()
    assert (await slow, behind.cancelled(), done) == ("through", True, [])


async def test_a_closed_lane_leaves_calls_to_the_pool(pool: FairThreadPool, lane: QuickLane) -> None:
    lane.close()
    assert await lane.run(who, key="s") == "stepwell-thread"
    await pool.close()
    with pytest.raises(ExecutorsClosed):
        await lane.run(who, key="s")


def test_an_action_is_quick_after_several_quick_calls_until_one_is_not() -> None:
    figures, limits = ActionFigures(), CpuLimits()
    quick, slow = Usage(0.0, QUICK_S / 10, QUICK_S / 10), Usage(0.0, 20 * QUICK_S, 0.0)
    found = []
    for usage in [*[quick] * ENOUGH, slow, *[quick] * ENOUGH]:
        figures.add(usage, limits)
        found.append(figures.is_quick)
    assert found == [*[False] * (ENOUGH - 1), True, *[False] * ENOUGH, True]


def test_one_delay_does_not_make_a_quick_action_a_slow_one() -> None:
    figures, limits = ActionFigures(), CpuLimits()
    for _ in range(4 * ENOUGH):
        figures.add(Usage(0.0, QUICK_S / 10, QUICK_S / 10), limits)
    figures.add(Usage(0.0, 5 * QUICK_S, QUICK_S / 10), limits)
    assert figures.is_quick
