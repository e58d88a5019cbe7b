"""`Idempotency-Key`: a request that comes again is answered again, and carried out once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.persistence.factory import open_store
from tests.machines import Gate, counter, failing, gated
from tests.routes.test_sessions_over_http import create
from tests.server import running_server


def keyed(client: httpx.Client, path: str, body: Any, key: str = '"one"', **headers: str) -> httpx.Response:
    return client.post(path, json=body, headers={"Idempotency-Key": key, **headers})


def shown(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer, without the headers that the server gives to each."""
    return answer.status_code, {name: value for name, value in answer.headers.items() if name != "date"}, answer.content


def test_a_step_that_comes_again_is_answered_again(client: httpx.Client) -> None:
    path = f"/v1/sessions/{create(client)}"
    first = keyed(client, f"{path}/steps", {"inputs": {"by": 5}})
    assert (first.status_code, first.json()["state"]) == (200, {"n": 5})
    client.post(f"{path}/steps", json={})  # the session has moved on meanwhile
    again = keyed(client, f"{path}/steps", {"inputs": {"by": 5}})
    assert shown(again) == shown(first)
    assert client.get(path).json()["seq"] == 1
    minimal = keyed(client, f"{path}/steps", {"inputs": {"by": 5}}, Prefer="return=minimal")
    assert (minimal.status_code, "state" in minimal.json()) == (200, False)


@pytest.mark.parametrize("limit", [1, 4])
def test_a_run_that_comes_again_is_answered_again(client: httpx.Client, limit: int) -> None:
    path = f"/v1/sessions/{create(client)}"
    first = keyed(client, f"{path}/runs", {"max_steps": limit})
    assert shown(keyed(client, f"{path}/runs", {"max_steps": limit})) == shown(first)
    assert client.get(path).json()["seq"] == limit - 1


def test_another_request_under_the_same_key_is_refused(client: httpx.Client) -> None:
    path = f"/v1/sessions/{create(client)}"
    keyed(client, f"{path}/steps", {"inputs": {"by": 5}})
    for other in (keyed(client, f"{path}/steps", {"inputs": {"by": 6}}), keyed(client, f"{path}/steps", {})):
        assert (other.status_code, other.json()["type"]) == (422, "urn:stepwell:problem:key-reused")
    assert client.get(path).json()["seq"] == 0
    assert keyed(client, f"{path}/runs", {"max_steps": 1}).status_code == 200, "another path has keys of its own"


def test_spacing_and_order_of_the_json_do_not_make_another_request(client: httpx.Client) -> None:
    path = f"/v1/sessions/{create(client)}/runs"
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    first = client.post(path, content='{"max_steps": 1, "inputs": {"by": 2}}', headers=headers)
    again = client.post(path, content='{"inputs":{"by":2},"max_steps":1}', headers=headers)
    assert shown(again) == shown(first)


def test_a_failure_that_comes_again_is_told_again(client: httpx.Client) -> None:
    path = f"/v1/sessions/{create(client, 'failing')}/runs"
    first = keyed(client, path, {})
    assert first.status_code == 424
    assert shown(keyed(client, path, {})) == shown(first)
    assert len(client.get(path).json()["items"]) == 1


def test_a_refused_request_uses_no_key(client: httpx.Client) -> None:
    path = f"/v1/sessions/{create(client, 'greeter')}/steps"
    assert keyed(client, path, {}).status_code == 422
    assert keyed(client, path, {"inputs": {"name": "ann"}}).status_code == 200


def test_a_session_is_created_once(client: httpx.Client) -> None:
    body = {"machine": "counter", "state": {"extra": [1, 2]}, "metadata": {"a": "b"}}
    first = keyed(client, "/v1/sessions", body, "create-1")
    client.post(f"/v1/sessions/{first.json()['id']}/steps", json={})
    again = keyed(client, "/v1/sessions", body, "create-1")
    assert first.status_code == 201
    assert shown(again) == shown(first)
    assert keyed(client, "/v1/sessions", {**body, "id": "other"}, "create-1").status_code == 422
    fork = f"/v1/sessions/{first.json()['id']}/fork"
    assert shown(keyed(client, fork, {})) == shown(keyed(client, fork, {}))


def test_an_answer_that_was_trimmed_is_gone_and_nothing_is_done_again(client: httpx.Client) -> None:
    path = f"/v1/sessions/{create(client)}"
    requests: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
        (f"{path}/steps", {}, "step", {}),
        (f"{path}/runs", {"max_steps": 2}, "run", {}),
        (f"{path}/runs", {"max_steps": 2}, "streamed", {"Accept": "text/event-stream"}),
        (f"{path}/runs", {"max_steps": 2}, "accepted", {"Prefer": "respond-async"}),
    ]
    for where, body, key, headers in requests:
        first = keyed(client, where, body, key, **headers)
        assert first.status_code in (200, 202)
    client.get(f"{first.headers['Location']}/events")  # ends with the run
    client.delete(f"{path}/steps", params={"before_seq": 99})
    for where, body, key, headers in requests:
        again = keyed(client, where, body, key, **headers)
        assert (again.status_code, again.json()["type"]) == (410, "urn:stepwell:problem:answer-trimmed")
        assert keyed(client, where, {"inputs": {"by": 2}}, key, **headers).status_code == 422
    assert client.get(path).json()["seq"] == 6


def test_of_many_at_the_same_time_one_is_carried_out(tmp_path: Path) -> None:
    gate = Gate()
    store = open_store(f"sqlite:///{tmp_path}/keys.db")
    with running_server([gated(gate), counter()], store) as server, server.client() as client, ThreadPoolExecutor(8) as threads:
        path = f"/v1/sessions/{create(client, 'gated')}/runs"
        body = {"halt_after": ["hold"]}
        runs = [threads.submit(keyed, client, path, body) for _ in range(4)]
        assert gate.reached.wait(60)
        created = [threads.submit(keyed, client, "/v1/sessions", {"machine": "counter"}) for _ in range(4)]
        assert len({shown(each.result())[2] for each in created}) == 1
        gate.open()
        assert len({shown(each.result())[2] for each in runs}) == 1
        assert len(client.get(path).json()["items"]) == 1


def test_an_accepted_run_is_accepted_once(client: httpx.Client) -> None:
    path = f"/v1/sessions/{create(client)}"
    first = keyed(client, f"{path}/runs", {"max_steps": 2}, Prefer="respond-async")
    assert (first.status_code, first.headers["Preference-Applied"]) == (202, "respond-async")
    assert first.headers["Location"] == f"/v1/runs/{first.json()['id']}"
    with client.stream("GET", f"{first.headers['Location']}/events") as events:
        assert "event: run.finished" in "".join(events.iter_text())
    assert shown(keyed(client, f"{path}/runs", {"max_steps": 2}, Prefer="respond-async")) == shown(first)
    assert client.get(path).json()["seq"] == 1


def test_keys_outlive_the_service(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/keys.db"
    with running_server([counter(), failing()], open_store(url)) as server, server.client() as client:
        path = f"/v1/sessions/{create(client)}/steps"
        first = shown(keyed(client, path, {"inputs": {"by": 3}}))
    with running_server([counter(), failing()], open_store(url)) as server, server.client() as client:
        assert shown(keyed(client, path, {"inputs": {"by": 3}})) == first


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb"])
def test_a_key_that_cannot_be_one_is_refused(client: httpx.Client, key: str) -> None:
    answer = keyed(client, f"/v1/sessions/{create(client)}/steps", {}, key)
    assert (answer.status_code, answer.json()["header"]) == (400, "Idempotency-Key")
