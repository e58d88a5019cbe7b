import asyncio

import pytest

from app.executors.errors import PoolExhausted
from app.executors.gate import FairGate


async def entering(gate: FairGate, key: str, order: list[str]) -> None:
    await gate.enter(key)
    order.append(key)


async def test_those_who_wait_are_let_in_by_turns() -> None:
    gate, order = FairGate("dask", size=1, max_queued=100), []
    await gate.enter("first")
    waiting = [asyncio.ensure_future(entering(gate, key, order)) for key in ("many", "many", "many", "one", "two")]
    await asyncio.sleep(0)

    for _ in waiting:
        gate.leave()
        await asyncio.sleep(0)
    assert order == ["many", "one", "two", "many", "many"]
    assert (gate.inside, gate.waiting) == (1, 0)
    await asyncio.gather(*waiting)


async def test_who_leaves_the_queue_takes_no_place() -> None:
    gate, order = FairGate("dask", size=1, max_queued=100), []
    await gate.enter("first")
    gone = asyncio.ensure_future(entering(gate, "gone", order))
    stays = asyncio.ensure_future(entering(gate, "stays", order))
    await asyncio.sleep(0)

    gone.cancel()
    await asyncio.wait([gone])
    gate.leave()
    await stays
    assert order == ["stays"]


async def test_who_is_cancelled_with_the_turn_in_hand_gives_it_on() -> None:
    gate, order = FairGate("dask", size=1, max_queued=100), []
    await gate.enter("first")
    gone = asyncio.ensure_future(entering(gate, "gone", order))
    stays = asyncio.ensure_future(entering(gate, "stays", order))
    await asyncio.sleep(0)

    gate.leave()
    gone.cancel()
    await asyncio.wait([gone])
    await stays
    assert (order, gate.inside) == (["stays"], 1)


async def test_a_gate_that_grows_lets_more_in() -> None:
    gate, order = FairGate("dask", size=1, max_queued=100), []
    await gate.enter("first")
    waiting = [asyncio.ensure_future(entering(gate, key, order)) for key in "ab"]
    await asyncio.sleep(0)

    gate.resize(3)
    await asyncio.gather(*waiting)
    assert gate.inside == 3


async def test_too_many_who_wait_are_refused() -> None:
    gate = FairGate("dask", size=1, max_queued=1)
    await gate.enter("a")
    waiting = asyncio.ensure_future(gate.enter("b"))
    await asyncio.sleep(0)

    with pytest.raises(PoolExhausted):
        await gate.enter("c")
    gate.leave()
    await waiting
