"""Two replicas that both believe that they own a session: claims have failed, and `seq` alone keeps the log in order."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.persistence.sql_store import SqlStore
from app.sessions.host import SessionHost
from tests.replicas.conftest import Pair


async def name_of(host: SessionHost) -> str:
    assert host.store.replicas.id is not None
    return host.store.replicas.id


def impersonate(pair: Pair) -> None:
    """Let the second replica write under the name of the first."""
    name = pair.servers[0].call(name_of)

    async def rename(host: SessionHost) -> None:
        store = host.store
        assert isinstance(store, SqlStore)
        store._database.writer.claimant = name
        store.replicas.id = name  # type: ignore[misc]  # to be lied about is what this test is for

    pair.servers[1].call(rename)


async def last_claim_of(host: SessionHost, session: str) -> int:
    return (await host.store.get_session(session)).claim_no


def believe(pair: Pair, session: str) -> None:
    """Let the first replica take the second one's claim for its own."""

    async def renumber(host: SessionHost) -> None:
        live = await host.registry.alive(session)
        live.loaded = replace(live.loaded, claim_no=await last_claim_of(host, session))

    pair.servers[0].call(renumber)


async def secured(host: SessionHost) -> None:
    """Return when the start of the run that is under way is stored."""
    for run in host.runs:
        await run.secure()


def steps_of(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"{path}/steps").json()["items"]
    return items


def contest(pair: Pair, *, is_stored: bool) -> tuple[str, httpx.Response, httpx.Response, httpx.Client]:
    """Let both replicas take the same step; return the session, the answers, the better one first, and the other's client.

    With `is_stored` the store knows of both runs before.
    """
    impersonate(pair)
    session = pair.create("gated")
    path = f"/v1/sessions/{session}"
    assert pair.clients[0].post(f"{path}/steps", json={}).status_code == 200
    # before the other one's run may be in the store, or this one would go on with it
    pair.servers[1].call(lambda host: host.registry.alive(session))
    believe(pair, session)
    with ThreadPoolExecutor(2) as threads:
        asked = []
        for client in pair.clients:  # each has the session in memory, at the same step, and runs the next one
            pair.gate.reached.clear()
            asked.append(threads.submit(client.post, f"{path}/steps", json={}))
            assert pair.gate.reached.wait(60)
            if is_stored:
                pair.servers[len(asked) - 1].call(secured)
        pair.gate.open()
        answers = [each.result() for each in asked]
    winner, loser = sorted(answers, key=lambda answer: answer.status_code)
    assert (winner.status_code, winner.json()["seq"]) == (200, 1)
    return session, winner, loser, pair.clients[answers.index(loser)]


def test_one_of_two_owners_commits_and_the_other_gets_a_conflict(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sessions.active_runs._TICK_S", 1000.0)  # the store knows nothing of the runs before their steps
    session, winner, loser, client_of_loser = contest(pair, is_stored=False)
    path = f"/v1/sessions/{session}"
    assert (loser.status_code, loser.json()["type"]) == (409, "urn:stepwell:problem:step-conflict")
    for client in pair.clients:
        assert [step["run_id"] for step in steps_of(client, path)][1:] == [winner.json()["run_id"]]
        assert client.get(path).json()["state"] == {"held": 1, "prepared": True}
        runs = client.get(f"{path}/runs").json()["items"]
        assert sorted((run["status"], run["steps"]) for run in runs) == [("failed", 0), ("finished", 1), ("finished", 1)]
    # the loser has read the session again: whoever is asked next goes on from what is stored
    again = client_of_loser.post(f"{path}/steps", json={})
    assert (again.status_code, again.json()["seq"]) == (200, 2)
    assert [step["seq"] for step in steps_of(pair.clients[0], path)] == [0, 1, 2]


def test_a_run_that_two_owners_had_goes_on_from_what_is_stored(pair: Pair) -> None:
    session, winner, loser, client = contest(pair, is_stored=True)
    path = f"/v1/sessions/{session}"
    assert (loser.status_code, loser.json()["type"]) == (503, "urn:stepwell:problem:store-unavailable")
    while client.get(loser.headers["Location"]).json()["finished_at"] is None:
        time.sleep(0.01)
    assert [step["run_id"] for step in steps_of(client, path)][1:] == [winner.json()["run_id"], loser.json()["run_id"]]
    assert client.get(path).json()["seq"] == 2
    runs = client.get(f"{path}/runs").json()["items"]
    assert [(run["status"], run["steps"]) for run in runs] == [("finished", 1)] * 3
