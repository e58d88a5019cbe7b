"""The loop's default executor belongs to users: whatever they do there, the host and other sessions go on."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.sessions.host import SessionHost
from app.sessions.host_settings import HostSettings
from app.sessions.webhook_messages import WebhookSettings
from tests.endpoint import receiving
from tests.machines import counter, streamer
from tests.persistence.making import queried
from tests.server import RunningServer, running_server

HOGS = 64  # the executor has at most 32 threads
PATIENCE_S = 30.0  # who stands in the executor's queue waits until the end of the test
LOSE_CONNECTIONS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Hog:
    """Fills the default executor from within an action, until it is let go."""

    def __init__(self) -> None:
        self._let_go = threading.Event()
        self._is_full = threading.Event()

    def machine(self) -> Machine:
        @action(reads=[], writes=["n"])
        async def hog(state: State) -> State:
            await asyncio.gather(*(asyncio.to_thread(self._stay) for _ in range(HOGS)))
            return state.update(n=1)

        return Machine(
            "hog",
            lambda: ApplicationBuilder().with_actions(hog).with_transitions(("hog", "hog")).with_entrypoint("hog"),
        )

    @contextlib.contextmanager
    def at_work(self, server: RunningServer) -> Iterator[httpx.Client]:
        """While this lasts, every thread of the server's default executor is taken."""
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            path = client.post("/v1/sessions", json={"machine": "hog"}).json()["id"]
            begun = client.post(f"/v1/sessions/{path}/runs", json={"max_steps": 1}, headers={"Prefer": "respond-async"})
            assert begun.status_code == 202, begun.text
            assert self._is_full.wait(PATIENCE_S)
            try:
                yield client
            finally:
                self._let_go.set()

    def _stay(self) -> None:
        self._is_full.set()
        self._let_go.wait(4 * PATIENCE_S)


def large() -> Machine:
    """Each step writes more than is deflated on the event loop, and soon more than is replayed there."""

    @action(reads=["n"], writes=["n", "blob"])
    async def write(state: State) -> State:
        return state.update(n=state["n"] + 1, blob=os.urandom(80_000).hex())

    return Machine(
        "large",
        lambda: (
            ApplicationBuilder().with_actions(write).with_transitions(("write", "write")).with_state(n=0).with_entrypoint("write")
        ),
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    return str(request.getfixturevalue("postgres_store_url"))


@pytest.fixture
def hog() -> Hog:
    return Hog()


@pytest.fixture
def server(url: str, hog: Hog) -> Iterator[RunningServer]:
    with running_server(
        [hog.machine(), large(), counter(), streamer()], open_store(url), HostSettings(idle_ttl_s=300)
    ) as running:
        yield running


def test_steps_of_any_size_commit_while_users_fill_the_default_executor(server: RunningServer, hog: Hog) -> None:
    with hog.at_work(server) as client:
        for machine in ("large", "counter"):
            path = f"/v1/sessions/{client.post('/v1/sessions', json={'machine': machine}).json()['id']}"
            for n in range(1, 6):  # enough for a snapshot
                answer = client.post(f"{path}/steps", json={})
                assert (answer.status_code, answer.json()["state"]["n"]) == (200, n)


def test_cold_sessions_are_read_while_users_fill_the_default_executor(server: RunningServer, hog: Hog) -> None:
    with hog.at_work(server) as client:
        session_id = client.post("/v1/sessions", json={"machine": "large"}).json()["id"]
        path = f"/v1/sessions/{session_id}"
        for _ in range(3):
            client.post(f"{path}/steps", json={}).raise_for_status()

        async def forget(host: SessionHost) -> None:
            live = host.residents.get(session_id)
            assert live is not None
            host.residents.remove(live)

        server.call(forget)
        assert client.get(path).json()["state"]["n"] == 3
        assert client.get(f"{path}/steps/1").json()["state"]["n"] == 2
        assert client.post(f"{path}/steps", json={}).json()["state"]["n"] == 4
        forked = client.post(f"{path}/fork", json={"seq": 0})
        assert (forked.status_code, forked.json()["state"]["n"]) == (201, 1)


@pytest.mark.parametrize("form", ["svg", "dot", "mermaid"])
def test_graphs_are_drawn_while_users_fill_the_default_executor(server: RunningServer, hog: Hog, form: str) -> None:
    with hog.at_work(server) as client:
        assert client.get("/v1/machines/counter/graph", params={"format": form}).status_code == 200


def test_health_is_told_while_users_fill_the_default_executor(server: RunningServer, hog: Hog) -> None:
    with hog.at_work(server) as client:
        assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]


def test_a_webhook_is_sent_to_a_name_while_users_fill_the_default_executor(url: str, hog: Hog) -> None:
    settings = HostSettings(webhooks=WebhookSettings(is_private_allowed=True))
    with (
        receiving() as endpoint,
        running_server([hog.machine(), counter()], open_store(url), settings) as server,
        hog.at_work(server) as client,
    ):
        path = f"/v1/sessions/{client.post('/v1/sessions', json={'machine': 'counter'}).json()['id']}"
        target = endpoint.url.replace("127.0.0.1", "localhost")
        assert target != endpoint.url
        client.post(f"{path}/runs", json={"max_steps": 1, "webhook": {"url": target}}).raise_for_status()
        endpoint.until(1)


def test_postgresql_is_connected_to_by_name_while_users_fill_the_default_executor(postgres_store_url: str, hog: Hog) -> None:
    with (
        forwarded(postgres_store_url) as url,
        running_server([hog.machine(), counter()], open_store(url)) as server,
        hog.at_work(server) as client,
    ):
        asyncio.run(queried(postgres_store_url, LOSE_CONNECTIONS))
        path = f"/v1/sessions/{client.post('/v1/sessions', json={'machine': 'counter'}).json()['id']}"
        assert client.get(path).status_code == 200
        assert client.get("/readyz").status_code == 200


def test_a_replica_is_found_by_name_while_users_fill_the_default_executor(postgres_store_url: str, hog: Hog) -> None:
    machines = [hog.machine(), counter()]
    with (
        running_server(machines, open_store(postgres_store_url), host_name="localhost") as owner,
        running_server(machines, open_store(postgres_store_url)) as other,
        hog.at_work(other) as client,
        owner.client() as of_owner,
    ):
        path = f"/v1/sessions/{of_owner.post('/v1/sessions', json={'machine': 'counter'}).json()['id']}"
        of_owner.post(f"{path}/steps", json={}).raise_for_status()
        assert client.post(f"{path}/steps", json={}).json()["state"]["n"] == 2


@contextlib.contextmanager
def forwarded(socket_url: str) -> Iterator[str]:
    """The url of the same database over TCP, by a name that has to be looked up."""
    folder = parse_qs(urlsplit(socket_url).query)["host"][0]
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        await asyncio.gather(_pump(reader, back), _pump(there, writer))

    async def serve() -> None:
        server = await asyncio.start_server(pass_on, sock=listener)
        await over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    over = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        split = urlsplit(socket_url)
        yield f"postgresql://{split.username}@localhost:{listener.getsockname()[1]}{split.path}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    writer.close()
