"""A large state is decoded, frozen and encoded in threads of the host at every look at it, never on the event loop."""

import copy
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.engine.serde import KEY, deserializer, serialize
from app.persistence.decoding import LARGE_BYTES, decoded_anywhere
from app.persistence.factory import open_store
from app.sessions.frozen_states import MOST_ON_LOOP, frozen_anywhere
from tests.server import RunningServer, running_server

ROWS = 4_000
HOST_THREADS = ("stepwell-encoding", "stepwell-load", "stepwell-browse", "stepwell-snapshot")


class Observer:
    """Remembers which threads have decoded, copied or encoded one of its kind."""

    threads: ClassVar[set[str]] = set()

    @classmethod
    def note(cls) -> None:
        cls.threads.add(threading.current_thread().name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Observer":
        self.note()
        return Observer()


@serialize.register(Observer)
def _write(observer: Observer, **__: Any) -> dict[str, Any]:
    observer.note()
    return {KEY: "observer"}


@deserializer.register("observer")
def _read(_value: Any, **__: Any) -> Observer:
    Observer.note()
    return Observer()


@action(reads=[], writes=["rows", "observer"])
async def fill(state: State[Any], rows: int) -> State[Any]:
    noise = random.Random(rows)
    made = [{"number": number, "parts": [noise.random(), None]} for number in range(rows)]
    return state.update(rows=made, observer=Observer())


BUILDER = ApplicationBuilder().with_actions(fill).with_transitions(("fill", "fill")).with_entrypoint("fill")
JSON = {"content-type": "application/json"}
Look = Callable[[httpx.Client, str], httpx.Response]
LOOKS: dict[str, Look] = {
    "steps": lambda client, path: client.get(f"{path}/steps"),
    "one step": lambda client, path: client.get(f"{path}/steps/0"),
    "fork": lambda client, path: client.post(f"{path}/fork", json={}),
    "fork with key": lambda client, path: client.post(f"{path}/fork", json={}, headers={"Idempotency-Key": "twice"}),
    "runs": lambda client, path: client.get(f"{path}/runs"),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    return str(request.getfixturevalue("postgres_store_url"))


def filled(server: RunningServer, rows: int) -> str:
    with server.client() as client:
        path = f"/v1/sessions/{client.post('/v1/sessions', json={'machine': 'filler'}).json()['id']}"
        taken = client.post(f"{path}/steps", json={"inputs": {"rows": rows}}, headers={"Prefer": "return=minimal"})
    assert taken.status_code == 200
    Observer.threads.clear()
    return path


def serving(url: str) -> Any:
    return running_server([Machine("filler", lambda: BUILDER)], open_store(url))


def test_no_look_at_a_large_state_decodes_freezes_or_encodes_it_on_the_loop(url: str) -> None:
    with serving(url) as server:
        path = filled(server, ROWS)
        seen = {}
        with server.client() as client:
            for name, look in LOOKS.items():
                Observer.threads.clear()
                for _ in range(2):
                    assert look(client, path).is_success
                seen[name] = set(Observer.threads)
    assert all(seen[name] for name in LOOKS if name != "runs")
    assert {thread for threads in seen.values() for thread in threads if not thread.startswith(HOST_THREADS)} == set()


def test_a_large_session_that_is_not_in_memory_is_read_beside_the_loop(url: str) -> None:
    with serving(url) as server:
        path = filled(server, ROWS)
    Observer.threads.clear()
    with serving(url) as server, server.client() as client:
        assert client.patch(path, json={"state": {"set": {"small": 1}}}, headers={"Prefer": "return=minimal"}).is_success
    assert Observer.threads
    assert [thread for thread in Observer.threads if not thread.startswith(HOST_THREADS)] == []


def test_a_small_state_is_handled_on_the_loop_at_once(url: str) -> None:
    with serving(url) as server:
        path = filled(server, 3)
        with server.client() as client:
            assert client.get(f"{path}/steps").is_success
            assert client.post(f"{path}/fork", json={}).is_success
    assert Observer.threads == {"test-server"}


def test_a_fork_of_a_large_session_has_the_same_state(url: str) -> None:
    with serving(url) as server:
        path = filled(server, ROWS)
        with server.client() as client:
            parent = client.get(path).json()["state"]
            child = client.post(f"{path}/fork", json={}, headers={"Idempotency-Key": "same"}).json()
            again = client.post(f"{path}/fork", json={}, headers={"Idempotency-Key": "same"}).json()
            first = client.get(f"{path}/steps/0").json()
    assert parent["rows"][-1]["number"] == ROWS - 1
    assert child["state"] == again["state"] == first["state"] == parent
    assert child["id"] == again["id"]


@pytest.mark.parametrize(("size", "is_aside"), [(LARGE_BYTES, False), (LARGE_BYTES + 1, True)])
async def test_blobs_are_decoded_in_a_thread_when_together_they_are_large(size: int, is_aside: bool) -> None:
    halves = [bytes(size // 2), bytes(size - size // 2)]
    name = await decoded_anywhere(halves, lambda: threading.current_thread().name)
    assert name.startswith("stepwell-encoding") is is_aside


@pytest.mark.parametrize("count", [1, MOST_ON_LOOP + 1])
async def test_values_are_frozen_whole_and_shared_with_nobody_wherever_that_happens(count: int) -> None:
    values = {"rows": [[number] for number in range(count)], "observer": Observer()}
    before = copy.deepcopy(values["rows"])
    Observer.threads.clear()
    frozen = await frozen_anywhere(values)
    values["rows"][0].append("changed")  # type: ignore[index]  # a list of lists
    assert frozen["rows"] == before
    assert all(name.startswith("stepwell-encoding") is (count > MOST_ON_LOOP) for name in Observer.threads)
    assert Observer.threads


def test_a_large_body_is_taken_whole_and_a_wrong_one_is_refused_as_a_small_one_is(url: str) -> None:
    rows = [{"number": number} for number in range(10_000)]
    with serving(url) as server, server.client() as client:
        made = client.post("/v1/sessions", json={"machine": "filler", "state": {"rows": rows}})
        assert made.json()["state"]["rows"] == rows
        edited = client.patch(f"/v1/sessions/{made.json()['id']}", json={"state": {"set": {"rows": rows[::-1]}}})
        assert edited.json()["state"]["rows"] == rows[::-1]
        wrong = [client.post("/v1/sessions", json={"machine": "filler", "state": rows[:count]}) for count in (1, 10_000)]
        cut = [client.post("/v1/sessions", content=b'{"state": "' + b"1" * count, headers=JSON) for count in (1, 100_000)]
    assert [each.status_code for each in wrong] == [422, 422]
    assert wrong[0].json()["errors"] == wrong[1].json()["errors"]
    assert cut[0].status_code == cut[1].status_code == 400
    assert cut[0].json()["type"] == cut[1].json()["type"]
