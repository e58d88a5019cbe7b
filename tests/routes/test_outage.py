"""A database that goes away and comes back: 503 meanwhile, nothing lost, nothing done twice, and no restart."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

from app.persistence.memory import MemoryStore
from app.persistence.records import Commit
from app.persistence.store import StoreUnavailable
from app.sessions.host import SessionHost
from tests.machines import Gate, gated, turns
from tests.routes.test_sessions_over_http import create
from tests.server import running_server


class Outage(MemoryStore):
    """A store that can be made to refuse, as a database does that is gone."""

    is_away = False

    async def ping(self) -> None:
        self._require_there()

    async def commit(self, commit: Commit) -> None:
        self._require_there()
        await super().commit(commit)

    def _require_there(self) -> None:
        if self.is_away:
            raise StoreUnavailable("the database is away", retry_after_s=3)


def test_an_outage_is_503_and_leaves_everything_where_it_was() -> None:
    store = Outage()
    with running_server([turns()], store) as server, server.client() as client:
        session = create(client, "turns")
        path = f"/v1/sessions/{session}"
        assert client.post(f"{path}/steps", json={}).json()["seq"] == 0
        before = client.get(path).json()
        store.is_away = True
        for answer in (client.post(f"{path}/steps", json={}), client.post(f"{path}/runs", json={}), client.get("/readyz")):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:stepwell:problem:store-unavailable")
            assert answer.headers["Retry-After"] == "3"
        assert client.get("/healthz").status_code == 200
        store.is_away = False
        assert client.get("/readyz").status_code == 200
        now = client.get(path).json()
        assert {key: now[key] for key in ("seq", "state", "next_action")} == {
            key: before[key] for key in ("seq", "state", "next_action")
        }
        answer = client.post(f"{path}/steps", json={}).json()
        assert (answer["seq"], answer["action"], answer["state"]) == (1, "b", {"words": ["a", "b"]})


def test_a_stream_waits_for_the_end_of_an_outage_and_tells_the_end_that_the_run_has() -> None:
    store = Outage()
    with running_server([turns("slow", pause_s=0.05)], store) as server, server.client() as client:
        session = create(client, "slow")
        asked = {"json": {"max_steps": 4}, "headers": {"Accept": "text/event-stream"}}
        with client.stream("POST", f"/v1/sessions/{session}/runs", **asked) as stream:  # type: ignore[arg-type]  # by name
            told: list[str] = []
            last: dict[str, str] = {}
            outages = 0
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                told += [value] if name == "event" else []
                if value == "step.finished" and not outages:
                    outages += 1
                    store.is_away = True
                    server.call(until_refused)
                    store.is_away = False
                last = {**last, name: value} if line else last
            run = client.get(stream.headers["Location"]).json()
        assert [each for each in told if each.startswith("run.")] == ["run.started", "run.finished"]
        assert told.count("step.finished") == 4
        assert (run["status"], run["steps"], json.loads(last["data"])["steps"]) == ("finished", 4, 4)


async def until_refused(host: SessionHost) -> None:
    """Return when a run that was under way has been refused a step."""
    while not host.desk.resumer.left:  # noqa: ASYNC110  # a set gives no sign
        await asyncio.sleep(0.01)


def test_who_waited_for_a_run_that_an_outage_has_left_is_told_where_to_look_for_its_end() -> None:
    store, gate = Outage(), Gate()
    with running_server([gated(gate)], store) as server, server.client() as client, ThreadPoolExecutor(1) as thread:
        session = create(client, "gated")
        waiting = thread.submit(client.post, f"/v1/sessions/{session}/runs", json={"max_steps": 3})
        assert gate.reached.wait(60)
        store.is_away = True
        gate.open()
        answer = waiting.result()
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (503, "urn:stepwell:problem:store-unavailable")
        assert answer.headers["Location"] == f"/v1/runs/{problem['run_id']}"
        assert (problem["session_id"], answer.headers["Retry-After"]) == (session, "3")
        store.is_away = False
        while (run := client.get(answer.headers["Location"]).json())["finished_at"] is None:
            time.sleep(0.01)
        assert (run["id"], run["status"], run["steps"]) == (problem["run_id"], "finished", 3)
