"""What a client may not learn: values of states and inputs are repeated neither in an answer, nor in an event, nor in a log."""

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
