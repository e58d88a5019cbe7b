"""Runs that nobody waits for, and what becomes of a run while another one has the session, over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.machines import Gate, counter, gated
from tests.routes.test_sessions_over_http import create
from tests.server import running_server

ASYNC = {"Prefer": "respond-async"}


def test_a_run_is_accepted_and_goes_on_by_itself(client: httpx.Client) -> None:
    session = create(client)
    answer = client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 3}, headers=ASYNC)
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "respond-async")
    accepted = answer.json()
    assert (accepted["status"], accepted["session_id"], accepted["started_at"], accepted["steps"]) == ("queued", session, None, 0)
    with client.stream("GET", f"{answer.headers['Location']}/events") as events:
        text = "".join(events.iter_text())
    assert [line for line in text.splitlines() if line.startswith("event: run.")] == ["event: run.started", "event: run.finished"]
    run = client.get(answer.headers["Location"]).json()
    assert (run["status"], run["reason"], run["steps"]) == ("finished", "max_steps", 3)
    assert [each["id"] for each in client.get(f"/v1/sessions/{session}/runs").json()["items"]] == [run["id"]]


def test_a_step_can_be_accepted_too(client: httpx.Client) -> None:
    session = create(client)
    answer = client.post(f"/v1/sessions/{session}/steps", json={"inputs": {"by": 4}}, headers=ASYNC)
    assert answer.status_code == 202
    with client.stream("GET", f"{answer.headers['Location']}/events") as events:
        assert "event: run.finished" in "".join(events.iter_text())
    assert client.get(f"/v1/sessions/{session}").json()["state"] == {"n": 4}


BAD = [
    ({}, "inputs-invalid"),
    ({"inputs": {"name": "Ada", "nickname": "A"}}, "inputs-invalid"),
    ({"inputs": {"name": 7}}, "inputs-invalid"),
    ({"inputs": {"name": "Ada"}, "halt_after": ["nowhere"]}, "action-unknown"),
    ({"inputs": {"name": "Ada"}, "halt_before": ["@tag:none"]}, "tag-unknown"),
    ({"inputs": {"name": "Ada"}, "max_steps": 0}, "body-invalid"),
    ({"inputs": {"name": "Ada"}, "timeout_s": -1}, "body-invalid"),
]


@pytest.mark.parametrize(("body", "problem"), BAD)
def test_a_run_that_cannot_begin_is_refused_alike_whoever_waits_for_it(
    client: httpx.Client, body: dict[str, Any], problem: str
) -> None:
    session = create(client, "greeter")
    path = f"/v1/sessions/{session}/runs"
    once = {"every_s": 3600, "run": body}
    answers = [
        client.post(path, json=body),
        client.post(path, json=body, headers={"Accept": "text/event-stream"}),
        client.post(path, json=body, headers=ASYNC),
        client.post(path, json={**body, "on_busy": "enqueue"}, headers=ASYNC),
        client.post("/v1/schedules", json={**once, "session": {"machine": "greeter"}}),
    ]
    assert {(answer.status_code, answer.json()["type"].rpartition(":")[2]) for answer in answers} == {(422, problem)}
    details = [{**answer.json(), "detail": ""} for answer in answers[:4]]
    assert details == details[:1] * 4
    assert client.get(f"/v1/sessions/{session}").json()["status"] == "idle"
    assert client.get(f"{path}").json()["items"] == []


def test_a_run_of_nobody_is_refused(client: httpx.Client) -> None:
    assert client.post("/v1/sessions/nobody/runs", json={}, headers=ASYNC).status_code == 404


@pytest.mark.parametrize(
    ("body", "problem"), [({"inputs": {"nickname": "A"}}, "inputs-invalid"), ({"halt_after": ["nowhere"]}, "action-unknown")]
)
def test_what_a_run_can_never_begin_with_is_refused_while_another_one_has_the_session(body: Any, problem: str) -> None:
    gate = Gate()
    with running_server([gated(gate)]) as server, server.client() as client, ThreadPoolExecutor(1) as threads:
        path = f"/v1/sessions/{create(client, 'gated')}/runs"
        first = threads.submit(client.post, path, json={"halt_after": ["hold"]})
        assert gate.reached.wait(60)
        for on_busy in ("enqueue", "interrupt", "rollback"):
            for headers in ({}, ASYNC):
                answer = client.post(path, json={**body, "on_busy": on_busy}, headers=headers)
                assert (answer.status_code, answer.json()["type"]) == (422, f"urn:stepwell:problem:{problem}")
        gate.open()
        assert first.result().status_code == 200


def test_on_busy_says_what_becomes_of_a_second_run() -> None:
    gate = Gate()
    with running_server([gated(gate), counter()]) as server, server.client() as client, ThreadPoolExecutor(4) as threads:
        session = create(client, "gated")
        path = f"/v1/sessions/{session}/runs"
        first = threads.submit(client.post, path, json={})
        assert gate.reached.wait(60)
        refused = client.post(path, json={})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:stepwell:problem:session-busy")
        assert client.post(path, json={}, headers=ASYNC).status_code == 409
        waiting = client.post(path, json={"on_busy": "enqueue", "max_steps": 1}, headers=ASYNC)
        assert (waiting.status_code, client.get(waiting.headers["Location"]).json()["status"]) == (202, "queued")
        gate.reached.clear()
        second = threads.submit(client.post, path, json={"on_busy": "rollback"})
        cancelled = first.result()
        assert (cancelled.status_code, cancelled.json()["reason"], cancelled.json()["steps"]) == (409, "rolled_back", 1)
        assert gate.reached.wait(60)
        third = threads.submit(client.post, f"/v1/sessions/{session}/steps", json={"on_busy": "interrupt"})
        assert second.result().json()["reason"] == "interrupted"
        gate.open()
        assert (third.result().status_code, third.result().json()["action"]) == (200, "hold")
        with client.stream("GET", f"{waiting.headers['Location']}/events") as events:
            assert "event: run.finished" in "".join(events.iter_text())
        kinds = [step["kind"] for step in client.get(f"/v1/sessions/{session}/steps").json()["items"]]
        assert kinds == ["action", "rollback", "action", "action", "action"]


def test_a_queued_run_can_be_cancelled_before_it_begins() -> None:
    gate = Gate()
    with running_server([gated(gate)]) as server, server.client() as client, ThreadPoolExecutor(1) as threads:
        path = f"/v1/sessions/{create(client, 'gated')}/runs"
        first = threads.submit(client.post, path, json={"halt_after": ["hold"]})
        assert gate.reached.wait(60)
        waiting = client.post(path, json={"on_busy": "enqueue"}, headers=ASYNC).headers["Location"]
        run = client.post(f"{waiting}/cancel").json()
        assert (run["status"], run["reason"], run["steps"]) == ("cancelled", "requested", 0)
        gate.open()
        assert first.result().status_code == 200
        with client.stream("GET", f"{waiting}/events") as events:
            text = "".join(events.iter_text())
        assert [line for line in text.splitlines() if line.startswith("event: ")] == ["event: run.cancelled"]
        assert client.get(waiting).json() == run


def test_a_run_may_be_stored_when_it_ends(client: httpx.Client) -> None:
    for durability in ("async", "exit"):
        session = create(client)
        answer = client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 20, "durability": durability}).json()
        assert (answer["seq"], answer["steps"], answer["state"]) == (19, 20, {"n": 20})
        steps = client.get(f"/v1/sessions/{session}/steps").json()["items"]
        assert [step["seq"] for step in steps] == list(range(20))
    assert client.post(f"/v1/sessions/{session}/runs", json={"durability": "never"}).status_code == 422
