"""The line in front of a session outlives the process: what was accepted first begins first, after SIGKILL and after SIGTERM."""

import signal
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.service_process import ServiceProcess, running_service

SESSIONS = 12
RUNS = 6
LIMIT_S = 120.0
ASYNC = {"Prefer": "respond-async"}
MACHINE = """
    import asyncio
    from app.engine import ApplicationBuilder, State, action

    @action(reads=[], writes=["notes"])
    async def note(state: State, token: int) -> State:
        await asyncio.sleep(0.15)
        return state.append(notes=token)

    def diary() -> ApplicationBuilder:
        return (
            ApplicationBuilder()
            .with_actions(note).with_transitions(("note", "note")).with_state(notes=[]).with_entrypoint("note")
        )
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    is_file = request.param == "sqlite"
    return f"sqlite:///{tmp_path}/sessions.db" if is_file else str(request.getfixturevalue("postgres_store_url"))


def serve(stack: ExitStack, folder: Path, url: str) -> ServiceProcess:
    return stack.enter_context(running_service("diary.py", "--database-url", url, cwd=folder))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_runs_that_waited_when_a_process_ended_begin_in_their_order(tmp_path: Path, url: str, number: signal.Signals) -> None:
    (tmp_path / "diary.py").write_text(textwrap.dedent(MACHINE))
    with ExitStack() as stack:
        first = serve(stack, tmp_path, url)
        # on PostgreSQL a second replica is there to go on with it
        others = [] if url.startswith("sqlite") else [serve(stack, tmp_path, url)]
        with httpx.Client(base_url=first.url, timeout=60) as client:
            sessions = [client.post("/v1/sessions", json={"machine": "diary"}).json()["id"] for _ in range(SESSIONS)]
            for token in range(RUNS):
                for session in sessions:
                    body = {"inputs": {"token": token}, "max_steps": 1, "on_busy": "enqueue"}
                    answer = client.post(f"/v1/sessions/{session}/runs", json=body, headers=ASYNC)
                    assert answer.status_code == 202, answer.text
        first.stop(number)
        after = others[0] if others else serve(stack, tmp_path, url)
        found: list[list[int]] = []
        with httpx.Client(base_url=after.url, timeout=60) as client:
            until = time.monotonic() + LIMIT_S
            while time.monotonic() < until and sum(map(len, found)) < SESSIONS * RUNS:
                time.sleep(0.1)
                found = [client.get(f"/v1/sessions/{session}").json()["state"]["notes"] for session in sessions]
        assert found == [list(range(RUNS))] * SESSIONS
