"""The Dask rung alone: schedulers and workers that go away, and come back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import dask
import pytest
from blocking import AT_ONCE_S, until
from dask_cluster import DaskCluster
from rung_bench import Bench, Door, call_of

from app.executors.dask import CONNECT_TIMEOUT_S
from app.executors.errors import CannotTravel, RungUnavailable, WorkerDied

OpenBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path, workers=1) as cluster:
        yield cluster


async def until_used_again(bench: Bench) -> None:
    """Return when a call gives what it should; until then it is refused, and told when to come again."""
    async with asyncio.timeout(60):
        while True:
            try:
                assert await bench.after("double", {"n": 1}) == {"n": 2}
                break
            except RungUnavailable as exc:
                await asyncio.sleep(exc.retry_after_s or 1)


async def test_a_scheduler_that_is_killed_fails_its_calls_at_once_and_is_used_again_when_it_is_back(
    open_bench: OpenBench, own_cluster: DaskCluster, door: Door
) -> None:
    bench = await open_bench("dask", dask=own_cluster.address)
    bystander = await open_bench("thread")
    inputs = door.inputs()
    lost = asyncio.ensure_future(bench.outcome("linger", **inputs))
    await door.entered(inputs)

    await asyncio.to_thread(own_cluster.kill)
    began_s = time.perf_counter()
    with pytest.raises(RungUnavailable, match="went away") as caught:
        await lost
    assert time.perf_counter() - began_s < 2 * AT_ONCE_S
    assert caught.value.retry_after_s is not None
    with pytest.raises(RungUnavailable, match="cannot be used"):
        await bench.outcome("double", {"n": 1})
    assert await bystander.after("double", {"n": 1}) == {"n": 2}

    await asyncio.to_thread(own_cluster.start)
    await until_used_again(bench)


async def test_calls_fail_fast_while_the_scheduler_is_known_to_be_down(open_bench: OpenBench) -> None:
    bench = await open_bench("dask", dask="tcp://127.0.0.1:9")
    with pytest.raises(RungUnavailable, match="cannot be used"):
        await bench.outcome("double", {"n": 1})
    began_s = time.perf_counter()

    with pytest.raises(RungUnavailable):
        await bench.outcome("double", {"n": 1})
    assert time.perf_counter() - began_s < CONNECT_TIMEOUT_S / 2


async def test_a_cluster_that_grows_gets_more_to_do(open_bench: OpenBench, own_cluster: DaskCluster) -> None:
    bench = await open_bench("dask", dask=own_cluster.address)
    await bench.outcome("double", {"n": 1})
    small = bench.pool().size

    await asyncio.to_thread(own_cluster.hire, 1)
    async with asyncio.timeout(60):
        while bench.pool().size != 2 * small:
            await bench.outcome("double", {"n": 1})


async def test_a_cluster_without_any_worker_is_asked_for_one_and_waited_for(open_bench: OpenBench, tmp_path: Path) -> None:
    with DaskCluster(tmp_path, workers=0) as cluster:
        bench = await open_bench("dask", dask=cluster.address)
        call = asyncio.ensure_future(bench.after("double", {"n": 1}))
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(cluster.wanted):
                assert not call.done(), call.exception()
                await asyncio.sleep(0.02)
        await asyncio.to_thread(cluster.hire, 1)
        assert await call == {"n": 2}


async def test_a_cluster_that_has_lost_its_workers_refuses_after_a_while_and_is_used_again_when_it_has_some(
    open_bench: OpenBench, own_cluster: DaskCluster
) -> None:
    bench = await open_bench("dask", dask=own_cluster.address, dask_patience_s=1.0)
    assert await bench.after("double", {"n": 1}) == {"n": 2}

    await asyncio.to_thread(own_cluster.dismiss)
    async with asyncio.timeout(60):
        with pytest.raises(RungUnavailable, match="has no worker"):
            await bench.outcome("double", {"n": 1})

    await asyncio.to_thread(own_cluster.hire, 1)
    await until_used_again(bench)


async def test_without_an_address_the_setting_is_named(open_bench: OpenBench) -> None:
    bench = await open_bench("dask")

    with pytest.raises(RungUnavailable, match="STEPWELL_DASK") as caught:
        await bench.outcome("double", {"n": 1})
    assert caught.value.retry_after_s is None


async def test_an_action_that_kills_its_workers_fails_its_own_step(open_bench: OpenBench) -> None:
    bench = await open_bench("dask", dask="local:1")

    only_once = dask.config.set({"distributed.scheduler.allowed-failures": 0})  # else three more workers have to be started
    with only_once, pytest.raises(WorkerDied, match="action 'crash'"):
        await bench.outcome("crash")
    assert await bench.after("double", {"n": 1}) == {"n": 2}
    assert bench.pool("dask").died == 1


@pytest.mark.parametrize(
    ("action", "where", "key"), [("make_lock", "state", "made"), ("give_lock", "result", "lock"), ("send_lock", "item", "1")]
)
async def test_what_cannot_travel_is_named(
    open_bench: OpenBench, dask_cluster: DaskCluster, action: str, where: str, key: str
) -> None:
    bench = await open_bench("dask", dask=dask_cluster.address)

    with pytest.raises(CannotTravel) as caught:
        await (bench.items(action) if where == "item" else bench.outcome(action))
    assert (caught.value.where, caught.value.key) == (where, key)


async def test_a_stream_whose_reader_left_ends_at_its_next_item(
    open_bench: OpenBench, dask_cluster: DaskCluster, door: Door
) -> None:
    bench = await open_bench("dask", dask=dask_cluster.address)
    inputs = door.inputs()
    stream = bench.executors.stream(call_of("trickle", {}, inputs), owner=bench.owner("trickle"))
    await anext(stream)

    await stream.aclose()
    door.open()
    await until(lambda: bench.pool("dask").abandoned == 0)
    assert await bench.after("double", {"n": 1}) == {"n": 2}
