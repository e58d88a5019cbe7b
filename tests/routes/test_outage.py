"""A database that goes away and comes back: 503 meanwhile, nothing lost, nothing done twice, and no restart."""

import json

from app.persistence.memory import MemoryStore
from app.persistence.records import Commit
from app.persistence.store import StoreUnavailable
from tests.machines import turns
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


def test_a_stream_tells_of_the_outage_and_ends() -> None:
    store = Outage()
    with running_server([turns("slow", pause_s=0.05)], store) as server, server.client() as client:
        session = create(client, "slow")
        with client.stream("POST", f"/v1/sessions/{session}/runs", json={}, headers={"Accept": "text/event-stream"}) as stream:
            last: dict[str, str] = {}
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                if line == "event: step.finished":
                    store.is_away = True
                last = {**last, name: value} if line else last
        assert last["event"] == "run.failed"
        assert json.loads(last["data"])["error"]["type"] == "step-refused"
        store.is_away = False
        assert client.get(f"/v1/sessions/{session}").json()["status"] != "running"
        assert client.post(f"/v1/sessions/{session}/steps", json={}).status_code == 200
