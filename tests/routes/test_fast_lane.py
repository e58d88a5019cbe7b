"""The way past the middleware: what it answers is what the ordinary way answers, and whoever needs to see requests sees them."""

import contextlib
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.persistence.memory import MemoryStore
from app.persistence.records import LoadedSession
from app.routes.api import build_api
from app.sessions.host import SessionHost
from tests.machines import counter, failing
from tests.routes.test_sessions_over_http import create
from tests.server import running_server


class Witness:
    """Middleware that writes down the paths that it sees."""

    seen: list[str]

    def __init__(self, app: ASGIApp, seen: list[str]) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._seen.append(scope.get("path", ""))
        await self._app(scope, receive, send)


@contextlib.asynccontextmanager
async def asking(api: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(api, raise_app_exceptions=False), base_url="http://service") as client,
    ):
        yield client


def service(*, seen: list[str] | None = None) -> FastAPI:
    host = SessionHost([counter(), failing()], MemoryStore())

    @contextlib.asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        async with host:
            yield

    api = build_api(host, lifespan=lifespan, max_body_bytes=1_000)
    if seen is not None:
        api.add_middleware(Witness, seen=seen)
    return api


async def test_both_ways_answer_the_same() -> None:
    seen: list[str] = []
    async with asking(service()) as fast, asking(service(seen=seen)) as ordinary:
        answers = []
        for client in (fast, ordinary):
            for machine, session in (("counter", "s"), ("failing", "f")):
                await client.post("/v1/sessions", json={"machine": machine, "id": session})
            got = [
                await client.post("/v1/sessions/s/steps", json={}),
                await client.post("/v1/sessions/s/steps", json={}, headers={"Prefer": "return=minimal"}),
                await client.post("/v1/sessions/s/steps", json={}, headers={"If-Match": '"7"'}),
                await client.post("/v1/sessions/s/steps", content=b"{"),
                await client.post("/v1/sessions/s/steps", json={"inputs": {"x": 1}}),
                await client.post("/v1/sessions/s/steps", json={"inputs": {"x": "y" * 2_000}}),
                await client.post("/v1/sessions/nobody/steps", json={}),
                await client.post("/v1/sessions/a%20b/steps", json={}),
                await client.post("/v1/sessions/s/runs", json={"max_steps": 2}),
                await client.post("/v1/sessions/f/runs", json={}),
                await client.post("/v1/sessions//steps", json={}),
            ]
            answers.append([without_ids(answer) for answer in got])
        assert answers[0] == answers[1]
    assert "/v1/sessions/s/steps" in seen, "middleware of others sees every request"


async def test_what_nobody_has_foreseen_is_a_problem_without_details() -> None:
    class Broken(MemoryStore):
        async def load_session(self, session_id: str) -> LoadedSession:
            raise RuntimeError("the password is hunter2")

    with running_server([counter()], Broken()) as server, server.client() as client:
        session = create(client)
        server.call(_forget_all)
        answer = client.post(f"/v1/sessions/{session}/steps", json={})
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:stepwell:problem:internal-error")
        assert "hunter2" not in answer.text


async def _forget_all(host: SessionHost) -> None:
    for live in host.residents:
        host.residents.remove(live)


def without_ids(answer: httpx.Response) -> object:
    document = answer.json()
    document.pop("run_id", None)
    headers = {key: value for key, value in answer.headers.items() if key != "location"}
    return answer.status_code, document, headers


def test_a_connection_is_used_again_after_an_error_that_nobody_has_foreseen() -> None:
    with running_server([counter()]) as server, server.client() as client:
        sockets = set()
        for method, path in (("GET", "/v1/sessions/s"), ("GET", "/v1/sessions"), ("POST", "/v1/sessions/s/steps")):
            server.host.get = server.host.start = server.host.list_sessions = _broken  # type: ignore[method-assign]  # a fault of ours
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["type"]) == (500, "urn:stepwell:problem:internal-error")
            sockets.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(sockets) == 1


async def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("a fault")
