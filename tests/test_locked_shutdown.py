"""A service that is told to end while another process holds SQLite's lock answers what is under way with a problem."""

import signal
import sqlite3
import textwrap
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service_process import running_service

LIMIT_S = 60.0
MACHINES = """
    from app.engine import ApplicationBuilder, State, action
    from app.engine.machine import Machine

    @action(reads=["n"], writes=["n"])
    async def count(state: State) -> State:
        print("a step runs", flush=True)
        return state.increment(n=1)

    counter = Machine("counter", lambda: ApplicationBuilder().with_actions(count).with_transitions(("count", "count"))
        .with_state(n=0).with_entrypoint("count"))
"""


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/v1/sessions/s/runs", {"max_steps": 1}), ("PATCH", "/v1/sessions/s", {"state": {"set": {"n": 5}}})],
    ids=["run", "edit"],
)
def test_a_request_that_waits_for_a_locked_database_gets_a_problem_when_the_service_ends(
    tmp_path: Path, method: str, path: str, body: dict[str, Any]
) -> None:
    (tmp_path / "machines.py").write_text(textwrap.dedent(MACHINES))
    url, answers = f"sqlite:///{tmp_path}/sessions.db", []
    grace = {"STEPWELL_SHUTDOWN_GRACE_S": "1"}
    sent = threading.Event()

    def trace(event: str, _: Any) -> None:
        if event == "http11.send_request_body.complete":
            sent.set()

    with (
        running_service("machines.py:counter", "--database-url", url, cwd=tmp_path, variables=grace) as service,
        httpx.Client(base_url=service.url, timeout=LIMIT_S) as client,
        closing(sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)) as other,
    ):
        assert client.post("/v1/sessions", json={"machine": "counter", "id": "s"}).status_code == 201
        other.execute("BEGIN IMMEDIATE")
        ask = lambda: answers.append(client.request(method, path, json=body, extensions={"trace": trace}))  # noqa: E731  # short
        asking = threading.Thread(target=ask)
        asking.start()
        assert sent.wait(LIMIT_S)
        assert httpx.get(f"{service.url}/healthz").status_code == 200  # the loop has read what was sent before
        for _ in range(2):
            service.process.send_signal(signal.SIGTERM)
        asking.join(LIMIT_S)
        service.wait()
    (answer,) = answers
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] in ("urn:stepwell:problem:shutting-down", "urn:stepwell:problem:store-unavailable")
