"""The topology of the compose file, run for real: nginx, two replicas, one PostgreSQL. Clients know nginx's address alone."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.topology import Topology, running_topology
from tests.postgres import fresh_database
from tests.sse import events

LIMIT_S = 30.0


@pytest.fixture(scope="module")
def topology(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """One that everybody leaves as it is."""
    with fresh_database(postgres_server) as url, running_topology(url, tmp_path_factory.mktemp("topology")) as started:
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
        "/v1/sessions/no%2Fbody": (404, "urn:stepwell:problem:path-unknown"),
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
