"""Followers on any replica: every event in order, items included, also when the replica that runs the session is killed."""

import asyncio
from collections import Counter

import httpx
import pytest

from tests.chaos.cluster import Cluster, Replica, running_cluster
from tests.chaos.witness import LAST, Told
from tests.sse import events

LIMIT_S = 60.0
STEPS = 48
FOLLOWERS = 40


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=LIMIT_S, limits=httpx.Limits(max_connections=None), verify=False, trust_env=False)


async def follow(http: httpx.AsyncClient, replicas: list[Replica], path: str, seen: list[Told], hop_after: int | None) -> None:
    """Follow to the end of the first run; with `hop_after` go on at the next replica after so many events, or when one breaks."""
    number = 0
    while not any(event.kind in LAST for event in seen):
        replica = replicas[number % len(replicas)]
        number += 1
        headers = {"Last-Event-ID": str(seen[-1].id if seen else 0)}
        try:
            async with http.stream("GET", f"{replica.url}{path}/events", headers=headers) as answer:
                came = 0
                async for told in events(answer):
                    event = Told(*told)
                    seen.append(event)
                    came += 1
                    if event.kind in LAST or came == hop_after:
                        break
        except httpx.TransportError:
            await asyncio.sleep(0.1)


async def steps_told(seen: list[Told], count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while sum(event.kind == "step.finished" for event in seen) < count:  # noqa: ASYNC110  # a list gives no sign
            await asyncio.sleep(0.02)


def check(seen: list[Told], cut_short: range) -> None:
    """`cut_short` are the steps of which items may be missing: what was under way, and not seen yet, when their replica died."""
    assert [event.id for event in seen] == sorted({event.id for event in seen})
    assert [event.data["seq"] for event in seen if event.kind == "step.finished"] == list(range(STEPS))
    assert (seen[0].kind, seen[-1].kind) == ("run.started", "run.finished")
    items = Counter(event.data["seq"] for event in seen if event.kind == "step.item")
    told_steps = [event.data["seq"] for event in seen if event.kind == "step.finished" and event.data["action"] == "tell"]
    assert [seq for seq in told_steps if items[seq] != 3 and seq not in cut_short] == []


@pytest.mark.timeout(300)
async def test_every_follower_sees_every_event_also_when_the_owner_is_killed() -> None:
    async with running_cluster() as cluster, client() as http, asyncio.TaskGroup() as group:
        owner, other = cluster.replicas
        path = "/v1/sessions/followed"
        assert (await http.post(f"{owner.url}/v1/sessions", json={"machine": "ledger", "id": "followed"})).status_code == 201
        at_the_other: list[Told] = []
        hopping: list[Told] = []
        following = [
            group.create_task(follow(http, [other], path, at_the_other, None)),
            group.create_task(follow(http, [other, owner], path, hopping, 7)),
        ]
        headers = {"Prefer": "respond-async"}
        asked = {"max_steps": STEPS}
        assert (await http.post(f"{owner.url}{path}/runs", json=asked, headers=headers)).status_code == 202
        await steps_told(at_the_other, STEPS // 3)
        killed = await replica_that_runs(cluster, path)
        await asyncio.to_thread(killed.kill)
        stood = [sum(event.kind == "step.finished" for event in seen) for seen in (at_the_other, hopping)]
        if killed is other:
            await asyncio.to_thread(killed.start)
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*following)
        check(at_the_other, range(stood[0] - 1, max(stood) + 2))
        check(hopping, range(stood[1] - 1, max(stood) + 2))


async def replica_that_runs(cluster: Cluster, path: str) -> Replica:
    question = "SELECT r.url FROM sessions AS s JOIN replicas AS r ON r.id = s.claimed_by WHERE s.id = $1"
    (found,) = await cluster.ask(question, path.rpartition("/")[2])
    return next(replica for replica in cluster.replicas if replica.url == found["url"])


@pytest.mark.timeout(300)
async def test_followers_hold_no_connection_to_the_database() -> None:
    async with running_cluster() as cluster, client() as http, asyncio.TaskGroup() as group:
        owner, other = cluster.replicas
        before = await connections(cluster)
        paths = [f"/v1/sessions/s{number}" for number in range(FOLLOWERS)]
        for path in paths:
            body = {"machine": "ledger", "id": path.rpartition("/")[2]}
            assert (await http.post(f"{owner.url}/v1/sessions", json=body)).status_code == 201
        seen: list[list[Told]] = [[] for _ in range(2 * FOLLOWERS)]
        following = [
            group.create_task(follow(http, [replica], path, seen[2 * number + which], None))
            for number, path in enumerate(paths)
            for which, replica in enumerate((owner, other))
        ]
        answers = await asyncio.gather(*(http.post(f"{owner.url}{path}/runs", json={"max_steps": 2}) for path in paths))
        assert {answer.status_code for answer in answers} == {200}
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*following)
        assert {event.kind for each in seen for event in each[-1:]} == {"run.finished"}
        still = [group.create_task(follow(http, [replica], path, [], None)) for path in paths for replica in (owner, other)]
        for path in paths:  # with as many followers as that, whoever wants the database gets it
            assert (await http.post(f"{other.url}{path}/steps")).status_code == 200
        assert await connections(cluster) <= before + 2 * POOL
        for task in still:
            task.cancel()
        await asyncio.gather(*still, return_exceptions=True)


POOL = 8  # of each replica, as it is by default


async def connections(cluster: Cluster) -> int:
    busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    assert (await cluster.ask(f"{busy} AND state LIKE 'idle in transaction%'"))[0]["count"] == 0
    return int((await cluster.ask(busy))[0]["count"])
