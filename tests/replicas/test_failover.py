"""Two real services over one PostgreSQL, one of which is killed, stopped or frozen: what was begun there ends, once."""

import asyncio
import contextlib
import json
import signal
import textwrap
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.service_process import ServiceProcess, running_service

LIMIT_S = 60.0  # for what takes a few seconds on a machine that does nothing else
GRACE_S = 100.0

MACHINE = """
    import asyncio
    from app.engine import ApplicationBuilder, State, action, expr

    @action(reads=["n"], writes=["n", "log"])
    async def tick(state: State, pause_s: float = 0.0) -> tuple[dict, State]:
        await asyncio.sleep(0.05)
        return {"n": state["n"] + 1}, state.increment(n=1).append(log=state["n"])

    def clock() -> ApplicationBuilder:
        return (
            ApplicationBuilder()
            .with_actions(tick)
            .with_transitions(("tick", "tick", expr("n < 1000")))
            .with_state(n=0, log=[])
            .with_entrypoint("tick")
        )
"""


@dataclass
class Replica:
    service: ServiceProcess
    client: httpx.AsyncClient


@dataclass
class Told:
    """What a stream has told so far."""

    ids: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    last: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, steps: int) -> None:
        while len(self.finished) < steps:
            self.changed.clear()
            await self.changed.wait()


@contextlib.asynccontextmanager
async def two_replicas(
    url: str, folder: Path, *, machine: str = MACHINE, names: tuple[str, ...] = ("clock.py",), **variables: str
) -> AsyncIterator[list[Replica]]:
    """Two services with these settings, which know of each other."""
    (folder / "clock.py").write_text(textwrap.dedent(machine))
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            arguments = ("--database-url", url, *names)
            service = stack.enter_context(running_service(*arguments, cwd=folder, variables=variables))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=service.url, timeout=60))
            made.append(Replica(service, client))
        await until_acquainted(url)
        yield made


@pytest.fixture
async def replicas(postgres_store_url: str, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    async with two_replicas(postgres_store_url, tmp_path) as made:
        yield made


async def until_acquainted(url: str) -> None:
    """Return when each replica has said that it lives after the other had come: from now on they know of each other."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(LIMIT_S):
            while not await connection.fetchval("SELECT min(heartbeat_at) > max(started_at) FROM replicas"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def session_at(replica: Replica, name: str) -> str:
    """A session that `replica` has claimed; its first step is taken."""
    assert (await replica.client.post("/v1/sessions", json={"machine": "clock", "id": name})).status_code == 201
    assert (await replica.client.post(f"/v1/sessions/{name}/steps", json={})).status_code == 200
    return f"/v1/sessions/{name}"


async def read(response: httpx.Response, told: Told) -> None:
    frame: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            frame[name] = value
            continue
        if "event" in frame:
            told.ids.append(int(frame["id"]))
            told.last = frame["event"]
            if told.last == "step.finished":
                told.finished.append(json.loads(frame["data"])["seq"])
            told.changed.set()
        frame = {}


async def stream_run(replica: Replica, path: str, told: Told, max_steps: int) -> None:
    body, headers = {"max_steps": max_steps}, {"Accept": "text/event-stream"}
    async with replica.client.stream("POST", f"{path}/runs", json=body, headers=headers) as response:
        assert response.status_code == 200
        await read(response, told)


async def follow(replica: Replica, path: str, told: Told) -> None:
    async with replica.client.stream("GET", f"{path}/events", headers={"Last-Event-ID": "0"}) as response:
        await read(response, told)


async def until_ended(replica: Replica, path: str, run_id: str) -> dict[str, Any]:
    """The run when it has ended; it may take what a failover takes and the steps that are left."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            run: dict[str, Any] = (await replica.client.get(f"/v1/runs/{run_id}")).json()
            if run.get("finished_at"):
                return run
            await asyncio.sleep(0.05)


async def check_log(replica: Replica, path: str, steps: int) -> None:
    found = (await replica.client.get(path)).json()
    assert (found["seq"], found["state"]) == (steps - 1, {"n": steps, "log": list(range(steps))})
    items = (await replica.client.get(f"{path}/steps", params={"limit": 1000})).json()["items"]
    assert [step["seq"] for step in items] == list(range(steps))


async def test_what_a_killed_replica_had_begun_ends_on_the_other(replicas: list[Replica]) -> None:
    owner, other = replicas
    paths = [await session_at(owner, name) for name in ("streamed", "waited", "background", "keyed")]
    told = Told()
    streaming = asyncio.create_task(stream_run(other, paths[0], told, 60))
    waiting = asyncio.create_task(other.client.post(f"{paths[1]}/runs", json={"max_steps": 40}))
    accepted = await owner.client.post(f"{paths[2]}/runs", json={"max_steps": 40}, headers={"Prefer": "respond-async"})
    key = {"Idempotency-Key": "only-once"}
    keyed = asyncio.create_task(owner.client.post(f"{paths[3]}/runs", json={"max_steps": 40}, headers=key))
    await told.until(5)
    owner.service.kill()
    killed_s = time.monotonic()
    steps_then = len(told.finished)
    with pytest.raises(httpx.TransportError):
        await keyed
    again = asyncio.create_task(other.client.post(f"{paths[3]}/runs", json={"max_steps": 40}, headers=key))
    await told.until(steps_then + 2)
    assert time.monotonic() - killed_s < LIMIT_S
    await streaming
    assert (told.last, told.finished) == ("run.finished", list(range(1, 61)))
    assert told.ids == sorted(set(told.ids))
    answer = await waiting
    assert (answer.status_code, answer.json()["steps"], answer.json()["seq"]) == (200, 40, 40)
    assert (await again).json()["seq"] == 40
    run = await until_ended(other, paths[2], accepted.json()["id"])
    assert (run["status"], run["steps"]) == ("finished", 40)
    for path, steps in zip(paths, (61, 41, 41, 41), strict=True):
        await check_log(other, path, steps)


async def replicas_at(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM replicas"))
    finally:
        await connection.close()


async def test_a_replica_that_is_stopped_hands_its_runs_over(replicas: list[Replica], postgres_store_url: str) -> None:
    owner, other = replicas
    paths = [await session_at(owner, name) for name in ("streamed", "background")]
    told = Told()
    streaming = asyncio.create_task(stream_run(other, paths[0], told, 50))
    accepted = await owner.client.post(f"{paths[1]}/runs", json={"max_steps": 30}, headers={"Prefer": "respond-async"})
    await told.until(3)
    assert await asyncio.to_thread(owner.service.stop) == 0
    assert await replicas_at(postgres_store_url) == 1, "nobody has to wait until it is taken for dead"
    await streaming
    assert (told.last, told.finished) == ("run.finished", list(range(1, 51)))
    run = await until_ended(other, paths[1], accepted.json()["id"])
    assert (run["status"], run["steps"]) == ("finished", 30)
    assert "Traceback" not in owner.service.text() + other.service.text()


async def test_a_replica_that_is_stopped_lets_go_of_what_it_passes_on(postgres_store_url: str, tmp_path: Path) -> None:
    async with two_replicas(postgres_store_url, tmp_path, STEPWELL_SHUTDOWN_GRACE_S=str(GRACE_S)) as (owner, other):
        await check_letting_go(owner, other)


async def check_letting_go(owner: Replica, other: Replica) -> None:
    paths = [await session_at(owner, name) for name in ("followed", "waited-for")]
    told = Told()
    following = asyncio.create_task(follow(other, paths[0], told))
    waiting = asyncio.create_task(other.client.post(f"{paths[1]}/runs", json={"max_steps": 900}))
    await told.until(1)
    while (await owner.client.get(paths[1])).json()["status"] != "running":  # noqa: ASYNC110 - it is told by polling alone
        await asyncio.sleep(0.05)
    began_s = time.monotonic()
    assert await asyncio.to_thread(other.service.stop) == 0
    assert time.monotonic() - began_s < GRACE_S / 2, "a server that gives up on its answers takes its whole grace and more"
    assert "Traceback" not in other.service.text()
    await following
    refused = await waiting
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:stepwell:problem:shutting-down")
    assert (await owner.client.get(paths[1])).json()["status"] == "running"


async def test_a_replica_that_was_frozen_finds_its_sessions_gone(replicas: list[Replica]) -> None:
    owner, other = replicas
    path = await session_at(owner, "frozen")
    told, seen_by_owner = Told(), Told()
    following = asyncio.create_task(follow(owner, path, seen_by_owner))
    streaming = asyncio.create_task(stream_run(other, path, told, 120))
    await told.until(3)
    owner.service.process.send_signal(signal.SIGSTOP)
    try:
        steps_then = len(told.finished)
        await told.until(steps_then + 5)
    finally:
        owner.service.process.send_signal(signal.SIGCONT)
    answer = await owner.client.post(f"{path}/steps", json={"on_busy": "enqueue"})
    assert (answer.status_code, answer.json()["seq"]) == (200, 121)
    await streaming
    assert (told.last, told.finished) == ("run.finished", list(range(1, 121)))
    await seen_by_owner.until(122)
    following.cancel()
    assert seen_by_owner.finished == list(range(122))
    assert seen_by_owner.ids == sorted(set(seen_by_owner.ids))
    await check_log(owner, path, 122)
