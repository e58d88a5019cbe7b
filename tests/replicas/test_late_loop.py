"""A replica whose event loop is held by an action lives: it is named, and nobody takes its sessions."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.replicas.test_failover import LIMIT_S, Replica, two_replicas

MACHINE = """
    import asyncio
    import os
    import time
    from pathlib import Path
    from app.engine import ApplicationBuilder, State, action

    @action(reads=["n"], writes=["n"])
    async def block(state: State, for_s: float = 0.0) -> State:
        with Path("calls.log").open("a") as calls:
            calls.write(f"{os.getpid()}\\n")
        time.sleep(for_s or float(os.environ["BLOCK_S"]))
        return state.increment(n=1)

    @action(reads=["n"], writes=["n"])
    async def tick(state: State) -> State:
        return state.increment(n=1)

    def of(name: str, one: object) -> ApplicationBuilder:
        return ApplicationBuilder().with_state(n=0).with_actions(one).with_transitions((name, name)).with_entrypoint(name)

    def blocks() -> ApplicationBuilder:
        return of("block", block)

    def ticks() -> ApplicationBuilder:
        return of("tick", tick)
"""
NAMES = ("clock.py:blocks", "clock.py:ticks")
SILENT_S = 4.0  # after which a replica is taken for dead that says nothing


@pytest.fixture
async def replicas(postgres_store_url: str, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    async with two_replicas(postgres_store_url, tmp_path, machine=MACHINE, names=NAMES, BLOCK_S="6") as made:
        yield made


async def session_of(replica: Replica, name: str, machine: str) -> str:
    """A session that `replica` has claimed."""
    assert (await replica.client.post("/v1/sessions", json={"machine": machine, "id": name})).status_code == 201
    assert (await replica.client.patch(f"/v1/sessions/{name}", json={"state": {"set": {"n": 0}}})).status_code == 200
    return f"/v1/sessions/{name}"


async def calls_in(folder: Path, count: int) -> list[int]:
    """Return the processes that have called the action when it was called so often."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = (folder / "calls.log").read_text().split() if (folder / "calls.log").exists() else []
            if len(found) >= count:
                return list(map(int, found))
            await asyncio.sleep(0.05)


async def test_an_action_that_holds_the_loop_is_called_once_per_step_and_its_session_does_not_move(
    replicas: list[Replica], tmp_path: Path
) -> None:
    owner, other = replicas
    blocked, ticking = await session_of(owner, "blocked", "blocks"), await session_of(other, "ticking", "ticks")
    run = asyncio.create_task(owner.client.post(f"{blocked}/runs", json={"max_steps": 3}))
    took_s: list[float] = []
    await calls_in(tmp_path, 1)
    while not run.done():
        began_s = time.monotonic()
        assert (await other.client.post(f"{ticking}/steps", json={})).status_code == 200
        took_s.append(time.monotonic() - began_s)
        await asyncio.sleep(0.05)
    answer = (await run).json()
    assert (answer["steps"], answer["state"]["n"]) == (3, 3)
    assert await calls_in(tmp_path, 3) == [owner.service.process.pid] * 3
    assert median(took_s) < 1.0, "sessions of the other replica wait for nobody"
    said = owner.service.text() + other.service.text()
    assert "taken for dead" not in said
    assert "a replica is dead" not in said
    assert "the event loop does not turn; this replica lives and keeps its sessions" in owner.service.text()
    assert "a replica lives, but its event loop does not turn" in other.service.text()


async def test_others_say_so_in_time_when_the_owner_of_a_session_cannot_answer_and_take_over_when_it_is_killed(
    replicas: list[Replica], tmp_path: Path
) -> None:
    owner, other = replicas
    blocked = await session_of(owner, "blocked", "blocks")
    async with httpx.AsyncClient(base_url=owner.service.url, timeout=LIMIT_S) as client:
        begun = await client.post(
            f"{blocked}/runs",
            json={"max_steps": 1, "inputs": {"for_s": 600.0}},
            headers={"Prefer": "respond-async"},
        )
        assert begun.status_code == 202
        assert await calls_in(tmp_path, 1) == [owner.service.process.pid]
        for path in (f"{blocked}/steps", f"{blocked}/runs"):  # the first is sent, the second is not
            refused = await other.client.post(path, json={"on_busy": "enqueue"} if path.endswith("runs") else {})
            assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (503, "owner-late"), refused.text
            assert int(refused.headers["Retry-After"]) >= 1
        async with asyncio.timeout(LIMIT_S):
            while "stepwell_replicas_late 1.0" not in (await other.client.get("/metrics")).text:  # from its next beat on  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (await other.client.get("/readyz")).status_code == 200
        await asyncio.sleep(SILENT_S)  # it has been late for longer than it may be silent, and still has its sessions
        assert await calls_in(tmp_path, 1) == [owner.service.process.pid]
        owner.service.kill()
    killed_s = time.monotonic()
    assert await calls_in(tmp_path, 2) == [owner.service.process.pid, other.service.process.pid]
    assert time.monotonic() - killed_s < 20.0  # 10 on a machine that does nothing else
