"""The peer: apache-burr behind FastAPI, as somebody would write it in an afternoon. Run as a process of its own.

`python -m benchmarks.peer_service DATABASE` prints its address first. DATABASE is `sqlite:PATH` or a `postgresql://` URL. Each
request loads its application with Burr's own persister, steps it and saves it; `/kept/…` keeps applications in memory
and only saves, `/blocking/…` steps an action that sleeps 200 ms, and `/noop` is the floor of this process.
"""

import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from burr.core import Application, ApplicationBuilder, State, action
from burr.core.persistence import AsyncBaseStatePersister
from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister
from burr.integrations.persisters.b_asyncpg import AsyncPostgreSQLPersister
from fastapi import FastAPI

BLOCKING_S = 0.2


@action(reads=["count"], writes=["count"])
async def count(state: State) -> State:
    return state.update(count=state["count"] + 1)


@action(reads=["count"], writes=["count"])
def block(state: State) -> State:
    time.sleep(BLOCKING_S)
    return state.update(count=state["count"] + 1)


def _builder(persister: AsyncBaseStatePersister, app_id: str) -> Any:
    return (
        ApplicationBuilder()
        .with_actions(count)
        .with_transitions(("count", "count"))
        .with_identifiers(app_id=app_id, partition_key="benchmark")
        .with_state_persister(persister)
    )


async def _loaded(persister: AsyncBaseStatePersister, app_id: str) -> "Application[Any]":
    builder = _builder(persister, app_id).initialize_from(
        persister, resume_at_next_action=True, default_state={"count": 0}, default_entrypoint="count"
    )
    application: Application[Any] = await builder.abuild()
    return application


async def _kept(persister: AsyncBaseStatePersister, app_id: str) -> "Application[Any]":
    application: Application[Any] = await _builder(persister, app_id).with_state(count=0).with_entrypoint("count").abuild()
    return application


async def _answer(application: "Application[Any]", session_id: str) -> dict[str, Any]:
    stepped = await application.astep()
    assert stepped is not None
    ran, result, state = stepped
    return {"session_id": session_id, "action": ran.name, "result": result, "state": state.get_all(), "seq": state["count"]}


async def _persister(database: str) -> AsyncBaseStatePersister:
    if database.startswith("sqlite:"):
        persister: Any = await AsyncSQLitePersister.from_values(db_path=database.removeprefix("sqlite:"))
    else:
        url = urlsplit(database)
        persister = await AsyncPostgreSQLPersister.from_values(
            db_name=url.path.lstrip("/"),
            user=url.username or "postgres",
            password=url.password or "",
            host=parse_qs(url.query).get("host", [url.hostname or "127.0.0.1"])[0],  # a folder when it is a Unix socket
            port=url.port or 5432,
            use_pool=True,
        )
    await persister.initialize()
    checked: AsyncBaseStatePersister = persister
    return checked


def service(database: str) -> FastAPI:
    """Return the application over `database`."""
    kept: dict[str, Application[Any]] = {}
    stores: list[AsyncBaseStatePersister] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stores.append(await _persister(database))
        yield
        await stores[0].cleanup()  # type: ignore[attr-defined]  # both persisters have it, their base does not say so

    app = FastAPI(lifespan=lifespan)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/noop")
    async def noop() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/sessions/{session_id}/steps")
    async def step(session_id: str) -> dict[str, Any]:
        return await _answer(await _loaded(stores[0], session_id), session_id)

    @app.post("/kept/{session_id}/steps")
    async def step_kept(session_id: str) -> dict[str, Any]:
        if session_id not in kept:
            kept[session_id] = await _kept(stores[0], session_id)
        return await _answer(kept[session_id], session_id)

    @app.post("/blocking/{session_id}/steps")
    async def step_blocking(session_id: str) -> dict[str, Any]:
        if session_id not in kept:
            builder = ApplicationBuilder().with_actions(block).with_transitions(("block", "block"))
            kept[session_id] = await builder.with_state(count=0).with_entrypoint("block").abuild()
        return await _answer(kept[session_id], session_id)

    return app


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(service(sys.argv[1]), http="httptools", access_log=False, log_level="error")
        uvicorn.Server(config).run(sockets=[listener])
