"""Calls that never return use the threads up: that is told, what is short goes on, and the service heals when they return."""

import threading
import time
from typing import Any

from app.engine import ApplicationBuilder, State, action
from app.engine.hooks import PostRunStepHook
from app.engine.machine import Machine
from app.executors.ladder import ExecutorSettings
from app.sessions.host_settings import HostSettings
from tests.server import running_server

LIMIT_S = 60.0


def machines(hold: threading.Event, hooks: list[str]) -> list[Machine]:
    class Hook(PostRunStepHook):
        def post_run_step(self, **_: Any) -> None:
            hooks.append("called")

    @action(reads=[], writes=["n"], executor="thread")
    def hang(state: State) -> State:
        hold.wait(LIMIT_S)
        return state.update(n=1)

    @action(reads=[], writes=["n"])
    async def quick(state: State) -> State:
        return state.update(n=1)

    def of(only: Any) -> ApplicationBuilder[Any]:
        return ApplicationBuilder().with_actions(only=only).with_entrypoint("only").with_transitions(("only", "only"))

    return [Machine("hang", lambda: of(hang)), Machine("hooked", lambda: of(quick).with_hooks(Hook()))]


def test_threads_that_never_come_back_are_told_of_and_what_is_short_goes_on() -> None:
    hold, hooks = threading.Event(), []  # type: threading.Event, list[str]
    settings = HostSettings(executors=ExecutorSettings(threads=1, thread_replacements=1))
    try:
        with running_server(machines(hold, hooks), settings=settings) as server, server.client() as client:
            for _ in range(2):
                session = client.post("/v1/sessions", json={"machine": "hang"}).json()["id"]
                answer = client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 1, "timeout_s": 0.2})
                assert (answer.status_code, answer.json()["reason"]) == (409, "timeout")
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:stepwell:problem:pool-exhausted")
            assert 'stepwell_pool_exhausted{pool="thread"} 1.0' in client.get("/metrics").text
            assert client.post(f"/v1/sessions/{session}/steps", json={}).status_code == 503
            other = client.post("/v1/sessions", json={"machine": "hooked"}).json()["id"]
            assert client.post(f"/v1/sessions/{other}/steps", json={}).status_code == 200
            assert hooks == ["called"], "a hook does not need a thread of the actions"
            hold.set()
            until_s = time.monotonic() + LIMIT_S
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < until_s
                time.sleep(0.02)
            assert client.post(f"/v1/sessions/{session}/steps", json={}).status_code == 200
            assert 'stepwell_pool_exhausted{pool="thread"} 0.0' in client.get("/metrics").text
    finally:
        hold.set()
