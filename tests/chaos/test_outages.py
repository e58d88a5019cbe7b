"""The database goes away for longer than anybody waits: it is said so meanwhile, and all goes on by itself afterwards."""

import asyncio
import time

import httpx
import pytest

from tests.chaos.cluster import Cluster, Replica, running_cluster
from tests.chaos.witness import LAST, Told
from tests.sse import events

AWAY_S = 3.0  # longer than a commit waits; `python -m tests.chaos --only outage` stays away for half a minute
LIMIT_S = 60.0
KEY = {"Idempotency-Key": "only-once"}


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=LIMIT_S, verify=False, trust_env=False)


async def session_at(http: httpx.AsyncClient, replica: Replica, name: str) -> str:
    """The path of a session that `replica` has; its first step is taken."""
    assert (await http.post(f"{replica.url}/v1/sessions", json={"machine": "ledger", "id": name})).status_code == 201
    assert (await http.post(f"{replica.url}/v1/sessions/{name}/steps")).status_code == 200
    return f"/v1/sessions/{name}"


async def stream(http: httpx.AsyncClient, url: str, max_steps: int, seen: list[Told], headers: dict[str, str]) -> None:
    headers = {"Accept": "text/event-stream", **headers}
    async with http.stream("POST", f"{url}/runs", json={"max_steps": max_steps}, headers=headers) as answer:
        assert answer.status_code == 200
        async for told in events(answer):
            seen.append(Told(*told))  # noqa: PERF401  # each is wanted as it comes


async def until(seen: list[Told], kind: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while kind not in [event.kind for event in seen]:  # noqa: ASYNC110  # a list gives no sign
            await asyncio.sleep(0.01)


async def check_refusal(answer: httpx.Response, began_s: float) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:stepwell:problem:store-unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - began_s < LIMIT_S / 3


@pytest.mark.timeout(300)  # starting services takes long on a machine that does other things as well
@pytest.mark.parametrize("replicas", [1, 2])
async def test_while_the_database_is_away_it_is_said_so_and_afterwards_all_goes_on(replicas: int) -> None:
    async with running_cluster(replicas) as cluster, client() as http, asyncio.TaskGroup() as group:
        owner, other = cluster.replicas[0], cluster.replicas[-1]
        streamed, stepped = [await session_at(http, owner, name) for name in ("streamed", "stepped")]
        before = await cluster.ids()
        seen: list[Told] = []
        streaming = group.create_task(stream(http, f"{other.url}{streamed}", 40, seen, KEY))
        await until(seen, "step.finished")
        await asyncio.to_thread(cluster.database.stop, "immediate")
        away_s = began_s = time.monotonic()
        await check_refusal(await http.post(f"{other.url}{stepped}/steps", headers=KEY), began_s)
        while time.monotonic() - away_s < AWAY_S:
            began_s = time.monotonic()
            await check_refusal(await http.post(f"{owner.url}{stepped}/steps", headers=KEY), began_s)
            await check_refusal(await http.get(f"{owner.url}/readyz"), began_s)
            assert (await http.get(f"{owner.url}/healthz")).status_code == 200
        await asyncio.to_thread(cluster.database.start)
        await streaming
        steps = [event.data["seq"] for event in seen if event.kind == "step.finished"]
        assert (seen[-1].kind, steps) == ("run.finished", list(range(1, 41)))
        assert [event.id for event in seen] == sorted({event.id for event in seen})
        answers = [await http.post(f"{replica.url}{stepped}/steps", headers=KEY) for replica in (owner, other)]
        assert [(answer.status_code, answer.json()["seq"]) for answer in answers] == [(200, 1), (200, 1)]
        assert await cluster.ids() == before, "nobody was taken for dead, who could not speak"
        for replica in cluster.replicas:
            assert (await http.get(f"{replica.url}/readyz")).status_code == 200


@pytest.mark.timeout(300)
async def test_a_streamed_run_that_vanishes_with_its_replica_is_started_again() -> None:
    async with running_cluster() as cluster, client() as http, asyncio.TaskGroup() as group:
        owner, other = cluster.replicas
        path = await session_at(http, owner, "streamed")
        await asyncio.to_thread(owner.line.order, "hold")  # nothing of the run can be stored
        seen: list[Told] = []
        streaming = group.create_task(stream(http, f"{other.url}{path}", 3, seen, {}))
        await until(seen, "run.started")
        await asyncio.to_thread(owner.kill)
        await asyncio.to_thread(owner.line.order, "cut")
        async with asyncio.timeout(LIMIT_S):
            await streaming
        assert [event.data["seq"] for event in seen if event.kind == "step.finished"] == [1, 2, 3]
        assert [event.kind for event in seen if event.kind in LAST] == ["run.finished"]
        assert len({event.data["run_id"] for event in seen}) == 1
        await check_runs(cluster, http, other, path)


async def check_runs(cluster: Cluster, http: httpx.AsyncClient, replica: Replica, path: str) -> None:
    runs = (await http.get(f"{replica.url}{path}/runs")).json()["items"]
    assert [(run["status"], run["steps"]) for run in runs] == [("finished", 1), ("finished", 3)]
    assert await cluster.unfinished() == 0
