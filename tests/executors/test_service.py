"""The promise as a whole, against a real service: something goes wrong with one session's executor, and only with that."""

import asyncio
import os
import signal
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from blocking import AT_ONCE_S, until
from dask_cluster import DaskCluster

from tests.service_process import ServiceProcess, running_service

MACHINES = """
    import os
    import time
    from pathlib import Path
    from contextvars import ContextVar
    from app.engine import ApplicationBuilder, PostRunStepHook, PreRunStepHook, State, action
    from app.engine.machine import machine
    from app.engine.parallelism import MapStates

    @action(reads=["n"], writes=["n"])
    def step(state: State, entered: str = "", leave: str = "") -> State:
        if entered:
            stay(entered, leave)
        return state.increment(n=1)

    def stay(entered: str, leave: str) -> None:
        Path(entered).with_suffix(".new").write_text(str(os.getpid()))
        Path(entered).with_suffix(".new").rename(entered)
        while not Path(leave).exists():
            time.sleep(0.005)

    @action(reads=["n"], writes=["n"])
    async def block(state: State, for_s: float = 0.0, entered: str = "", leave: str = "") -> State:
        time.sleep(for_s)
        if entered:
            stay(entered, leave)
        return state.increment(n=1)

    @action(reads=["n"], writes=["n"])
    async def quick(state: State) -> State:
        return state.increment(n=1)

    @action(reads=["n"], writes=["n"], retry=2)
    def flaky(state: State, folder: str) -> State:
        attempts = len(list(Path(folder).glob("attempt-*")))
        (Path(folder) / f"attempt-{attempts}").touch()
        if attempts == 0:
            raise OSError("not yet")
        return state.increment(n=1)

    @action(reads=["n"], writes=["n"], timeout_s=3.0)
    def slow(state: State, leave: str = "") -> State:
        while leave and not Path(leave).exists():
            time.sleep(0.005)
        return state.increment(n=1)

    @action(reads=["item"], writes=["pid"])
    def branch(state: State) -> State:
        return state.update(pid=os.getpid())

    class Fan(MapStates):
        def is_async(self): return True
        @property
        def reads(self): return ["n"]
        @property
        def writes(self): return ["n", "pids"]
        def action(self, state, inputs): return branch
        async def states(self, state, context, inputs):
            for item in range(20):
                yield State({"item": item})
        async def reduce(self, state, states):
            return state.update(n=state["n"] + 1, pids=[each["pid"] async for each in states])

    tokens = {}
    spans = ContextVar("spans", default=0)

    class Span(PreRunStepHook, PostRunStepHook):
        def pre_run_step(self, *, app_id, **_):
            tokens[app_id] = spans.set(spans.get() + 1)
        def post_run_step(self, *, app_id, **_):
            assert spans.get() == 1
            spans.reset(tokens.pop(app_id))

    def of(name, function):
        return (
            ApplicationBuilder().with_actions(**{name: function}).with_transitions((name, name))
            .with_state(n=0).with_entrypoint(name)
        )

    @machine(executor="thread")
    def threads() -> ApplicationBuilder:
        return of("step", step)

    @machine(executor="process")
    def processes() -> ApplicationBuilder:
        return of("step", step)

    @machine(executor="dask")
    def cluster() -> ApplicationBuilder:
        return of("step", step)

    @machine
    def blockers() -> ApplicationBuilder:
        return of("block", block)

    @machine
    def quickly() -> ApplicationBuilder:
        return of("quick", quick)

    @machine
    def retrying() -> ApplicationBuilder:
        return of("flaky", flaky)

    @machine
    def hooked() -> ApplicationBuilder:
        return of("quick", quick).with_hooks(Span())

    @machine
    def fanning() -> ApplicationBuilder:
        return of("fan", Fan())

    @machine
    def timing() -> ApplicationBuilder:
        return of("slow", slow)
"""
NAMES = ("threads", "processes", "cluster", "blockers", "quickly", "retrying", "timing", "fanning", "hooked")


class Client:
    """Sessions of one service over HTTP."""

    def __init__(self, http: httpx.AsyncClient, folder: Path) -> None:
        self.http = http
        self.folder = folder

    async def session(self, machine: str) -> str:
        answer = await self.http.post("/v1/sessions", json={"machine": machine})
        assert answer.status_code == 201, answer.text
        found: str = answer.json()["id"]
        return found

    async def step(self, session: str, **inputs: Any) -> httpx.Response:
        return await self.http.post(f"/v1/sessions/{session}/steps", json={"inputs": inputs})

    async def begin(self, session: str) -> "tuple[asyncio.Task[httpx.Response], int]":
        """Begin a step that stays until `leave` is there; return it and the pid of the process that is at it."""
        entered = self.folder / f"entered-{session}"
        task = asyncio.ensure_future(self.step(session, entered=str(entered), leave=str(self.leave)))
        await until(lambda: entered.exists() or task.done())
        assert not task.done(), task.result().text
        return task, int(entered.read_text())

    @property
    def leave(self) -> Path:
        return self.folder / "leave"

    async def history(self, session: str) -> list[int]:
        """The `seq` of every committed step."""
        state = (await self.http.get(f"/v1/sessions/{session}")).json()
        steps = (await self.http.get(f"/v1/sessions/{session}/steps", params={"limit": 100})).json()["items"]
        assert [each["seq"] for each in steps] == sorted({each["seq"] for each in steps})
        assert state["state"]["n"] == len(steps)
        return [each["seq"] for each in steps]

    async def warnings(self, machine: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.http.get(f"/v1/machines/{machine}")).json()["warnings"]
        return found


@pytest.fixture
def machines(tmp_path: Path) -> list[str]:
    (tmp_path / "shop.py").write_text(textwrap.dedent(MACHINES))
    return [f"shop.py:{name}" for name in NAMES]


@asynccontextmanager
async def client_of(service: ServiceProcess, folder: Path) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        yield Client(http, folder)


@pytest.fixture
def serve(tmp_path: Path, machines: list[str]) -> Any:
    def start(**variables: str) -> Any:
        return running_service(*machines, "--database-url", "memory://", cwd=tmp_path, variables=variables)

    return start


async def test_a_worker_killed_mid_step_fails_that_step_and_nothing_else(serve: Any, tmp_path: Path) -> None:
    with serve(STEPWELL_PROCESSES="2") as service:
        async with client_of(service, tmp_path) as client:
            victim, bystander, other = [await client.session(name) for name in ("processes", "processes", "threads")]
            assert (await client.step(victim)).status_code == 200
            doomed, pid = await client.begin(victim)
            running, _ = await client.begin(bystander)

            os.kill(pid, signal.SIGKILL)
            failed = await doomed
            assert failed.status_code == 424, failed.text
            assert failed.json()["error_type"].endswith("WorkerDied")
            assert "killed by SIGKILL" in failed.json()["message"]
            assert (await client.step(other)).status_code == 200
            client.leave.touch()
            assert (await running).status_code == 200

            assert (await client.step(victim)).status_code == 200
            assert [await client.history(each) for each in (victim, bystander, other)] == [[0, 1], [0], [0]]


async def test_a_dask_scheduler_that_is_stopped_is_a_503_and_is_used_again_when_it_is_back(serve: Any, tmp_path: Path) -> None:
    with DaskCluster(tmp_path, workers=1) as dask, serve(STEPWELL_DASK=dask.address) as service:
        async with client_of(service, tmp_path) as client:
            session, other = await client.session("cluster"), await client.session("threads")
            assert (await client.step(session)).status_code == 200
            doomed, _ = await client.begin(session)

            await asyncio.to_thread(dask.kill)
            failed = await doomed
            assert (failed.status_code, failed.json()["rung"]) == (503, "dask"), failed.text
            assert int(failed.headers["Retry-After"]) >= 1
            assert (await client.step(other)).status_code == 200

            await asyncio.to_thread(dask.start)
            async with asyncio.timeout(60):
                while (again := await client.step(session)).status_code == 503:  # noqa: ASYNC110 - as a client would
                    await asyncio.sleep(int(again.headers["Retry-After"]))
            assert again.status_code == 200, again.text
            assert [await client.history(each) for each in (session, other)] == [[0, 1], [0]]


async def test_a_pool_that_is_used_up_refuses_at_once_and_recovers(serve: Any, tmp_path: Path) -> None:
    with serve(STEPWELL_THREADS="2") as service:
        async with client_of(service, tmp_path) as client:
            sessions = [await client.session("threads") for _ in range(5)]
            quick = await client.session("quickly")
            for session in sessions[:4]:  # two threads, and two in their place
                await client.begin(session)
                await cancel_run_of(client, session)

            began_s = time.perf_counter()
            refused = await client.step(sessions[4])
            assert time.perf_counter() - began_s < AT_ONCE_S
            assert (refused.status_code, refused.json()["pool"]) == (503, "thread"), refused.text
            assert int(refused.headers["Retry-After"]) >= 1
            assert (await client.step(quick)).status_code == 200

            client.leave.touch()
            await served_again(client, sessions[4])
            assert [await client.history(each) for each in (*sessions, quick)] == [[], [], [], [], [0], [0]]


async def cancel_run_of(client: Client, session: str) -> None:
    runs = (await client.http.get(f"/v1/sessions/{session}/runs")).json()["items"]
    began_s = time.perf_counter()
    answer = await client.http.post(f"/v1/runs/{runs[0]['id']}/cancel")
    assert answer.status_code < 300, answer.text
    assert (await client.http.get(f"/v1/sessions/{session}")).json()["status"] != "running"
    assert time.perf_counter() - began_s < AT_ONCE_S


async def served_again(client: Client, session: str) -> None:
    async with asyncio.timeout(60):
        while (await client.step(session)).status_code == 503:  # noqa: ASYNC110 - as a client would
            await asyncio.sleep(0.05)


async def test_an_async_action_that_blocks_is_named_with_its_line_and_isolated(serve: Any, tmp_path: Path) -> None:
    line = next(n for n, text in enumerate(textwrap.dedent(MACHINES).splitlines(), 1) if "time.sleep(for_s)" in text)
    with serve(STEPWELL_ISOLATE_BLOCKING="true") as service:
        async with client_of(service, tmp_path) as client:
            session = await client.session("blockers")
            for for_s in (1.0, 1.0, 0.2):
                assert (await client.step(session, for_s=for_s)).status_code == 200

            told = await client.warnings("blockers")
            assert [each["kind"] for each in told] == ["moved_to_private_loop", "loop_blocked"], told
            assert (told[1]["action"], told[1]["details"]["line"], told[1]["details"]["count"]) == ("block", line, 2)
            assert told[1]["details"]["file"] == str(tmp_path / "shop.py")
            slow, _ = await client.begin(session)
            assert (await client.http.get("/healthz")).status_code == 200
            client.leave.touch()
            assert (await slow).status_code == 200
    assert f"shop.py:{line}" in service.text()


@pytest.mark.parametrize("rung", ["thread", "process", "dask"])
async def test_timeouts_and_retries_hold_on_every_rung(
    serve: Any, tmp_path: Path, rung: str, request: pytest.FixtureRequest
) -> None:
    dask = request.getfixturevalue("dask_cluster").address if rung == "dask" else ""
    with serve(STEPWELL_EXECUTOR=rung, STEPWELL_DASK=dask, STEPWELL_PROCESSES="1") as service:
        async with client_of(service, tmp_path) as client:
            retried, timed = await client.session("retrying"), await client.session("timing")
            assert (await client.step(retried, folder=str(tmp_path))).status_code == 200
            assert sorted(os.listdir(tmp_path)) == ["attempt-0", "attempt-1", "shop.py"]

            assert (await client.step(timed)).status_code == 200
            began_s = time.perf_counter()
            failed = await client.step(timed, leave=str(client.leave))
            assert time.perf_counter() - began_s < 3 + AT_ONCE_S
            assert (failed.status_code, failed.json()["error_type"].rpartition(".")[2]) == (424, "ActionTimeout"), failed.text
            assert [await client.history(each) for each in (retried, timed)] == [[0], [0]]

            client.leave.touch()
            assert (await client.step(timed)).status_code == 200
            assert await client.history(timed) == [0, 1]


async def test_branches_of_a_parallel_action_run_where_the_service_says(serve: Any, tmp_path: Path) -> None:
    with serve(STEPWELL_EXECUTOR="process", STEPWELL_PROCESSES="2") as service:
        async with client_of(service, tmp_path) as client:
            answer = await client.step(await client.session("fanning"))

    assert answer.status_code == 200, answer.text
    pids = answer.json()["state"]["pids"]
    assert (len(pids), len(set(pids)) <= 2, service.process.pid in pids) == (20, True, False)


async def test_a_sync_hook_can_undo_what_another_one_has_set(serve: Any, tmp_path: Path) -> None:
    with serve() as service:
        async with client_of(service, tmp_path) as client:
            session = await client.session("hooked")
            for _ in range(5):
                answer = await client.step(session)
                assert answer.status_code == 200, answer.text
            assert await client.history(session) == [0, 1, 2, 3, 4]
