"""The peer: the same bad machines as apache-burr applications behind FastAPI, kept in memory and never stored.

`python -m benchmarks.loop_peer` prints its address first. `POST /{machine}/{session_id}/steps` steps one.
"""

import socket
import time
from typing import Any

import uvicorn
from burr.core import Application, ApplicationBuilder, State, action
from fastapi import FastAPI

from benchmarks.loop_machines import SLEEP_S, burn


@action(reads=["count"], writes=["count"])
async def count(state: State) -> State:
    return state.update(count=state["count"] + 1)


@action(reads=["count"], writes=["count"])
def sleep(state: State) -> State:
    time.sleep(SLEEP_S)
    return state.update(count=state["count"] + 1)


@action(reads=["count"], writes=["count"])
def compute(state: State) -> State:
    burn()
    return state.update(count=state["count"] + 1)


@action(reads=["count"], writes=["count"])
async def block(state: State) -> State:
    time.sleep(SLEEP_S)  # noqa: ASYNC251 - the mistake that is measured
    return state.update(count=state["count"] + 1)


ACTIONS: dict[str, Any] = {"counting": count, "sleeping": sleep, "computing": compute, "blocking": block}


def service() -> FastAPI:
    app = FastAPI()
    kept: dict[tuple[str, str], Application[Any]] = {}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/{machine}/{session_id}/steps")
    async def step(machine: str, session_id: str) -> dict[str, Any]:
        application = kept.get((machine, session_id))
        if application is None:
            builder = ApplicationBuilder().with_actions(act=ACTIONS[machine]).with_transitions(("act", "act"))
            application = kept[machine, session_id] = await builder.with_state(count=0).with_entrypoint("act").abuild()
        stepped = await application.astep()
        assert stepped is not None
        return {"action": stepped[0].name, "state": stepped[2].get_all()}

    return app


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(service(), http="httptools", access_log=False, log_level="error")
        uvicorn.Server(config).run(sockets=[listener])
