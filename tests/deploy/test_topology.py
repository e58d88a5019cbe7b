"""The topology of the compose file, run for real: nginx, two replicas, one PostgreSQL. Clients know nginx's address alone."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.topology import Topology, running_topology
from tests.postgres import fresh_database
from tests.sse import events

SESSIONS = 16  # enough for each replica to have some
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def topology(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """One that everybody leaves as it is."""
    with fresh_database(postgres_server) as url, running_topology(url, tmp_path_factory.mktemp("topology")) as started:
        yield started


@pytest.fixture
def mortal_topology(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Topology]:
    """One for a single test, over a database that is reached straight or through a pooler."""
    url = request.getfixturevalue(f"{database}_url")
    with running_topology(url, tmp_path, STEPWELL_PGBOUNCER=str(database == "pgbouncer")) as started:
        yield started


@pytest.fixture
async def client(topology: Topology) -> AsyncIterator[httpx.AsyncClient]:
    async with topology.client() as made:
        yield made


async def create(client: httpx.AsyncClient, machine: str = "clock", **fields: Any) -> str:
    made = await client.post("/v1/sessions", json={"machine": machine, **fields})
    assert made.status_code == 201, made.text
    return f"/v1/sessions/{made.json()['id']}"


async def test_requests_and_refusals_come_through(client: httpx.AsyncClient) -> None:
    path = await create(client, id="a~b:c@d")
    for seq in range(6):
        answer = await client.post(f"{path}/steps", json={}, headers={"Prefer": "return=minimal"})
        assert (answer.status_code, answer.json()["seq"], answer.headers["ETag"]) == (200, seq, f'"{seq}"')
    refusals = {
        "/v1/sessions/no%2Fbody": (422, "urn:stepwell:problem:id-invalid"),
        "/v1/sessions/no%20body": (422, "urn:stepwell:problem:id-invalid"),
        "/v1/sessions/nobody": (404, "urn:stepwell:problem:session-not-found"),
        f"/v1/sessions/{'x' * 20_000}": (414, "about:blank"),
    }
    for url, expected in refusals.items():
        answer = await client.get(url)
        assert (answer.status_code, answer.json()["type"]) == expected
        assert (answer.json()["status"], answer.headers["content-type"]) == (answer.status_code, "application/problem+json")


async def test_a_body_that_is_too_large_is_refused_with_the_services_own_words(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b" " * 10_000

    path = await create(client)
    json_type = {"Content-Type": "application/json"}
    expected = {
        "type": "urn:stepwell:problem:body-too-large",
        "title": "The body is too large",
        "status": 413,
        "detail": "the body is larger than 4000000 bytes",
        "limit_bytes": 4_000_000,
    }
    for content in (b" " * 10_000_000, chunks(), b" " * 4_000_001):
        answer = await client.post(f"{path}/steps", content=content, headers=json_type)
        assert (answer.status_code, answer.json()) == (413, expected)
        assert answer.headers["content-type"] == "application/problem+json"
    fits = await client.post(f"{path}/steps", content=b"{}" + b" " * 3_999_998, headers=json_type)
    assert (fits.status_code, fits.json()["seq"]) == (200, 0)


async def test_a_client_cannot_pass_for_a_replica(client: httpx.AsyncClient, topology: Topology) -> None:
    path = await create(client)
    forged = {"Stepwell-Forwarded-To": "somebody", "Stepwell-Run-Id": "mine", "Stepwell-Attempt": "2"}
    through = await client.post(f"{path}/steps", json={}, headers=forged)
    assert (through.status_code, through.json()["run_id"] != "mine") == (200, True)
    for replica in topology.replicas.values():
        straight = await client.post(f"{replica.url}{path}/steps", json={}, headers=forged)
        assert straight.status_code == 421


async def test_an_event_arrives_before_the_next_one_is_made(client: httpx.AsyncClient, tmp_path: Path) -> None:
    path = await create(client, "teller")
    body, headers = {"inputs": {"folder": str(tmp_path)}}, {"Accept": "text/event-stream"}
    told = []
    async with asyncio.timeout(LIMIT_S), client.stream("POST", f"{path}/runs", json=body, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for _, kind, data in events(response):
            told.append(kind)
            if kind == "step.item":
                (tmp_path / f"seen-{data['index']}").touch()  # the action waits for this
    assert told == ["run.started", "step.started", *["step.item"] * 5, "step.finished", "run.finished"]


async def test_a_stream_goes_on_at_the_other_replica(client: httpx.AsyncClient, topology: Topology) -> None:
    path = await create(client)
    told: list[tuple[int, str, Any]] = []
    async with client.stream(
        "POST", f"{path}/runs", json={"max_steps": 100}, headers={"Accept": "text/event-stream"}
    ) as response:
        run = response.headers["Location"]
        async for event in events(response):
            told.append(event)
            if len(told) == 9:
                break
    texts = []
    for base in (topology.url, *(replica.url for replica in topology.replicas.values())):
        again = list(told)
        headers = {"Last-Event-ID": str(told[-1][0])}
        async with asyncio.timeout(LIMIT_S), client.stream("GET", f"{base}{run}/events", headers=headers) as response:
            again += [event async for event in events(response)]
        assert [data["seq"] for _, kind, data in again if kind == "step.finished"] == list(range(100))
        assert [event_id for event_id, _, _ in again] == sorted({event_id for event_id, _, _ in again})
        texts.append(again)
    assert texts[0] == texts[1] == texts[2]


async def insist(client: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    """POST until it is answered, as the documents tell a client to: with a key of its own."""
    headers["Idempotency-Key"] = uuid.uuid4().hex
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = await client.post(path, json=body, headers=headers)
            if answer.is_success:
                return answer
            assert answer.status_code in (502, 503), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["Retry-After"]) >= 1
        await asyncio.sleep(0.1)


async def keep_stepping(
    client: httpx.AsyncClient, path: str, steps: int, seen: asyncio.Queue[int], gone: asyncio.Event
) -> list[int]:
    """Take `steps` steps one by one, the last of them when a replica is gone."""
    taken = []
    for number in range(steps):
        if number == steps - 1:
            await gone.wait()
        taken.append((await insist(client, f"{path}/steps", {})).json()["seq"])
        seen.put_nowait(1)
    return taken


async def keep_following(client: httpx.AsyncClient, path: str, until_seq: int) -> tuple[list[int], int]:
    """The `seq` of each finished step up to `until_seq`, as told by as many streams as it takes, and how many those were."""
    told, last_id, streams = [], 0, 0
    while True:
        streams += 1
        with contextlib.suppress(httpx.TransportError):
            async with client.stream("GET", f"{path}/events", headers={"Last-Event-ID": str(last_id)}) as response:
                async for event_id, kind, data in events(response):
                    assert event_id > last_id
                    last_id = event_id
                    if kind == "step.finished":
                        told.append(data["seq"])
                        if data["seq"] == until_seq:
                            return told, streams
        await asyncio.sleep(0.1)


async def until_ended(client: httpx.AsyncClient, run: str) -> dict[str, Any]:
    while True:
        with contextlib.suppress(httpx.TransportError):
            found: dict[str, Any] = (await client.get(run)).json()
            if found.get("finished_at"):
                return found
        await asyncio.sleep(0.1)


@pytest.mark.timeout(240)  # it starts three processes, and one of them has to be taken for dead
@pytest.mark.parametrize(("how", "database"), [("killed", "postgres"), ("stopped", "postgres"), ("killed", "pgbouncer")])
async def test_requests_and_streams_go_on_when_a_replica_is(how: str, mortal_topology: Topology) -> None:
    topology, steps = mortal_topology, 12
    limits = httpx.Limits(max_connections=4 * SESSIONS)
    async with (
        httpx.AsyncClient(base_url=topology.url, timeout=LIMIT_S, limits=limits) as client,
        asyncio.timeout(90),
        asyncio.TaskGroup() as tasks,
    ):
        paths = [await create(client) for _ in range(SESSIONS)]
        seen: asyncio.Queue[int] = asyncio.Queue()
        gone = asyncio.Event()
        stepping = [tasks.create_task(keep_stepping(client, path, steps, seen, gone)) for path in paths]
        following = [tasks.create_task(keep_following(client, path, steps - 1)) for path in paths]
        promised = []
        for _ in range(4):
            accepted = await insist(client, f"{await create(client)}/runs", {"max_steps": 60}, Prefer="respond-async")
            assert accepted.status_code == 202
            promised.append(accepted.headers["Location"])
        for _ in range(3 * SESSIONS):
            await seen.get()
        goer = topology.replicas["replica-1"]
        if how == "killed":
            goer.kill()
        else:
            stopped = tasks.create_task(asyncio.to_thread(goer.stop))
        for _ in range(6):
            assert (await insist(client, "/v1/sessions", {"machine": "clock"})).status_code == 201
        if how == "stopped":
            assert await stopped == 0
            assert "Traceback" not in goer.text()
        gone.set()
        assert [await task for task in stepping] == [list(range(steps))] * SESSIONS
        followed = [await task for task in following]
        assert [told for told, _ in followed] == [list(range(steps))] * SESSIONS
        assert any(streams > 1 for _, streams in followed), "the replica that went had followers"
        ended = [await until_ended(client, run) for run in promised]
        assert [(run["status"], run["steps"]) for run in ended] == [("finished", 60)] * len(promised)
        for path in paths:
            items = (await client.get(f"{path}/steps", params={"limit": 100})).json()["items"]
            assert [step["result"]["n"] for step in items] == list(range(1, steps + 1))
        topology.replicas["replica-2"].kill()
        unanswered = await client.post("/v1/sessions", json={"machine": "clock"})
        assert (unanswered.status_code, unanswered.json()["status"], unanswered.headers["Retry-After"]) == (502, 502, "2")
        assert unanswered.headers["content-type"] == "application/problem+json"
