"""SIGKILL in the middle of fifty runs: what was answered or streamed as finished is there, once, and everything can go on."""

import asyncio
import signal
import textwrap
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service_process import ServiceProcess, run_command, running_service
from tests.sse import events

SESSIONS = 50
ENOUGH = 20  # steps that each session has been told of, on average, before the kill

MACHINE = """
    import asyncio
    from app.engine import ApplicationBuilder, State, action, streaming_action

    @action(reads=["n"], writes=["n", "log"])
    async def tick(state: State) -> tuple[dict, State]:
        await asyncio.sleep(0.002)
        return {"n": state["n"] + 1}, state.increment(n=1).append(log=state["n"])

    @action(reads=["n"], writes=["n", "log"])
    def tock(state: State) -> tuple[dict, State]:
        return {"n": state["n"] + 1}, state.increment(n=1).append(log=state["n"])

    @streaming_action(reads=["n"], writes=["n", "log"])
    async def tell(state: State):
        for part in range(3):
            await asyncio.sleep(0.001)
            yield {"part": part}, None
        yield {"n": state["n"] + 1}, state.increment(n=1).append(log=state["n"])

    def clock() -> ApplicationBuilder:
        return (
            ApplicationBuilder()
            .with_actions(tick, tock, tell)
            .with_transitions(("tick", "tock"), ("tock", "tell"), ("tell", "tick"))
            .with_state(n=0, log=[])
            .with_entrypoint("tick")
        )
"""


@dataclass
class Witness:
    """What clients were told: the result of each finished step by session and `seq`, and event ids in their order."""

    steps: dict[str, dict[int, Any]] = field(default_factory=lambda: defaultdict(dict))
    event_ids: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def saw(self, session: str, seq: int, result: Any) -> None:
        assert seq not in self.steps[session], f"step {seq} of {session} was finished twice"
        self.steps[session][seq] = result
        if sum(map(len, self.steps.values())) >= SESSIONS * ENOUGH and len(self.steps) == SESSIONS:
            self.enough.set()


async def by_stream(client: httpx.AsyncClient, session: str, witness: Witness) -> None:
    """One long run, followed by server-sent events."""
    async with client.stream(
        "POST", f"/v1/sessions/{session}/runs", json={}, headers={"Accept": "text/event-stream"}
    ) as response:
        async for event_id, kind, data in events(response):
            witness.event_ids[session].append(event_id)
            if kind == "step.finished":
                witness.saw(session, data["seq"], data["result"])


async def by_steps(client: httpx.AsyncClient, session: str, witness: Witness) -> None:
    """One step after the other, each waited for."""
    while True:
        answer = (await client.post(f"/v1/sessions/{session}/steps", json={})).json()
        witness.saw(session, answer["seq"], answer["result"])


async def by_runs(client: httpx.AsyncClient, session: str, witness: Witness) -> None:
    """Runs of three steps, each waited for; the answer stands for its last step."""
    while True:
        answer = (await client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 3})).json()
        witness.saw(session, answer["seq"], answer["result"])


async def bring_about(service: ServiceProcess, witness: Witness) -> None:
    """Start fifty sessions in three ways, and kill the service when they are in full swing."""
    limits = httpx.Limits(max_connections=2 * SESSIONS)
    async with httpx.AsyncClient(base_url=service.url, timeout=100, limits=limits) as client:
        ids = [f"clock-{number}" for number in range(SESSIONS)]
        for made in await asyncio.gather(*(client.post("/v1/sessions", json={"machine": "clock", "id": each}) for each in ids)):
            assert made.status_code == 201, made.text

        async def until_killed(number: int, session: str) -> None:
            with suppress(httpx.TransportError):
                await (by_stream, by_steps, by_runs)[number % 3](client, session, witness)

        async with asyncio.TaskGroup() as group:
            for number, session in enumerate(ids):
                group.create_task(until_killed(number, session))
            async with asyncio.timeout(200):
                await witness.enough.wait()
            service.kill()


async def history(client: httpx.AsyncClient, session: str) -> list[dict[str, Any]]:
    """All steps of a session, page by page."""
    steps: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = (await client.get(f"/v1/sessions/{session}/steps", params={"limit": 100, **cursor})).json()
        steps += page["items"]
        if page.get("next_cursor") is None:
            return steps
        cursor = {"cursor": page["next_cursor"]}


async def check(service: ServiceProcess, witness: Witness) -> None:
    """The claims of this test, for every session, after a new start."""
    async with httpx.AsyncClient(base_url=service.url, timeout=100) as client:
        assert (await client.get("/readyz")).status_code == 200
        for session, told in witness.steps.items():
            await end_what_goes_on(client, session)
            found = (await client.get(f"/v1/sessions/{session}")).json()
            steps = await history(client, session)
            assert [step["seq"] for step in steps] == list(range(found["seq"] + 1)), "a gap, or a step twice"
            assert {seq: steps[seq]["result"] for seq in told} == told, "a finished step is lost or another one"
            assert [step["result"]["n"] for step in steps] == list(range(1, len(steps) + 1))
            assert found["state"] == {"n": len(steps), "log": list(range(len(steps)))}
            assert found["status"] != "running"
            went_on = await client.post(f"/v1/sessions/{session}/steps", json={})
            assert (went_on.status_code, went_on.json()["seq"]) == (200, len(steps)), went_on.text
        for session in (each for each in witness.event_ids if witness.event_ids[each]):
            await check_events(client, session, witness.event_ids[session])


async def end_what_goes_on(client: httpx.AsyncClient, session: str) -> None:
    """Cancel the run that the kill has interrupted: the new service goes on with it."""
    for run in (await client.get(f"/v1/sessions/{session}/runs", params={"limit": 1000})).json()["items"]:
        if run["finished_at"] is None:
            ended = (await client.post(f"/v1/runs/{run['id']}/cancel")).json()
            assert ended["status"] in ("cancelled", "finished"), ended


async def check_events(client: httpx.AsyncClient, session: str, told: list[int]) -> None:
    """A follower that comes back with its last id gets every step after it once, in order, up to the one just made."""
    stood = (await client.get(f"/v1/sessions/{session}")).json()["seq"]
    again: list[tuple[int, str, Any]] = []
    async with client.stream("GET", f"/v1/sessions/{session}/events", headers={"Last-Event-ID": str(told[-1])}) as response:
        async for event in events(response):
            again.append(event)
            if event[1] == "step.finished" and event[2]["seq"] == stood:
                break
    ids = told + [event_id for event_id, _, _ in again]
    assert ids == sorted(set(ids)), "event ids must grow, also across a crash"
    finished = [data["seq"] for _, kind, data in again if kind == "step.finished"]
    assert finished == list(range(finished[0], stood + 1))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that outlives the service."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/kill.db"
    return str(request.getfixturevalue("postgres_url"))


async def test_a_killed_service_loses_no_finished_step_and_repeats_none(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "clock.py").write_text(textwrap.dedent(MACHINE))
    witness = Witness()
    with running_service("--database-url", database_url, "clock.py", cwd=tmp_path) as first:
        await bring_about(first, witness)
    assert len(witness.steps) == SESSIONS
    with running_service("--database-url", database_url, "clock.py", cwd=tmp_path) as second:
        await check(second, witness)
        assert second.stop() == 0
        assert "Traceback" not in second.text()


POISON = """
    import os, signal
    from app.engine import ApplicationBuilder, State, action

    @action(reads=[], writes=["n"])
    async def count(state: State) -> State:
        return state.increment(n=1)

    @action(reads=[], writes=["n"])
    async def die(state: State) -> State:
        os.kill(os.getpid(), signal.SIGKILL)
        return state

    def poison() -> ApplicationBuilder:
        return (
            ApplicationBuilder()
            .with_actions(count, die)
            .with_transitions(("count", "die"))
            .with_state(n=0)
            .with_entrypoint("count")
        )
"""


@pytest.mark.timeout(300)  # it starts four services
def test_a_run_that_kills_its_service_ends_as_failed_at_the_third_start_after_it(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "poison.py").write_text(textwrap.dedent(POISON))
    arguments = ("--database-url", database_url, "poison.py")
    with running_service(*arguments, cwd=tmp_path) as service, httpx.Client(base_url=service.url, timeout=100) as http:
        assert http.post("/v1/sessions", json={"machine": "poison", "id": "p"}).status_code == 201
        accepted = http.post("/v1/sessions/p/runs", json={}, headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202
        assert service.wait() == -signal.SIGKILL
    for _ in range(2):
        again = run_command("serve", "--port", "0", *arguments, cwd=tmp_path)
        assert again.returncode == -signal.SIGKILL, "it goes on with the run, and dies of it again"
    with running_service(*arguments, cwd=tmp_path) as service, httpx.Client(base_url=service.url, timeout=100) as http:
        run = ended(http, accepted.json()["id"])
        assert (run["status"], run["steps"], run["error"]["type"]) == ("failed", 1, "recovery-failed")
        assert "at each of 3 attempts" in run["error"]["message"]
        assert http.get("/v1/sessions/p").json()["status"] == "failed"
        assert [step["seq"] for step in http.get("/v1/sessions/p/steps").json()["items"]] == [0]


def ended(http: httpx.Client, run_id: str) -> dict[str, Any]:
    """The run when it has ended; over PostgreSQL the service that is dead has to be taken for dead first."""
    until_s = time.monotonic() + 60
    while (run := http.get(f"/v1/runs/{run_id}").json()).get("finished_at") is None:
        assert time.monotonic() < until_s, run
        time.sleep(0.1)
    return dict(run)
