"""An action that kills its process is called three times, and no more; the runs beside it go on."""

import contextlib
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service_process import ServiceProcess, running_service

LIMIT_S = 150.0
BYSTANDERS = 4
ASYNC = {"Prefer": "respond-async"}
MACHINES = """
    import asyncio, os, time
    from app.engine import ApplicationBuilder, State, action
    from app.engine.machine import Machine

    def note(word):
        with open("witness", "a") as file:
            file.write(word + chr(10))

    @action(reads=[], writes=["n"])
    async def die(state: State) -> State:
        note("die")
        await asyncio.sleep(0.3)  # the start of a run that somebody waits for is stored
        os._exit(9)

    @action(reads=[], writes=["n"])
    def die_at_once(state: State) -> State:
        note("die_at_once")
        os._exit(9)

    @action(reads=["n"], writes=["n"])
    async def live(state: State) -> State:
        await asyncio.sleep(0.7)
        return state.increment(n=1)

    def of(name, only):
        return Machine(
            name,
            lambda: ApplicationBuilder().with_actions(**{only.__name__: only}).with_transitions((only.__name__, only.__name__))
            .with_state(n=0).with_entrypoint(only.__name__),
        )

    slow_poison, poison, bystander = of("slow_poison", die), of("poison", die_at_once), of("bystander", live)
"""
ARGUMENTS = ("machines.py:slow_poison", "machines.py:poison", "machines.py:bystander")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    is_file = request.param == "sqlite"
    return f"sqlite:///{tmp_path}/sessions.db" if is_file else str(request.getfixturevalue("postgres_store_url"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "machines.py").write_text(textwrap.dedent(MACHINES))
    (tmp_path / "witness").touch()
    return tmp_path


@contextlib.contextmanager
def serving(folder: Path, url: str) -> Iterator[ServiceProcess | None]:
    """A service, or None if it died before it was ready."""
    with contextlib.ExitStack() as stack:
        try:
            service = stack.enter_context(running_service(*ARGUMENTS, "--database-url", url, cwd=folder))
        except AssertionError:
            yield None
            return
        yield service


def settled(service: ServiceProcess, runs: list[str]) -> list[dict[str, Any]] | None:
    """The runs when all of them have ended, None if the service dies before."""
    until = time.monotonic() + LIMIT_S
    with httpx.Client(base_url=service.url, timeout=30) as client:
        while time.monotonic() < until:
            try:
                found = [client.get(f"/v1/runs/{run}").json() for run in runs]
            except httpx.HTTPError:
                return None
            if all(run.get("finished_at") for run in found):
                return found
            time.sleep(0.1)
    raise AssertionError(found)


def post(client: httpx.Client, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response | None:
    with contextlib.suppress(httpx.HTTPError):  # the service dies with it
        return client.post(path, json=body, headers=headers)
    return None


@pytest.mark.parametrize("way", ["background", "key", "waited for", "schedule"])
def test_an_action_that_kills_its_process_is_called_three_times_and_its_run_fails(folder: Path, url: str, way: str) -> None:
    poison = "poison" if way in ("background", "schedule") else "slow_poison"
    action = {"poison": "die_at_once", "slow_poison": "die"}[poison]
    with serving(folder, url) as service:
        assert service is not None
        with httpx.Client(base_url=service.url, timeout=60) as client:
            session = client.post("/v1/sessions", json={"machine": poison}).json()["id"]
            beside = [client.post("/v1/sessions", json={"machine": "bystander"}).json()["id"] for _ in range(BYSTANDERS)]
            paths = [f"/v1/sessions/{each}/runs" for each in beside]
            innocent = [client.post(path, json={"max_steps": 3}, headers=ASYNC).json()["id"] for path in paths]
            if way == "schedule":
                body = {"session_id": session, "run": {"max_steps": 1}, "every_s": 1}
                schedule = post(client, "/v1/schedules", body)
                assert schedule is not None
                assert schedule.status_code == 201
            else:
                headers = {"background": ASYNC, "key": {"Idempotency-Key": "k"}, "waited for": {}}[way]
                post(client, f"/v1/sessions/{session}/runs", {"max_steps": 1}, headers)
        service.wait()
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        with serving(folder, url) as service:
            if service is None:
                continue
            with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=service.url, timeout=30) as client:
                runs = client.get(f"/v1/sessions/{session}/runs").json()["items"]
                found = settled(service, [*innocent, runs[0]["id"]])
                if found is None:
                    continue
                killer = found.pop()
                assert (killer["status"], killer["error"]["type"], killer["error"]["action"]) == (
                    "failed",
                    "recovery-failed",
                    action,
                )
                assert [(run["status"], run["steps"]) for run in found] == [("finished", 3)] * BYSTANDERS
                assert (folder / "witness").read_text().split() == [action] * 3
                if way == "schedule":
                    (only,) = client.get("/v1/schedules").json()["items"]
                    assert (only["paused"], only["next_at"], only["last_error"]["type"]) == (True, None, "recovery-failed")
                    assert (only["last_error"]["run_id"], only["last_error"]["action"]) == (killer["id"], action)
                warnings = client.get(f"/v1/machines/{poison}").json()["warnings"]
                assert [(each["kind"], each["action"]) for each in warnings if each["kind"] == "process_killed"] == [
                    ("process_killed", action)
                ]
                assert f'action="{action}",kind="process_killed",machine="{poison}"' in client.get("/metrics").text
                assert any(action in line and "ended the process" in line for line in service.errors)
            return
    raise AssertionError("the poison was not given up")
