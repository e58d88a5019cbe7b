"""Whatever is asked of a session, it makes no difference which replica is asked."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from app.routes.forwarding import Forwarder
from app.sessions.host import SessionHost
from tests.replicas.conftest import Pair


def events_of(text: str) -> list[tuple[str, Any]]:
    frames = [dict(line.partition(": ")[::2] for line in frame.splitlines()) for frame in text.split("\n\n")]
    return [(frame["event"], json.loads(frame["data"])) for frame in frames if "event" in frame]


def ids_of(text: str) -> list[int]:
    return [int(line.removeprefix("id: ")) for line in text.splitlines() if line.startswith("id: ")]


def test_steps_taken_in_turns_make_one_log(pair: Pair) -> None:
    path = f"/v1/sessions/{pair.create()}"
    answers = [pair.clients[number % 2].post(f"{path}/steps", json={}).json() for number in range(6)]
    assert [(answer["seq"], answer["state"]["n"]) for answer in answers] == [(number, number + 1) for number in range(6)]
    assert pair.clients[0].get(path).json() == pair.clients[1].get(path).json()


def test_an_answer_is_the_same_from_the_owner_and_from_another(pair: Pair) -> None:
    path = f"/v1/sessions/{pair.create('failing')}"
    for make in (
        lambda client: client.post(f"{path}/runs", json={}),  # fails
        lambda client: client.post(f"{path}/steps", json={"inputs": {"no": 1}}),
        lambda client: client.post(f"{path}/steps", content=b"{", headers={"Content-Type": "application/json"}),
        lambda client: client.patch(path, json={"state": {"set": {"x": 1}}}, headers={"If-Match": '"99"'}),
        lambda client: client.get("/v1/runs/nobody"),
    ):
        first, second = (make(client) for client in pair.clients)
        assert first.status_code == second.status_code >= 400
        for name in ("type", "title", "detail"):
            assert first.json()[name].split("run '")[0] == second.json()[name].split("run '")[0]
        assert first.headers["content-type"] == second.headers["content-type"] == "application/problem+json"


def test_headers_come_through_both_ways(pair: Pair) -> None:
    path = f"/v1/sessions/{pair.create()}"
    pair.clients[0].post(f"{path}/steps", json={})
    answer = pair.clients[1].post(f"{path}/runs", json={"max_steps": 2}, headers={"Prefer": "return=minimal", "If-Match": '"0"'})
    assert (answer.status_code, "state" in answer.json(), answer.headers["ETag"]) == (200, False, '"2"')
    assert answer.headers["Preference-Applied"] == "return=minimal"
    assert answer.headers["Location"] == f"/v1/runs/{answer.json()['run_id']}"
    key = {"Idempotency-Key": "k"}
    first = pair.clients[1].post(f"{path}/steps", json={}, headers=key)
    assert pair.clients[0].post(f"{path}/steps", json={}, headers=key).content == first.content


def test_a_run_is_busy_waited_for_and_cancelled_from_anywhere(pair: Pair) -> None:
    path = f"/v1/sessions/{pair.create('gated')}"
    owner, other = pair.clients
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(owner.post, f"{path}/runs", json={})
        assert pair.gate.reached.wait(60)
        busy = other.post(f"{path}/steps", json={})
        assert (busy.status_code, busy.json()["type"]) == (409, "urn:stepwell:problem:session-busy")
        run_id = busy.json()["run_id"]
        assert other.get(f"/v1/runs/{run_id}").json()["steps"] == 1
        pair.gate.reached.clear()
        second = threads.submit(other.post, f"{path}/runs", json={"on_busy": "rollback"})
        assert (first.result().status_code, first.result().json()["reason"]) == (409, "rolled_back")
        assert pair.gate.reached.wait(60)
        third = threads.submit(other.post, f"{path}/steps", json={"on_busy": "enqueue"})
        running = owner.get(f"{path}/runs").json()["items"][-1]
        assert other.post(f"/v1/runs/{running['id']}/cancel").json()["status"] == "cancelled"
        assert second.result().json()["reason"] == "requested"
        pair.gate.open()
        assert third.result().status_code == 200


def test_a_session_that_runs_elsewhere_is_seen_running(pair: Pair) -> None:
    session = pair.create("gated")
    owner, other = pair.clients
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(owner.post, f"/v1/sessions/{session}/runs", json={"halt_after": ["hold"]})
        assert pair.gate.reached.wait(60)
        assert other.get(f"/v1/sessions/{session}").json()["status"] == "running"
        listed = other.get("/v1/sessions", params={"status": "running"}).json()["items"]
        assert [each["id"] for each in listed] == [session]
        pair.gate.open()
        assert run.result().status_code == 200
    assert other.get(f"/v1/sessions/{session}").json()["status"] == "idle"
    assert other.get("/v1/sessions", params={"status": "running"}).json()["items"] == []


def test_a_stream_is_the_same_from_anywhere_items_included(pair: Pair) -> None:
    session = pair.create("streamer")
    owner, other = pair.clients
    texts: dict[str, str] = {}

    def follow(name: str, client: httpx.Client, has_begun: threading.Barrier) -> None:
        with client.stream("GET", f"/v1/sessions/{session}/events") as response:
            has_begun.wait()
            texts[name] = ""
            for line in response.iter_lines():
                texts[name] += line + "\n"
                if line == "" and "event: run.finished" in texts[name]:
                    return

    begun = threading.Barrier(3)
    owner.post(f"/v1/sessions/{session}/steps", json={"inputs": {}}, headers={"Prefer": "respond-async"})
    assert pair.gate.reached.wait(60)
    followers = [
        threading.Thread(target=follow, args=(name, client, begun)) for name, client in (("owner", owner), ("other", other))
    ]
    for follower in followers:
        follower.start()
    begun.wait()
    pair.gate.open()
    for follower in followers:
        follower.join(60)
    told = [[kind for kind, _ in events_of(texts[name])] for name in ("owner", "other")]
    assert told[0][-4:] == told[1][-4:]
    assert told[1].count("step.item") >= 4


def test_a_run_started_elsewhere_is_streamed(pair: Pair) -> None:
    session = pair.create("streamer")
    pair.gate.open()
    owner, other = pair.clients
    owner.post(f"/v1/sessions/{session}/steps", json={})
    with other.stream(
        "POST", f"/v1/sessions/{session}/runs", json={"max_steps": 2}, headers={"Accept": "text/event-stream"}
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        location = response.headers["Location"]
        text = "".join(response.iter_text())
    kinds = [kind for kind, _ in events_of(text)]
    assert kinds == ["run.started", *(["step.started", *["step.item"] * 5, "step.finished"] * 2), "run.finished"]
    for client in pair.clients:
        with client.stream("GET", f"{location}/events", headers={"Last-Event-ID": str(ids_of(text)[-3])}) as response:
            again = "".join(response.iter_text())
        assert ids_of(again) == ids_of(text)[-2:]
        done = client.get(f"{location}/events", headers={"Last-Event-ID": str(ids_of(text)[-1])})
        assert done.status_code == 204


def test_sessions_are_edited_forked_and_deleted_from_anywhere(pair: Pair) -> None:
    path = f"/v1/sessions/{pair.create()}"
    owner, other = pair.clients
    owner.post(f"{path}/steps", json={})
    assert other.patch(path, json={"state": {"set": {"n": 7}}}).json()["seq"] == 1
    assert owner.post(f"{path}/steps", json={}).json()["state"] == {"n": 8}
    assert other.post(f"{path}/fork", json={"seq": 0}).json()["state"] == {"n": 1}
    assert other.delete(path).status_code == 204
    assert owner.get(path).status_code == owner.post(f"{path}/steps", json={}).status_code == 404


def test_background_runs_of_a_session_elsewhere_begin_at_once(pair: Pair) -> None:
    session = pair.create()
    owner, other = pair.clients
    owner.post(f"/v1/sessions/{session}/steps", json={})
    answer = other.post(f"/v1/sessions/{session}/runs", json={"max_steps": 2}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    with other.stream("GET", f"{answer.headers['Location']}/events") as response:
        assert events_of("".join(response.iter_text()))[-1][0] == "run.finished"
    assert owner.get(f"/v1/sessions/{session}").json()["seq"] == 2


def test_a_request_is_never_sent_on_twice(pair: Pair) -> None:
    session = pair.create()
    owner, other = pair.clients
    owner.post(f"/v1/sessions/{session}/steps", json={})
    for target in ("nobody", str(pair.servers[1].host.store.replicas.id)):
        answer = other.post(f"/v1/sessions/{session}/steps", json={}, headers={"Stepwell-Forwarded-To": target})
        assert (answer.status_code, answer.json()["type"]) == (421, "urn:stepwell:problem:misdirected")


def test_many_clients_of_both_replicas_leave_no_gap(pair: Pair) -> None:
    sessions = [pair.create() for _ in range(8)]

    def work(number: int) -> list[tuple[str, int]]:
        taken = []
        for step in range(24):
            session = sessions[(number + step) % len(sessions)]
            answer = pair.clients[(number + step) % 2].post(f"/v1/sessions/{session}/steps", json={"on_busy": "enqueue"})
            assert answer.status_code == 200, answer.text
            taken.append((session, answer.json()["seq"]))
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = [each for done in threads.map(work, range(8)) for each in done]
    assert len(set(taken)) == 8 * 24, "every answer tells of another step"
    for session in sessions:
        steps = pair.clients[0].get(f"/v1/sessions/{session}/steps", params={"limit": 100}).json()["items"]
        assert [step["seq"] for step in steps] == list(range(24))
        assert [step["result"]["n"] for step in steps] == list(range(1, 25))


def test_a_stream_from_another_replica_ends_where_what_comes_next_was_trimmed(pair: Pair) -> None:
    session = pair.create()
    owner, _ = pair.clients
    owner.post(f"/v1/sessions/{session}/runs", json={"max_steps": 5})
    owner.delete(f"/v1/sessions/{session}/steps", params={"before_seq": 4})

    async def followed(host: SessionHost) -> bytes:
        forwarder = Forwarder(host)
        async with forwarder.at_work():
            response = forwarder.streams.response(session, after=1)
            return b"".join([part async for part in response.body_iterator if isinstance(part, bytes)])

    assert b"event: " not in pair.servers[1].call(followed)
