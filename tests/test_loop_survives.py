"""Nothing that an action does to the event loop of a real service ends the service."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service_process import ServiceProcess, running_service

MACHINES = """
    import asyncio
    from app.engine import ApplicationBuilder, State, action
    from app.engine.machine import Machine

    def quit_all():
        raise SystemExit("secret")

    def interrupt(*_):
        raise KeyboardInterrupt("secret")

    async def nothing():
        pass

    @action(reads=[], writes=["done"])
    async def act(state: State, way: str) -> State:
        loop = asyncio.get_running_loop()
        if way == "stop":
            loop.stop()
        elif way == "stop soon":
            loop.call_soon(loop.stop)
        elif way == "stop from a thread":
            await asyncio.to_thread(lambda: loop.call_soon_threadsafe(loop.stop))
        elif way == "call_soon":
            loop.call_soon(quit_all)
        elif way == "call_later":
            loop.call_later(0.01, interrupt)
        elif way == "call_soon_threadsafe":
            await asyncio.to_thread(lambda: loop.call_soon_threadsafe(interrupt))
        elif way == "done callback":
            asyncio.create_task(nothing()).add_done_callback(interrupt)
        await asyncio.sleep(0.1)
        return state.update(done=True)

    loops = Machine(
        "loops",
        lambda: ApplicationBuilder().with_actions(act).with_transitions(("act", "act")).with_entrypoint("act"),
    )
"""
STOPS = ["stop", "stop soon", "stop from a thread"]
RAISES = ["call_soon", "call_later", "call_soon_threadsafe", "done callback"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder: Path = tmp_path_factory.mktemp("loops")
    (folder / "machines.py").write_text(textwrap.dedent(MACHINES))
    with running_service("machines.py:loops", "--database-url", "memory://", cwd=folder) as service:
        yield service


def step(service: ServiceProcess, way: str) -> tuple[int, Any]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        session = client.post("/v1/sessions", json={"machine": "loops"}).json()["id"]
        answer = client.post(f"/v1/sessions/{session}/steps", json={"inputs": {"way": way}})
        again = client.post("/v1/sessions", json={"machine": "loops"})
        assert again.status_code == 201
        return answer.status_code, answer.json()


@pytest.mark.parametrize("way", STOPS)
def test_an_action_cannot_stop_the_loop_of_the_service(service: ServiceProcess, way: str) -> None:
    status, answer = step(service, way)
    if way == "stop":
        assert status == 424
        assert "action 'act' called stop() of the event loop" in str(answer)
    else:
        assert status == 200


@pytest.mark.parametrize("way", RAISES)
def test_a_callback_that_would_end_a_script_does_not_end_the_service(service: ServiceProcess, way: str) -> None:
    status, _ = step(service, way)
    assert status == 200
    told = [line for line in service.errors if "a callback on the event loop would have ended the service" in line]
    assert told
    assert not any("secret" in line for line in service.errors)
