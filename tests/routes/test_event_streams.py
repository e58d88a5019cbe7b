"""Server-sent events over a real socket."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from app.sessions.host_settings import HostSettings
from tests.machines import Gate, counter, gated, streamer, turns
from tests.routes.test_sessions_over_http import create
from tests.server import RunningServer, running_server

STREAM = {"Accept": "text/event-stream"}
LAST = ("run.finished", "run.failed", "run.cancelled")


@dataclass
class Told:
    """One event as it came over the wire."""

    id: int
    type: str
    data: Any


def read(lines: Iterator[str]) -> Iterator[Told]:
    """The events in the lines of a stream."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "event" in fields:
            yield Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
        fields = {}


def types(events: list[Told]) -> list[str]:
    return [event.type for event in events]


def past(client: httpx.Client, session: str, after: int, count: int) -> list[Told]:
    """The next `count` events after `after`."""
    found: list[Told] = []
    with client.stream("GET", f"/v1/sessions/{session}/events", headers={"Last-Event-ID": str(after)}) as stream:
        for event in read(stream.iter_lines()):
            found.append(event)
            if len(found) == count:
                break
    return found


def posted(path: str, body: bytes, *headers: str) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def run_streamed(client: httpx.Client, session: str, **body: Any) -> list[Told]:
    with client.stream("POST", f"/v1/sessions/{session}/runs", json=body, headers=STREAM) as stream:
        assert (stream.status_code, stream.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        return list(read(stream.iter_lines()))


def test_a_run_is_streamed_to_its_end(client: httpx.Client) -> None:
    session = create(client, "turns")
    events = run_streamed(client, session, max_steps=2)
    assert types(events) == ["run.started", "step.started", "step.finished", "step.started", "step.finished", "run.finished"]
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert {event.data["session_id"] for event in events} == {session}
    assert len({event.data["run_id"] for event in events}) == 1
    assert (events[-1].data["reason"], events[-1].data["steps"]) == ("max_steps", 2)


def test_streamed_items_are_events(client: httpx.Client) -> None:
    events = run_streamed(client, create(client, "streamer"), max_steps=1)
    assert [event.data["item"] for event in events if event.type == "step.item"] == [{"number": n} for n in range(3)]
    assert events[-2].data["result"] == {"items": 3}


def test_a_failure_is_told_in_the_stream(client: httpx.Client) -> None:
    events = run_streamed(client, create(client, "failing"))
    assert types(events)[-2:] == ["step.failed", "run.failed"]
    assert events[-2].data["error"] == {"type": "ValueError", "message": "the wheel is broken"}
    assert "s3cr3t" not in json.dumps(events[-2].data)


def test_one_who_comes_back_at_any_event_misses_none_and_sees_none_twice(client: httpx.Client) -> None:
    session = create(client, "turns")
    run_streamed(client, session, max_steps=2)
    client.patch(f"/v1/sessions/{session}", json={"state": {"set": {"words": []}}})
    run_streamed(client, session, max_steps=1)
    whole = past(client, session, 0, 6 + 1 + 4)
    assert [event.data.get("kind") for event in whole if event.type == "step.finished"] == ["action", "action", "edit", "action"]
    for cut, event in enumerate(whole[:-1]):
        assert past(client, session, event.id, len(whole) - cut - 1) == whole[cut + 1 :]


def test_a_run_can_be_followed_from_its_beginning_when_it_is_over(client: httpx.Client) -> None:
    session = create(client, "turns")
    run_streamed(client, session, max_steps=1)
    streamed = run_streamed(client, session, max_steps=2)
    path = f"/v1/runs/{streamed[0].data['run_id']}/events"
    with client.stream("GET", path) as stream:
        assert list(read(stream.iter_lines())) == streamed
    with client.stream("GET", path, headers={"Last-Event-ID": str(streamed[2].id)}) as stream:
        assert list(read(stream.iter_lines())) == streamed[3:]
    assert client.get(path, headers={"Last-Event-ID": str(streamed[-1].id)}).status_code == 204


def test_one_who_follows_from_now_learns_where_now_is(client: httpx.Client) -> None:
    session = create(client)
    client.post(f"/v1/sessions/{session}/steps", json={})
    (*_, last) = past(client, session, 0, 4)
    with client.stream("GET", f"/v1/sessions/{session}/events") as stream:
        lines = stream.iter_lines()
        assert f"id: {last.id}" in [next(lines) for _ in range(3)]
        client.post(f"/v1/sessions/{session}/steps", json={})
        assert next(read(lines)).type == "run.started"


def test_a_client_that_leaves_does_not_end_the_run() -> None:
    gate = Gate()
    with running_server([gated(gate)]) as server, server.client() as client:
        session = create(client, "gated")
        with client.stream("POST", f"/v1/sessions/{session}/runs", json={"max_steps": 2}, headers=STREAM) as stream:
            run_id = next(read(stream.iter_lines())).data["run_id"]
        other = create(client, "gated")
        address = httpx.URL(server.url)
        with socket.create_connection((address.host, address.port or 0)) as connection:
            connection.sendall(posted(f"/v1/sessions/{other}/runs", b'{"max_steps": 2}'))
            while client.get(f"/v1/sessions/{other}").json()["status"] != "running":
                time.sleep(0.005)
        (left,) = client.get(f"/v1/sessions/{other}/runs").json()["items"]
        assert client.get(f"/v1/runs/{run_id}").json()["status"] == "running"
        gate.open()
        for each in (run_id, left["id"]):
            with client.stream("GET", f"/v1/runs/{each}/events") as stream:
                assert types(list(read(stream.iter_lines())))[-1] == "run.finished"
        assert client.get(f"/v1/sessions/{other}").json()["seq"] == 1


def test_a_second_run_is_refused_while_the_first_goes_on() -> None:
    gate = Gate()
    with running_server([gated(gate)]) as server, server.client() as client:
        session = create(client, "gated")
        with client.stream("POST", f"/v1/sessions/{session}/runs", json={"max_steps": 2}, headers=STREAM) as stream:
            events = read(stream.iter_lines())
            first = next(events)
            for path in ("steps", "runs"):
                refused = client.post(f"/v1/sessions/{session}/{path}", json={})
                assert (refused.status_code, refused.json()["type"]) == (409, "urn:stepwell:problem:session-busy")
                assert refused.json()["run_id"] == first.data["run_id"]
            assert client.get(f"/v1/sessions/{session}").json()["status"] == "running"
            gate.open()
            assert types(list(events))[-1] == "run.finished"


def test_a_run_is_cancelled_over_http() -> None:
    with running_server([gated(Gate())]) as server, server.client() as client:
        session = create(client, "gated")
        with client.stream("POST", f"/v1/sessions/{session}/runs", json={}, headers=STREAM) as stream:
            events = read(stream.iter_lines())
            run_id = next(event.data["run_id"] for event in events if event.type == "step.finished")
            cancelled = client.post(f"/v1/runs/{run_id}/cancel")
            assert (cancelled.status_code, cancelled.json()["status"], cancelled.json()["reason"]) == (
                200,
                "cancelled",
                "requested",
            )
            assert types(list(events))[-1] == "run.cancelled"
        waiting: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: waiting.append(client.post(f"/v1/sessions/{session}/runs", json={})))
        thread.start()
        while (busy := client.get(f"/v1/sessions/{session}").json())["status"] != "running":
            time.sleep(0.005)
        (current,) = [each for each in client.get(f"/v1/sessions/{session}/runs").json()["items"] if each["status"] == "running"]
        client.post(f"/v1/runs/{current['id']}/cancel")
        thread.join()
        assert (waiting[0].status_code, waiting[0].json()["type"]) == (409, "urn:stepwell:problem:run-cancelled")
        assert busy["seq"] == 0


def test_everybody_is_told_when_the_service_ends() -> None:
    settings = HostSettings(shutdown_grace_s=0.2)
    with running_server([gated(Gate()), counter()], settings=settings) as server, server.client() as client:
        session, idle = create(client, "gated"), create(client, "counter")
        told: dict[str, list[Told]] = {}
        ready = [threading.Event(), threading.Event(), threading.Event()]

        def follow(name: str, method: str, path: str, sign: threading.Event) -> None:
            with (
                server.client() as own,
                own.stream(method, path, headers=STREAM, json={} if method == "POST" else None) as stream,
            ):
                lines = stream.iter_lines()
                next(lines)
                sign.set()
                told[name] = list(read(lines))

        calls = [
            ("follower", "GET", f"/v1/sessions/{session}/events"),
            ("runner", "POST", f"/v1/sessions/{session}/runs"),
            ("idler", "GET", f"/v1/sessions/{idle}/events"),
        ]
        threads = [threading.Thread(target=follow, args=(*call, sign)) for call, sign in zip(calls, ready, strict=True)]
        for thread, sign in zip(threads, ready, strict=True):
            thread.start()
            assert sign.wait(60)
        server.begin_drain()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert types(told["follower"])[-1] == types(told["runner"])[-1] == "step.started", "the run goes on elsewhere"
        assert told["idler"] == []


def test_a_service_that_ends_takes_no_new_work() -> None:
    gate = Gate()
    with running_server([gated(gate)], settings=HostSettings(shutdown_grace_s=12)) as server, server.client() as client:
        session, other = create(client, "gated"), create(client, "gated")
        with client.stream("POST", f"/v1/sessions/{session}/runs", json={}, headers=STREAM) as stream:
            events = read(stream.iter_lines())
            next(events)
            assert server.loop is not None
            server.loop.call_soon_threadsafe(server.host.begin_drain)
            while (answer := client.post(f"/v1/sessions/{other}/steps", json={})).status_code != 503:
                time.sleep(0.005)
            assert answer.json()["type"] == "urn:stepwell:problem:shutting-down"
            assert int(answer.headers["Retry-After"]) >= 1
            assert (client.get("/readyz").status_code, client.get("/healthz").status_code) == (503, 200)
            assert client.get(f"/v1/sessions/{other}").status_code == 200, "what is there can still be looked at"
            gate.open()
            assert types(list(events))[-2:] == ["step.started", "step.finished"]


def test_a_follower_that_does_not_read_slows_no_step() -> None:
    with running_server([streamer(items=50)], settings=HostSettings(event_buffer=64)) as server, server.client() as client:
        session = create(client, "streamer")
        with client.stream("GET", f"/v1/sessions/{session}/events") as stream:
            for _ in range(40):
                assert client.post(f"/v1/sessions/{session}/steps", json={}).status_code == 200
            seen = []
            for event in read(stream.iter_lines()):
                seen.append(event)
                if event.type == "run.finished" and sum(each.type == "run.finished" for each in seen) == 40:
                    break
        assert [event.id for event in seen] == sorted({event.id for event in seen})
        assert [each.data["seq"] for each in seen if each.type == "step.finished"] == list(range(40))


async def test_hundreds_of_runs_and_followers_share_the_loop() -> None:
    with running_server([turns("slow", pause_s=0.1)]) as server, server.client() as client:
        sessions = [create(client, "slow") for _ in range(300)]
        address = httpx.URL(server.url)

        async def one(session: str) -> list[str]:
            """By hand: with hundreds of connections httpx takes longer than the service."""
            reader, writer = await asyncio.open_connection(address.host, address.port)
            body = b'{"max_steps": 3}'
            writer.write(posted(f"/v1/sessions/{session}/runs", body, "Accept: text/event-stream"))
            told = await reader.read()
            writer.close()
            return [line.removeprefix("event: ") for line in told.decode().split("\n") if line.startswith("event: ")]

        results = await asyncio.gather(*(one(session) for session in sessions))
        expected = ["run.started", *["step.started", "step.finished"] * 3, "run.finished"]
        assert results == [expected] * len(sessions)


def test_lines_are_kept_alive(server: RunningServer) -> None:
    with running_server([counter()], settings=HostSettings(ping_s=0.02)) as own, own.client() as client:
        session = create(client)
        with client.stream("GET", f"/v1/sessions/{session}/events") as stream:
            comments = 0
            for line in stream.iter_lines():
                comments += line == ": ping"
                if comments == 3:
                    break
