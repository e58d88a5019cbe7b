"""What the ladder says about actions, and what `auto` does."""

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import Any

import pytest
import rung_machine
from blocking import set_when, until
from rung_bench import Bench, Door, call_of

from app.engine.builder import ApplicationBuilder
from app.engine.mode_warnings import BlockingActionWarning
from app.executors.errors import PoolExhausted, UnknownRung
from app.executors.notices import CpuBoundActionWarning, NoticeKind
from app.executors.owner import CallOwner

OpenBench = Callable[..., Awaitable[Bench]]


@contextmanager
def recorded() -> Any:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield seen


def kinds(bench: Bench, action: str) -> list[NoticeKind]:
    return [notice.kind for notice in bench.told if notice.action == action]


async def moved(bench: Bench, action: str) -> None:
    await until(lambda: bench.executors.describe("rung")[action]["runs_in"] == "process")


async def test_a_sync_action_that_nobody_chose_a_rung_for_is_told_once(open_bench: OpenBench) -> None:
    bench = await open_bench("thread")
    with recorded() as seen:
        for _ in range(3):
            await bench.outcome("double", {"n": 1})

    assert kinds(bench, "double") == [NoticeKind.BLOCKING_ACTION]
    assert [each.category for each in seen] == [BlockingActionWarning]
    assert seen[0].filename == rung_machine.__file__
    assert (bench.told[0].machine, bench.told[0].session_id) == ("rung", "s")


async def test_a_rung_that_was_chosen_is_no_matter_for_a_warning(open_bench: OpenBench) -> None:
    bench = await open_bench("thread")
    bench.executors.register("settled", executor="thread")
    with recorded() as seen:
        await bench.executors.call(call_of("double", {"n": 1}, {}), owner=CallOwner("s", "settled", "double"))

    assert (bench.told, seen) == ([], [])


async def test_a_call_that_burns_cpu_is_told_with_its_figures_and_the_fix(
    open_bench: OpenBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await open_bench("thread")
    with recorded() as seen, caplog.at_level(logging.WARNING):
        for _ in range(3):
            await bench.outcome("compute", cpu_s=0.05)

    assert kinds(bench, "compute") == [NoticeKind.BLOCKING_ACTION, NoticeKind.CPU_BOUND_ACTION]
    notice = bench.told[1]
    assert "action 'compute' of machine 'rung' used 0.05" in notice.message
    assert "executor='process'" in notice.message
    assert 0.05 <= notice.details["cpu_s"] <= notice.details["wall_s"] + 0.001
    assert [each.category for each in seen] == [BlockingActionWarning, CpuBoundActionWarning]
    assert [record.message for record in caplog.records if record.message == notice.message] == [notice.message]
    assert bench.executors.notices("rung") == tuple(bench.told)
    assert bench.executors.notices("another") == ()


async def test_a_call_that_waits_is_not_called_cpu_bound(open_bench: OpenBench) -> None:
    bench = await open_bench("thread")
    gate = threading.Timer(0.1, lambda: None)
    gate.start()
    await bench.executors.call_plain(gate.join, owner=bench.owner("wait"))

    assert NoticeKind.CPU_BOUND_ACTION not in kinds(bench, "wait")


async def test_eight_that_share_the_gil_are_each_called_cpu_bound(open_bench: OpenBench) -> None:
    bench = await open_bench("thread", threads=8)
    await asyncio.gather(*[bench.outcome("compute", session=str(n), cpu_s=0.05) for n in range(8)])

    assert bench.executors.describe("rung")["compute"]["calls"] == 8
    assert NoticeKind.CPU_BOUND_ACTION in kinds(bench, "compute")


async def test_a_warning_that_a_filter_makes_an_error_fails_no_step(open_bench: OpenBench) -> None:
    bench = await open_bench("thread")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await bench.after("double", {"n": 1}) == {"n": 2}


async def test_auto_moves_what_has_proven_to_be_cpu_bound_and_says_so(open_bench: OpenBench) -> None:
    bench = await open_bench("auto")
    told = bench.executors.describe

    await bench.outcome("compute", cpu_s=0.05)
    assert told("rung")["compute"] | {"executor": "auto", "runs_in": "thread"} == told("rung")["compute"]
    await bench.outcome("compute", cpu_s=0.05)
    await moved(bench, "compute")
    assert told("rung")["compute"] | {"executor": "auto", "runs_in": "process"} == told("rung")["compute"]
    assert kinds(bench, "compute")[-1] == NoticeKind.MOVED_TO_PROCESS
    assert "from now on it runs in worker processes" in bench.told[-1].message

    before = bench.pool("process").calls
    assert (await bench.after("compute", cpu_s=0.01))["total"] > 0
    assert bench.pool("process").calls == before + 1


async def test_auto_leaves_what_does_not_compute_where_it_is(open_bench: OpenBench) -> None:
    bench = await open_bench("auto")
    for _ in range(5):
        assert await bench.after("whereabouts") == {"pid": os.getpid()}

    assert bench.executors.describe("rung")["whereabouts"]["runs_in"] == "thread"


async def test_auto_says_what_keeps_an_action_in_threads(open_bench: OpenBench) -> None:
    bench = await open_bench("auto")
    for _ in range(4):
        assert await bench.after("compute_with_lock", {"lock": threading.Lock()}, cpu_s=0.03)
    await until(lambda: len(bench.told) == 3)

    stays = [notice for notice in bench.told if notice.kind is NoticeKind.STAYS_IN_THREAD]
    assert ["state key 'lock'" in notice.message for notice in stays] == [True]
    assert bench.executors.describe("rung")["compute_with_lock"]["runs_in"] == "thread"


async def test_what_auto_has_moved_comes_back_when_a_value_cannot_travel(open_bench: OpenBench) -> None:
    bench = await open_bench("auto")
    for _ in range(2):
        await bench.outcome("compute_with_lock", {"lock": 0}, cpu_s=0.03)
    await moved(bench, "compute_with_lock")

    assert await bench.after("compute_with_lock", {"lock": threading.Lock()}, cpu_s=0.03)
    assert bench.executors.describe("rung")["compute_with_lock"]["runs_in"] == "thread"
    assert kinds(bench, "compute_with_lock")[-1] == NoticeKind.STAYS_IN_THREAD


async def test_auto_moves_a_streaming_action_too(open_bench: OpenBench) -> None:
    bench = await open_bench("auto")
    for _ in range(3):
        items = await bench.items("compute_in_steps", cpu_s=0.03)
        assert len(items) == 3
    await moved(bench, "compute_in_steps")

    assert len(await bench.items("compute_in_steps", cpu_s=0.001)) == 3


async def test_what_computes_in_threads_has_few_of_them(open_bench: OpenBench) -> None:
    bench = await open_bench("thread", threads=8, compute_threads=1)
    for _ in range(2):
        await bench.outcome("compute", cpu_s=0.03)
    before = bench.pool("compute").calls
    crowd = [asyncio.ensure_future(bench.outcome("compute", session=str(n), cpu_s=0.03)) for n in range(4)]
    busy = set()
    while not all(call.done() for call in crowd):
        busy.add(bench.pool("compute").busy)
        await asyncio.sleep(0.001)

    assert max(busy) <= 1
    assert (bench.pool("compute").calls, bench.pool("compute").threads) == (before + 4, 1)
    await asyncio.gather(*crowd)


async def test_a_pool_that_is_used_up_is_told_once(open_bench: OpenBench, door: Door) -> None:
    bench = await open_bench("thread", threads=1, thread_replacements=0)
    inputs = door.inputs()
    stuck = asyncio.ensure_future(bench.outcome("linger", **inputs))
    await door.entered(inputs)
    stuck.cancel()
    await asyncio.wait([stuck])

    for _ in range(2):
        with pytest.raises(PoolExhausted):
            await bench.outcome("double", {"n": 1})
    assert kinds(bench, "double") == [NoticeKind.BLOCKING_ACTION, NoticeKind.POOL_EXHAUSTED]
    assert bench.told[-1].details["pool"] == "thread"
    door.open()
    await until(lambda: bench.pool("thread").abandoned == 0)


async def test_a_rung_that_there_is_not_is_an_error_before_anything_runs(open_bench: OpenBench) -> None:
    bench = await open_bench("thread")

    with pytest.raises(UnknownRung, match="there is no executor 'procces'; there are thread, process, dask, auto"):
        bench.executors.register("wrong", executor="procces")


async def test_an_async_action_has_no_use_for_a_process(open_bench: OpenBench) -> None:
    bench = await open_bench("thread")

    with pytest.raises(UnknownRung, match="there is no executor 'process' for an async action; there are loop, private_loop"):
        bench.executors.register("wrong", actions=[rung_machine.in_process.action_function.with_name("in_process")])


async def test_the_loop_is_watched_and_its_blockers_are_told(open_bench: OpenBench) -> None:
    bench = await open_bench("thread", loop_lag_budget_s=0.05)
    over = set_when(lambda: bool(bench.executors.notices("rung")))

    await rung_machine.ACTIONS["block_the_loop"].run_and_update(call_of("block_the_loop", {}, {}).view, over=over)
    await until(lambda: bool(bench.told))
    notice = bench.told[0]
    assert (notice.kind, notice.machine, notice.action) == (NoticeKind.LOOP_BLOCKED, "rung", "block_the_loop")
    assert notice.details["file"] == rung_machine.__file__
    assert "over.wait(20)" in notice.details["stack"]
    assert bench.executors.notices("rung")[-1].details["count"] == 1
    assert (bench.executors.loop_stats() or pytest.fail("unwatched")).longest_lag_s > 0.05


async def test_an_async_action_that_keeps_blocking_gets_a_loop_of_its_own(open_bench: OpenBench) -> None:
    bench = await open_bench("thread", loop_lag_budget_s=0.05, isolate_blocking=True)
    builder = ApplicationBuilder().with_actions(block=rung_machine.block_the_loop).with_transitions(("block", "block"))
    blueprint = builder.with_entrypoint("block").blueprint()
    bench.executors.register("blocker", actions=blueprint.graph.actions, redirect=blueprint.redirect)
    application = blueprint.instantiate(app_id="a")

    def stalls() -> int:
        return sum(notice.details.get("count", 0) for notice in bench.executors.notices("blocker"))

    for expected in (1, 2):
        await application.astep(inputs={"over": set_when(lambda: stalls() == expected)})  # noqa: B023 - over by the next turn
        await until(lambda: len(bench.told) == expected)  # noqa: B023
    assert kinds(bench, "block") == [NoticeKind.LOOP_BLOCKED, NoticeKind.MOVED_TO_PRIVATE_LOOP]
    assert bench.executors.describe("blocker")["block"]["runs_in"] == "private_loop"

    over = threading.Event()
    step = asyncio.ensure_future(application.astep(inputs={"over": over}))
    await asyncio.sleep(0.1)
    assert not step.done()
    over.set()
    assert await step is not None
    assert (len(bench.told), stalls()) == (2, 2)
