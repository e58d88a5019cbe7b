"""What holds on every rung: one suite, run on each."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from blocking import AT_ONCE_S, until
from rung_bench import Bench, Door, call_of
from rung_machine import Refused

from app.engine.context import ApplicationContext
from app.engine.errors import ActionQuit
from app.engine.operations import Append, Increment, Set
from app.engine.ports import ActionOutcome
from app.executors.errors import ExecutorsClosed

OpenBench = Callable[..., Awaitable[Bench]]


@pytest.fixture(params=["thread", "process", "dask"])
async def bench(request: pytest.FixtureRequest, open_bench: OpenBench) -> Bench:
    dask = request.getfixturevalue("dask_cluster").address if request.param == "dask" else None
    return await open_bench(request.param, dask=dask)


async def test_the_outcome_is_the_result_and_the_operations(bench: Bench) -> None:
    assert await bench.outcome("double", {"n": 4}) == ActionOutcome({"was": 4}, (Set("n", 8),))


async def test_operations_on_keys_that_the_action_does_not_read_stay_operations(bench: Bench) -> None:
    outcome = await bench.outcome("note", {"log": ["a"], "n": 1}, line="b")

    assert outcome.operations == (Append("log", "b"), Increment("n", 1))


async def test_an_error_of_the_users_own_arrives_as_it_was_raised(bench: Bench) -> None:
    with pytest.raises(Refused) as caught:
        await bench.outcome("refuse", {"n": 12})

    assert (caught.value.args, caught.value.code) == (("no", 12), 12)


async def test_an_action_that_quits_fails_its_step_only(bench: Bench) -> None:
    with pytest.raises(ActionQuit):
        await bench.outcome("quit_everything")

    assert await bench.after("double", {"n": 1}) == {"n": 2}


async def test_a_stream_gives_its_items_and_its_outcome(bench: Bench) -> None:
    *items, outcome = await bench.items("count", {"n": 1}, items=300)

    assert items == [{"item": index} for index in range(300)]
    assert outcome == ActionOutcome({"items": 300}, (Set("n", 301),))


async def test_an_error_amid_a_stream_comes_after_the_items_before_it(bench: Bench) -> None:
    stream = bench.executors.stream(call_of("break_off", {}, {}), owner=bench.owner("break_off"))

    assert await anext(stream) == {"item": 0}
    with pytest.raises(Refused) as caught:
        await anext(stream)
    assert caught.value.code == 7


async def test_items_arrive_while_the_action_goes_on(bench: Bench, door: Door) -> None:
    inputs = door.inputs()
    stream = bench.executors.stream(call_of("trickle", {}, inputs), owner=bench.owner("trickle"))

    assert "pid" in await anext(stream)
    door.open()
    assert isinstance(await anext(stream), ActionOutcome)


async def test_cancelling_frees_the_caller_at_once(bench: Bench, door: Door) -> None:
    inputs = door.inputs()
    call = asyncio.ensure_future(bench.outcome("linger", **inputs))
    await door.entered(inputs)
    began_s = time.perf_counter()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert time.perf_counter() - began_s < AT_ONCE_S
    assert await bench.after("double", {"n": 1}) == {"n": 2}
    door.open()
    await until(lambda: sum(pool.abandoned + pool.busy for pool in bench.executors.stats()) == 0)


async def test_leaving_a_stream_frees_the_reader_at_once(bench: Bench, door: Door) -> None:
    inputs = door.inputs()
    stream = bench.executors.stream(call_of("trickle", {}, inputs), owner=bench.owner("trickle"))
    await anext(stream)
    began_s = time.perf_counter()

    await stream.aclose()
    assert time.perf_counter() - began_s < AT_ONCE_S
    door.open()
    await until(lambda: sum(pool.abandoned + pool.busy for pool in bench.executors.stats()) == 0)


async def test_a_session_with_many_calls_does_not_starve_another(bench: Bench, door: Door) -> None:
    await bench.outcome("tell_the_time")  # the cluster's size is known from now on
    size = bench.pool().size
    at_the_door = [asyncio.ensure_future(bench.outcome("linger", session="many", **door.inputs())) for _ in range(size)]
    crowd = [asyncio.ensure_future(bench.after("tell_the_time", session="many")) for _ in range(100)]
    other = asyncio.ensure_future(bench.after("tell_the_time", session="one"))
    await until(lambda: bench.pool().queued == 101)
    door.open()

    *many, one = await asyncio.gather(*crowd, other)
    assert sum(each["began_s"] < one["began_s"] for each in many) < 40
    await asyncio.gather(*at_the_door)


async def test_the_context_of_the_call_goes_along(bench: Bench) -> None:
    with ApplicationContext("app-1", "blue", 7, None, None, None, None, "tell_context", "run-1"):
        outcome = await bench.outcome("tell_context")

    assert outcome.result == {"token": "app-1:7", "run_id": "run-1", "action": "tell_context"}


async def test_every_call_is_measured_where_it_was_carried_out(bench: Bench) -> None:
    await bench.outcome("compute", cpu_s=0.1)
    await bench.outcome("double", {"n": 1})

    told = bench.executors.describe("rung")
    assert (told["compute"]["calls"], told["double"]["calls"]) == (1, 1)
    assert 100 <= told["compute"]["mean_cpu_ms"] <= told["compute"]["mean_wall_ms"] + 1
    assert told["double"]["mean_cpu_ms"] < 50


async def test_closed_executors_refuse(bench: Bench) -> None:
    await bench.executors.close()

    with pytest.raises(ExecutorsClosed):
        await bench.outcome("double", {"n": 1})


async def test_only_the_thread_rung_stays_in_this_process(bench: Bench) -> None:
    pids = {(await bench.after("whereabouts"))["pid"] for _ in range(3)}

    asked = bench.executors.describe("rung")["whereabouts"]
    assert (pids == {os.getpid()}) == (asked["executor"] == "thread")
    assert asked["runs_in"] == asked["executor"]


async def test_a_hook_is_carried_out_in_a_thread(bench: Bench) -> None:
    seen: list[Any] = []

    assert await bench.executors.call_plain(lambda: seen.append(os.getpid()), owner=bench.owner("double")) is None
    assert seen == [os.getpid()]
