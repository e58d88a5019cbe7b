"""What a client may not learn: values of states and inputs are repeated neither in an answer, nor in an event, nor in a log."""

import os
import stat

import pytest

from tests.hostile.conftest import Target

SECRET = "hunter2-and-more-of-it"
KEY = "ada.lovelace@example.com"


@pytest.mark.parametrize("shape", ["input", "key", "long", "part", "cause"])
def test_what_an_action_says_of_values_is_withheld_in_answers_events_and_logs(target: Target, shape: str) -> None:
    accounts = {KEY: SECRET * 400}
    with target.client() as client:
        session = client.post("/v1/sessions", json={"machine": "refuser", "state": {"accounts": accounts}}).json()["id"]
        answer = client.post(f"/v1/sessions/{session}/steps", json={"inputs": {"secret": SECRET, "shape": shape}})
        assert answer.status_code == 424, answer.text
        run = str(client.get(f"/v1/runs/{answer.json()['run_id']}").json()["error"])
        events = client.get(f"/v1/runs/{answer.json()['run_id']}/events").text.partition("event: step.failed")[2]
    assert "error_type" in events
    for told in (answer.text, run, events, target.log(f"session_id={session}")):
        assert SECRET[:12] not in told
        assert KEY not in told


@pytest.mark.parametrize("secret", ["?token=", "#", "?"])
def test_the_query_of_a_webhook_is_shown_to_nobody(target: Target, secret: str) -> None:
    url = f"http://127.0.0.1:9/hook{secret}{SECRET}"
    body = {"max_steps": 1, "webhook": {"url": url}}
    with target.client() as client:
        answer = client.post(f"/v1/sessions/{target.session}/runs", json=body, headers={"Idempotency-Key": f"k{secret}"})
        run = client.get(f"/v1/runs/{answer.json()['run_id']}")
        runs = client.get(f"/v1/sessions/{target.session}/runs")
        events = client.get(f"/v1/runs/{answer.json()['run_id']}/events")
        timed = {"session_id": target.session, "every_s": 86400, "run": body}
        schedule = client.post("/v1/schedules", json=timed)
        schedules = client.get("/v1/schedules")
    assert run.json()["webhook"]["url"] == "http://127.0.0.1:9/hook?***"
    assert schedule.json()["run"]["webhook"]["url"] == "http://127.0.0.1:9/hook?***"
    for each in (answer, run, runs, events, schedule, schedules):
        assert SECRET not in each.text


def test_a_follower_of_a_deleted_session_does_not_go_on_with_the_next_one_of_its_id(target: Target) -> None:
    path = f"/v1/sessions/{target.session}"
    again = {"machine": "counter", "id": target.session}
    with target.client() as client:
        client.post(target.steps, json={})
        with client.stream("GET", f"{path}/events", headers={"Last-Event-ID": "0"}) as response:
            lines = response.iter_lines()
            last = next(line for line in lines if line.startswith("id: ") and line != "id: 0").removeprefix("id: ")
            with target.client() as other:
                assert other.delete(path).status_code == 204
                assert other.post("/v1/sessions", json=again).status_code == 201
                other.post(target.steps, json={"inputs": {"by": 70_000_007}})
            assert "70000007" not in "".join(lines)
        late = client.get(f"{path}/events", headers={"Last-Event-ID": last})
        assert (late.status_code, late.json()["type"]) == (410, "urn:stepwell:problem:position-trimmed")


def test_the_files_of_the_database_are_private(target: Target) -> None:
    files = list(target.folder.iterdir())
    names = {file.name for file in files}
    if target.is_sqlite:
        assert {"sessions.db", "sessions.db-wal", "sessions.db-shm", "sessions.db.lock"} <= names
    for file in files:
        if file.name.startswith("sessions.db"):
            assert stat.S_IMODE(os.stat(file).st_mode) == 0o600, file.name
