"""What can be changed of a session beside its state, when it expires, and how its history is cut, as a client sees it."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.server import RunningServer


def create(client: httpx.Client, **fields: object) -> str:
    answer = client.post("/v1/sessions", json={"machine": "counter", **fields})
    assert answer.status_code == 201, answer.text
    return f"/v1/sessions/{answer.json()['id']}"


def ids(client: httpx.Client, **params: str) -> list[str]:
    return [f"/v1/sessions/{each['id']}" for each in client.get("/v1/sessions", params=params).json()["items"]]


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:stepwell:problem:")


def test_metadata_is_merged_and_lists_follow(client: httpx.Client) -> None:
    path = create(client, metadata={"customer": "4711", "env": "test", "deep": {"a": 1}})
    answer = client.patch(path, json={"metadata": {"env": None, "customer": "4712", "deep": {"b": 2}}})
    document = answer.json()
    assert (answer.status_code, document["metadata"]) == (200, {"customer": "4712", "deep": {"a": 1, "b": 2}})
    assert (document["seq"], document["state"], answer.headers["ETag"]) == (0, {"n": 0}, '"0"')
    assert client.get(path).json() == document
    assert path in ids(client, **{"metadata[customer]": "4712"})
    assert path not in ids(client, **{"metadata[customer]": "4711"})
    assert path not in ids(client, **{"metadata[env]": "test"})
    (step,) = client.get(f"{path}/steps").json()["items"]
    assert (step["kind"], step["action"], step["operations"]) == ("edit", None, [])
    assert step["result"] == {"metadata": {"env": None, "customer": "4712", "deep": {"b": 2}}}


def test_state_and_everything_else_change_in_one_step(client: httpx.Client) -> None:
    path = create(client)
    body = {"state": {"set": {"n": 7}}, "metadata": {"a": "b"}, "partition_key": "p", "ttl_s": 60}
    merge = {"Content-Type": "application/merge-patch+json"}
    document = client.patch(path, json=body, headers=merge).json()
    assert {name: document[name] for name in ("seq", "state", "metadata", "partition_key", "ttl_s")} == {
        "seq": 0,
        "state": {"n": 7},
        "metadata": {"a": "b"},
        "partition_key": "p",
        "ttl_s": 60,
    }
    assert ids(client, partition_key="p") == [path]
    document = client.patch(path, json={"partition_key": None, "ttl_s": None}).json()
    assert (document["partition_key"], document["ttl_s"], document["expires_at"]) == (None, None, None)
    assert (document["metadata"], document["state"]) == ({"a": "b"}, {"n": 7})


def test_a_change_can_be_tied_to_where_the_session_stands(client: httpx.Client) -> None:
    path = create(client)
    assert client.patch(path, json={"metadata": {"a": "b"}}, headers={"If-Match": '"-1"'}).status_code == 200
    again = client.patch(path, json={"metadata": {"a": "c"}}, headers={"If-Match": '"-1"'})
    assert problem(again) == (412, "seq-mismatch")
    assert client.get(path).json()["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": None},
        {"metadata": ["a"]},
        {"state": None},
        {"ttl_s": 0},
        {"ttl_s": -1},
        {"ttl_s": "60"},
        {"ttl_s": 1e300},
        {"partition_key": 5},
        {"status": "idle"},
    ],
    ids=str,
)
def test_a_change_that_cannot_be_is_refused_by_name(client: httpx.Client, body: Any) -> None:
    path = create(client)
    assert problem(client.patch(path, json=body)) == (422, "body-invalid")
    assert client.get(path).json()["seq"] == -1


def test_a_partition_key_that_cannot_be_stored_is_refused(client: httpx.Client) -> None:
    path = create(client, metadata={"a": "b"})
    for body in ({"partition_key": "x" * 601}, {"partition_key": "a\0"}, {"metadata": {"a": "\0"}}):
        assert problem(client.patch(path, json=body)) == (422, "text-unstorable")
    document = client.get(path).json()
    assert (document["seq"], document["metadata"], document["partition_key"]) == (-1, {"a": "b"}, None)


def test_a_session_says_when_it_expires(client: httpx.Client) -> None:
    for_ever = client.get(create(client)).json()
    assert (for_ever["ttl_s"], for_ever["expires_at"]) == (None, None)
    path = create(client, ttl_s=90)
    before = client.get(path).json()
    assert _seconds(before["updated_at"], before["expires_at"]) == 90
    client.post(f"{path}/steps", json={})
    after = client.get(path).json()
    assert _seconds(after["updated_at"], after["expires_at"]) == 90
    assert after["expires_at"] > before["expires_at"]
    assert client.get("/v1/sessions").json()["items"][0]["expires_at"] == after["expires_at"]
    fork = client.post(f"{path}/fork", json={}).json()
    assert (fork["ttl_s"], client.post(f"{path}/fork", json={"ttl_s": None}).json()["ttl_s"]) == (90, None)


def _seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_an_expired_session_is_not_found(client: httpx.Client, server: RunningServer) -> None:
    path = create(client, ttl_s=0.000_001)
    for answer in (
        client.get(path),
        client.post(f"{path}/steps", json={}),
        client.patch(path, json={"ttl_s": 60}),
        client.get(f"{path}/steps"),
        client.get(f"{path}/events"),
        client.delete(path),
    ):
        assert problem(answer) == (404, "session-not-found")
    assert path not in ids(client)


def test_a_history_can_be_cut(client: httpx.Client) -> None:
    path = create(client)
    client.post(f"{path}/runs", json={"max_steps": 10})
    old = client.get(f"{path}/runs").json()["items"][0]["id"]
    client.post(f"{path}/runs", json={"max_steps": 10})
    answer = client.delete(f"{path}/steps", params={"before_seq": 12})
    assert (answer.status_code, answer.json()) == (200, {"session_id": path.rpartition("/")[2], "first_seq": 12})
    page = client.get(f"{path}/steps", params={"limit": 3}).json()
    assert ([step["seq"] for step in page["items"]], page["next_cursor"]) == ([12, 13, 14], "14")
    assert client.get(f"{path}/steps/12").json()["state"] == {"n": 13}
    gone = client.get(f"{path}/steps/11")
    assert (*problem(gone), gone.json()["first_seq"]) == (410, "step-trimmed", 12)
    assert problem(client.post(f"{path}/fork", json={"seq": 3})) == (410, "step-trimmed")
    assert problem(client.get(f"{path}/steps/99")) == (404, "step-not-found")
    assert problem(client.get(f"/v1/runs/{old}")) == (404, "run-not-found")
    assert problem(client.get(f"{path}/events", headers={"Last-Event-ID": "1"})) == (410, "position-trimmed")
    assert client.post(f"{path}/fork", json={"seq": 12}).json()["state"] == {"n": 13}
    cut = f"/v1/runs/{client.get(f'{path}/runs').json()['items'][0]['id']}/events"
    assert problem(client.get(cut)) == (410, "position-trimmed")
    assert problem(client.get(cut, headers={"Last-Event-ID": "1"})) == (410, "position-trimmed")
    kept = client.get(cut, headers={"Last-Event-ID": "0"}).text
    assert (kept.count("event: step.finished"), kept.count("event: run.finished")) == (8, 1)
    assert client.post(f"{path}/steps", json={}).json()["state"] == {"n": 21}


def test_a_cut_needs_a_place(client: httpx.Client) -> None:
    path = create(client)
    for params in ({}, {"before_seq": "x"}, {"before_seq": "-1"}):
        assert problem(client.delete(f"{path}/steps", params=params)) == (422, "parameter-invalid")
    assert problem(client.delete("/v1/sessions/nobody/steps", params={"before_seq": 1})) == (404, "session-not-found")
