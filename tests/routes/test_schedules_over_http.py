"""Schedules over HTTP."""

import time
from typing import Any

import httpx
import pytest

from tests.routes.test_sessions_over_http import create

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
YEARLY = {"cron": "0 0 1 1 *", "time_zone": "Europe/Berlin"}


def add(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/schedules", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/schedules/{answer.json()['id']}"
    made: dict[str, Any] = answer.json()
    return made


def test_a_schedule_is_made_looked_at_paused_and_deleted(client: httpx.Client) -> None:
    session = create(client)
    run = {"max_steps": 1, "on_busy": "enqueue", "webhook": {"url": "https://hooks.example.org", "secret": SECRET}}
    schedule = add(client, session_id=session, run=run, **YEARLY)
    assert schedule["run"] == {
        "max_steps": 1, "on_busy": "enqueue", "respond_async": True, "webhook": {"url": "https://hooks.example.org"},
    }  # fmt: skip
    assert schedule["next_at"].endswith("-12-31T23:00:00.000000Z")
    assert {name: schedule[name] for name in ("session", "every_s", "at", "paused", "last_at", "last_run_id", "last_error")} == {
        "session": None, "every_s": None, "at": None, "paused": False, "last_at": None, "last_run_id": None, "last_error": None,
    }  # fmt: skip
    path = f"/v1/schedules/{schedule['id']}"
    looked = client.get(path)
    assert looked.json() == schedule
    assert SECRET not in looked.text
    assert client.patch(path, json={"paused": True}).json() == {**schedule, "paused": True, "next_at": None}
    assert client.patch(path, json={"paused": False}).json() == schedule
    assert client.delete(path).status_code == 204
    for gone in (client.get(path), client.delete(path), client.patch(path, json={"paused": True})):
        assert (gone.status_code, gone.json()["type"]) == (404, "urn:stepwell:problem:schedule-not-found")


def test_a_run_begins_by_itself_on_a_new_session(client: httpx.Client) -> None:
    wanted = {"machine": "counter", "state": {"n": 5}, "metadata": {"for": "reports"}}
    schedule = add(client, session=wanted, run={"inputs": {"by": 2}, "max_steps": 1}, every_s=1)
    assert schedule["session"] == {**wanted, "partition_key": None}
    path = f"/v1/schedules/{schedule['id']}"
    until_s = time.monotonic() + 60
    while (run_id := client.get(path).json()["last_run_id"]) is None:
        assert time.monotonic() < until_s
        time.sleep(0.05)
    client.delete(path)
    with client.stream("GET", f"/v1/runs/{run_id}/events") as events:
        assert "event: run.finished" in "".join(events.iter_text())
    session = client.get(f"/v1/sessions/{client.get(f'/v1/runs/{run_id}').json()['session_id']}").json()
    assert (session["state"], session["metadata"]) == ({"n": 7}, {"for": "reports"})


def test_schedules_are_listed_newest_first_page_by_page(client: httpx.Client) -> None:
    session = create(client)
    made = [add(client, session_id=session, paused=True, **YEARLY)["id"] for _ in range(3)]
    first = client.get("/v1/schedules", params={"limit": 2}).json()
    assert [each["id"] for each in first["items"]] == [made[2], made[1]]
    second = client.get("/v1/schedules", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert second["items"][0]["id"] == made[0]
    for each in made:
        client.delete(f"/v1/schedules/{each}")


def test_a_key_makes_one_schedule(client: httpx.Client) -> None:
    body = {"session_id": create(client), "run": {"webhook": {"url": "https://hooks.example.org", "secret": SECRET}}, **YEARLY}
    key = {"Idempotency-Key": "schedule me"}
    first, again = (client.post("/v1/schedules", json=body, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
    other = client.post("/v1/schedules", json={**body, "time_zone": "UTC"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:stepwell:problem:key-reused")
    client.delete(f"/v1/schedules/{first.json()['id']}")
    assert client.post("/v1/schedules", json=body, headers=key).json() == first.json()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron": "every day"}, "cron"),
        ({"cron": None}, "cron"),
        ({"every_s": 5}, "cron"),
        ({"time_zone": "Europe/Atlantis"}, "time_zone"),
        ({"cron": None, "time_zone": None, "every_s": 0.1}, "every_s"),
        ({"cron": None, "time_zone": None, "at": "soon"}, "at"),
        ({"cron": None, "time_zone": None, "at": "2001-01-01T00:00:00Z"}, "at"),
        ({"session_id": None}, "session_id"),
        ({"session": {"machine": "counter"}}, "session_id"),
        ({"run": {"webhook": {"url": "gopher://example.org"}}}, "webhook.url"),
    ],
)
def test_a_schedule_that_cannot_be_names_its_field(client: httpx.Client, change: dict[str, Any], field: str) -> None:
    answer = client.post("/v1/schedules", json={"session_id": create(client), **YEARLY, **change})
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


def test_what_a_schedule_is_for_must_be_there(client: httpx.Client) -> None:
    for body, problem in (
        ({"session_id": "nobody"}, "session-not-found"),
        ({"session": {"machine": "nothing"}}, "machine-unknown"),
    ):
        answer = client.post("/v1/schedules", json={**body, **YEARLY})
        assert (answer.status_code, answer.json()["type"]) == (404, f"urn:stepwell:problem:{problem}")
    refused = client.post("/v1/schedules", json={"session_id": "a b", **YEARLY})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:stepwell:problem:id-invalid")
    unknown = client.post("/v1/schedules", json={"session_id": create(client), "cronn": "* * * * *"})
    assert (unknown.status_code, "cronn" in unknown.text) == (422, True)
    assert client.get("/v1/schedules").json()["items"] == []
