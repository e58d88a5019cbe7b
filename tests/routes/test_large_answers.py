"""A large state is turned into text beside the event loop, and comes to the client whole."""

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.engine.serde import KEY, deserializer, serialize
from tests.server import RunningServer, running_server

ROWS = 20_000


class Witness:
    """Remembers which threads have turned it into text."""

    threads: ClassVar[set[str]] = set()


@serialize.register(Witness)
def _write(_: Witness, **__: Any) -> dict[str, Any]:
    Witness.threads.add(threading.current_thread().name)
    return {KEY: "witness", "seen": True}


deserializer.register("witness")(lambda _value, **__: Witness())


@action(reads=[], writes=["rows", "witness"])
async def fill(state: State[Any], rows: int) -> State[Any]:
    return state.update(rows=[{"number": number, "parts": [number, None, 0.5]} for number in range(rows)], witness=Witness())


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    builder = ApplicationBuilder().with_actions(fill).with_transitions(("fill", "fill")).with_entrypoint("fill")
    with running_server([Machine("filler", lambda: builder)]) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


def filled(client: httpx.Client, rows: int) -> str:
    session_id: str = client.post("/v1/sessions", json={"machine": "filler"}).json()["id"]
    taken = client.post(f"/v1/sessions/{session_id}/steps", json={"inputs": {"rows": rows}}, headers={"Prefer": "return=minimal"})
    assert taken.status_code == 200
    Witness.threads.clear()
    return session_id


@pytest.mark.parametrize("path", ["", "/steps", "/steps/0"])
def test_a_large_answer_is_made_beside_the_loop_and_is_whole(client: httpx.Client, server: RunningServer, path: str) -> None:
    answer = client.get(f"/v1/sessions/{filled(client, ROWS)}{path}")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert f'{{"number":{ROWS - 1},"parts":[{ROWS - 1},null,0.5]}}' in answer.text
    assert '{"seen":true}' in answer.text
    assert Witness.threads
    assert all(name.startswith("stepwell-encoding") for name in Witness.threads)


def test_a_small_answer_is_made_at_once(client: httpx.Client) -> None:
    session_id = filled(client, 3)
    answer = client.get(f"/v1/sessions/{session_id}")
    assert answer.json()["state"]["witness"] == {"seen": True}
    assert answer.headers["etag"] == '"0"'
    assert Witness.threads == {"test-server"}


def test_a_large_event_is_made_beside_the_loop_and_is_whole(client: httpx.Client) -> None:
    session_id = filled(client, ROWS)
    run_id = client.get(f"/v1/sessions/{session_id}/runs").json()["items"][0]["id"]
    with client.stream("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "0"}) as stream:
        text = "".join(stream.iter_text())
    assert f'{{"number":{ROWS - 1},"parts":[{ROWS - 1},null,0.5]}}' in text
    assert all(name.startswith("stepwell-encoding") for name in Witness.threads)
