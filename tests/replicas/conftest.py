"""Two replicas over one PostgreSQL, each a server on a socket with an event loop of its own."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from app.persistence.factory import open_store
from app.sessions.claims import ClaimSettings
from app.sessions.host_settings import HostSettings
from tests.machines import Gate, counter, failing, gated, streamer, turns
from tests.server import RunningServer, running_server

ALIVE = ClaimSettings(beat_s=0.1, dead_after_s=200.0)  # nobody dies here, however long a loaded machine lets him wait


@dataclass
class Pair:
    """Two replicas and their clients. Sessions made by `create` belong to nobody until something is asked of them."""

    servers: tuple[RunningServer, RunningServer]
    clients: tuple[httpx.Client, httpx.Client]
    gate: Gate

    def create(self, machine: str = "counter") -> str:
        answer = self.clients[0].post("/v1/sessions", json={"machine": machine})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


@contextlib.contextmanager
def pair_of_replicas(url: str) -> Iterator[Pair]:
    gate = Gate()
    machines = [counter(), failing(), gated(gate), streamer(5, gate), turns(pause_s=0.01)]
    settings = HostSettings(claims=ALIVE, ping_s=1.0)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running_server(machines, open_store(url, migrate=True), settings)) for _ in range(2)]
        clients = [stack.enter_context(server.client()) for server in servers]
        for server in servers:  # each has to know of the other
            server.call(lambda host: host.claims.beat())
        yield Pair((servers[0], servers[1]), (clients[0], clients[1]), gate)


@pytest.fixture
def pair(postgres_store_url: str) -> Iterator[Pair]:
    with pair_of_replicas(postgres_store_url) as made:
        yield made
