"""A server for the tests of one module: they make sessions of their own."""

from collections.abc import Iterator

import httpx
import pytest

from tests.machines import Gate, counter, failing, gated, greeter, mixed, streamer, turns
from tests.server import RunningServer, running_server


@pytest.fixture(scope="module")
def gate() -> Gate:
    """Where `gated` waits, for the whole module: open it once and it stays open."""
    return Gate()


@pytest.fixture(scope="module")
def server(gate: Gate) -> Iterator[RunningServer]:
    machines = [counter(), counter("three", 3), failing(), gated(gate), greeter(), mixed(), streamer(), turns()]
    with running_server(machines, max_body_bytes=100_000) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made
