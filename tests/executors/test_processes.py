"""The process rung alone: what can happen to processes, and to what has to travel."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import rung_machine
from blocking import until
from rung_bench import Bench, Door, call_of
from rung_machine import Refused

from app.engine.compiled import CompiledAction
from app.engine.function_actions import action, create_action
from app.engine.perform import blocking_call
from app.engine.state import State
from app.executors.errors import CannotTravel, RemoteActionError, RungUnavailable, WorkerDied
from app.executors.owner import CallOwner
from app.executors.travel import MachineSource

OpenBench = Callable[..., Awaitable[Bench]]


def is_alive(pid: int) -> bool:
    """Whether the process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # it may go between the opening and the reading
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


async def test_a_worker_that_is_killed_fails_its_own_step_and_no_other(open_bench: OpenBench, door: Door) -> None:
    bench = await open_bench("process", processes=3)
    lingering = [door.inputs() for _ in range(3)]
    calls = [asyncio.ensure_future(bench.outcome("linger", session=str(n), **each)) for n, each in enumerate(lingering)]
    pids = [await door.entered(each) for each in lingering]

    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(WorkerDied, match="action 'linger': the worker process was killed by SIGKILL") as died:
        await calls[1]
    assert died.value.exit_code == -signal.SIGKILL
    door.open()
    first, third = await asyncio.gather(calls[0], calls[2])
    assert [first.operations[0].value, third.operations[0].value] == [pids[0], pids[2]]

    after = [await bench.after("whereabouts") for _ in range(3)]
    assert pids[1] not in {each["pid"] for each in after}
    assert bench.pool("process").died == 1


async def test_a_worker_outlives_the_signals_that_end_a_service(open_bench: OpenBench, door: Door) -> None:
    bench = await open_bench("process", processes=1)
    inputs = door.inputs()
    call = asyncio.ensure_future(bench.outcome("linger", **inputs))
    pid = await door.entered(inputs)

    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(parent_of(pid), number)
        os.kill(pid, number)
    door.open()
    assert (await call).operations[0].value == pid
    assert await bench.after("double", {"n": 1}) == {"n": 2}


async def test_an_action_that_crashes_says_how(open_bench: OpenBench) -> None:
    bench = await open_bench("process")

    for _ in range(5):
        with pytest.raises(WorkerDied):
            await bench.outcome("crash")
    assert await bench.after("double", {"n": 1}) == {"n": 2}


async def test_a_worker_killed_while_idle_is_replaced_unnoticed(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)
    pid = (await bench.after("whereabouts"))["pid"]

    os.kill(pid, signal.SIGKILL)
    await until(lambda: not is_alive(pid))
    assert await bench.after("double", {"n": 1}) == {"n": 2}
    assert bench.pool("process").died == 0


async def test_the_process_that_workers_are_forked_from_is_replaced_when_it_dies(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)
    pid = (await bench.after("whereabouts"))["pid"]
    parent = parent_of(pid)
    assert parent != os.getpid()

    os.kill(parent, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not is_alive(pid))
    assert await bench.after("double", {"n": 1}) == {"n": 2}


async def test_a_cancelled_call_kills_its_process(open_bench: OpenBench, door: Door) -> None:
    bench = await open_bench("process", processes=1)
    inputs = door.inputs()
    call = asyncio.ensure_future(bench.outcome("linger", **inputs))
    pid = await door.entered(inputs)

    call.cancel()
    await asyncio.wait([call])
    await until(lambda: not is_alive(pid))
    assert await bench.after("double", {"n": 1}) == {"n": 2}
    assert bench.pool("process").died == 0


async def test_a_reader_that_leaves_a_stream_kills_its_process(open_bench: OpenBench, door: Door) -> None:
    bench = await open_bench("process", processes=1)
    stream = bench.executors.stream(call_of("trickle", {}, door.inputs()), owner=bench.owner("trickle"))
    pid = (await anext(stream))["pid"]

    await stream.aclose()
    await until(lambda: not is_alive(pid))


async def test_a_hundred_cancelled_calls_leave_a_pool_that_works(open_bench: OpenBench, door: Door) -> None:
    bench = await open_bench("process", processes=2)
    for _ in range(10):
        calls = [asyncio.ensure_future(bench.outcome("linger", session=str(n), **door.inputs())) for n in range(10)]
        await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)

    assert await bench.after("double", {"n": 1}) == {"n": 2}
    await until(lambda: (bench.pool("process").abandoned, bench.pool("process").threads) == (0, 2))


async def test_a_worker_is_replaced_after_so_many_calls(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1, process_recycle_after=2)

    pids = [(await bench.after("whereabouts"))["pid"] for _ in range(6)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]
    await until(lambda: not is_alive(pids[0]))


async def test_workers_can_be_spawned_instead_of_forked(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1, start_method="spawn")
    pid = (await bench.after("whereabouts"))["pid"]

    assert await bench.after("double", {"n": 1}) == {"n": 2}
    with pytest.raises(WorkerDied):
        await bench.outcome("crash")
    assert (await bench.after("whereabouts"))["pid"] != pid


async def test_closing_ends_every_process(open_bench: OpenBench, door: Door) -> None:
    bench = await open_bench("process", processes=2)
    inputs = door.inputs()
    call = asyncio.ensure_future(bench.outcome("linger", **inputs))
    busy, idle = await door.entered(inputs), (await bench.after("whereabouts"))["pid"]

    await bench.executors.close(grace_s=0.01)
    with pytest.raises(WorkerDied):
        await call
    await until(lambda: not is_alive(busy) and not is_alive(idle))


@pytest.mark.parametrize(
    ("action", "state", "inputs", "where", "key", "kind"),
    [
        ("look_at_lock", {"lock": threading.Lock()}, {}, "state", "lock", "_thread.lock"),
        ("double", {"n": lambda: None}, {}, "state", "n", "builtins.function"),
        ("note", {"log": [], "n": 1}, {"line": threading.Lock()}, "input", "line", "_thread.lock"),
        ("make_lock", {}, {}, "state", "made", "_thread.lock"),
        ("give_lock", {}, {}, "result", "lock", "_thread.lock"),
    ],
)
async def test_what_cannot_travel_is_named(
    open_bench: OpenBench, action: str, state: dict[str, object], inputs: dict[str, object], where: str, key: str, kind: str
) -> None:
    bench = await open_bench("process", processes=1)

    with pytest.raises(CannotTravel, match=f"action '{action}': {where} key '{key}'") as caught:
        await bench.outcome(action, state, **inputs)
    assert (caught.value.where, caught.value.key) == (where, key)
    assert kind in str(caught.value)
    assert await bench.after("double", {"n": 1}) == {"n": 2}


async def test_an_item_that_cannot_travel_is_named(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)

    with pytest.raises(CannotTravel, match="action 'send_lock': item 1") as caught:
        await bench.items("send_lock")
    assert (caught.value.where, caught.value.key) == ("item", "1")


async def test_no_value_is_in_the_message_about_what_cannot_travel(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)

    with pytest.raises(CannotTravel) as caught:
        await bench.outcome("double", {"n": {"token": "hunter2", "lock": threading.Lock()}})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_an_error_that_cannot_be_pickled_comes_as_its_name_and_message(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)

    with pytest.raises(RemoteActionError, match="action 'refuse_stubbornly' raised Stubborn: will not travel") as caught:
        await bench.outcome("refuse_stubbornly")
    assert caught.value.type_name == "Stubborn"


async def test_an_error_brings_the_traceback_of_the_other_process_along(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)

    with pytest.raises(Refused) as caught:
        await bench.outcome("refuse", {"n": 1})
    assert 'raise Refused("no", state["n"])' in str(caught.value.__cause__)


async def test_only_what_the_action_reads_and_writes_travels(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)

    assert await bench.after("double", {"n": 1, "connection": threading.Lock()}) | {"connection": None} == {
        "n": 2,
        "connection": None,
    }


async def test_a_machine_that_has_no_path_cannot_be_found_elsewhere(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)

    with pytest.raises(RungUnavailable, match="machine 'homeless' was not loaded from a path") as caught:
        await bench.executors.call(call_of("double", {"n": 1}, {}), owner=CallOwner("s", "homeless", "double"))
    assert caught.value.retry_after_s is None


async def test_a_machine_that_cannot_be_loaded_there_says_why(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)
    bench.executors.register("lost", source=MachineSource("rung_machine:load", "nowhere"), executor="process")

    with pytest.raises(LookupError, match="no machine 'nowhere'"):
        await bench.executors.call(call_of("double", {"n": 1}, {}), owner=CallOwner("s", "lost", "double"))


@pytest.mark.parametrize(("function", "kind"), [(rung_machine.double, "plain"), (rung_machine.count, "streaming")])
async def test_an_action_that_the_machines_graph_does_not_have_is_carried_along(
    open_bench: OpenBench, function: Any, kind: str
) -> None:
    bench = await open_bench("process", processes=1)
    record = CompiledAction(create_action(function, "double"))  # the graph has another one of that name
    inputs = {"items": 2} if kind == "streaming" else {}
    call = blocking_call(record, record.view(State({"n": 4})), inputs)

    if kind == "streaming":
        *_, outcome = [item async for item in bench.executors.stream(call, owner=bench.owner("double"))]
        assert outcome.result == {"items": 2}
    else:
        assert (await bench.executors.call(call, owner=bench.owner("double"))).result == {"was": 4}


async def test_an_action_that_cannot_be_carried_along_is_named(open_bench: OpenBench) -> None:
    bench = await open_bench("process", processes=1)
    record = CompiledAction(create_action(action(reads=[], writes=[])(lambda state: state), "inline"))

    with pytest.raises(CannotTravel, match="action 'inline' is not of the machine's graph") as caught:
        await bench.executors.call(blocking_call(record, record.view(State({})), {}), owner=bench.owner("inline"))
    assert caught.value.where == "action"


def test_no_worker_outlives_a_service_that_is_killed(tmp_path: Path) -> None:
    told, leave = tmp_path / "pid", tmp_path / "leave"
    script = f"""
        import asyncio
        from rung_bench import SOURCE, call_of
        from app.executors.ladder import Executors, ExecutorSettings
        from app.executors.owner import CallOwner

        async def main():
            async with Executors(ExecutorSettings(processes=1)) as executors:
                executors.register("rung", source=SOURCE, executor="process")
                inputs = {{"entered": {str(told)!r}, "leave": {str(leave)!r}}}
                await executors.call(call_of("linger", {{}}, inputs), owner=CallOwner("s", "rung", "linger"))

        asyncio.run(main())
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=environment) as service:

        async def scene() -> None:
            await until(told.exists)
            worker = int(told.read_text())
            assert is_alive(worker)
            service.kill()
            await until(lambda: not is_alive(worker))

        asyncio.run(scene())
