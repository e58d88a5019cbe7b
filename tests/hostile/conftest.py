"""Real services for hostile clients, each with another parser or store, and what speaks to them in bytes."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.postgres import fresh_database
from tests.service_process import ROOT, ServiceProcess, running_service

_FILE = ROOT / "tests" / "hostile" / "hostile_counter.py"
MACHINES = (f"{_FILE}:counter", f"{_FILE}:refuser")
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, as it came over the socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def slug(self) -> str:
        return str(self.json["type"]).rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Running:
    """A service, and the folder that it works in."""

    service: ServiceProcess
    folder: Path
    is_sqlite: bool


@dataclass(frozen=True, slots=True)
class Target:
    """A service under attack."""

    url: str
    port: int
    session: str
    service: ServiceProcess
    folder: Path
    is_sqlite: bool

    @property
    def steps(self) -> str:
        return f"/v1/sessions/{self.session}/steps"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S)

    def send(self, *parts: bytes) -> Answer:
        """Send bytes over a connection of their own, and return the first answer."""
        with closing(self.connect()) as connection:
            for part in parts:
                connection.sendall(part)
            return read_answer(connection)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=LIMIT_S)

    def log(self, expected: str) -> str:
        """Return all that the service has logged, as soon as `expected` is in it."""
        deadline_s = time.monotonic() + LIMIT_S
        while expected not in (found := "\n".join(self.service.errors)):
            assert time.monotonic() < deadline_s, f"{expected!r} is not in {found}"
            time.sleep(0.02)
        return found

    def count(self) -> int:
        """How far the session has got: one for each step that was taken by 1."""
        with self.client() as client:
            return int(client.get(f"/v1/sessions/{self.session}").json()["state"]["n"])


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """Return the bytes of a request that is in order, with more headers."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body and not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    if body and not any(header.lower().startswith("content-type") for header in headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def read_answer(connection: socket.socket) -> Answer:
    """Return the next response of a connection; an AssertionError says what came instead."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        assert more, f"the connection was closed after {received!r}"
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        more = connection.recv(65536)
        assert more, f"the connection was closed within a body: {body!r}"
        body += more
    match = re.match(r"HTTP/1\.1 (\d+)", first)
    assert match, first
    return Answer(int(match[1]), headers, body)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes the connection, within the limit of the test, without another byte."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture(scope="package", params=["httptools-sqlite", "h11-sqlite", "httptools-postgresql"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    parser, store = request.param.split("-")
    folder: Path = tmp_path_factory.mktemp(f"{parser}-{store}")
    server = request.getfixturevalue("postgres_server") if store == "postgresql" else None
    variables = {
        "STEPWELL_HTTP_PARSER": parser,
        "STEPWELL_REQUEST_TIMEOUT_S": "2",
        "STEPWELL_MAX_CONNECTIONS": "60",
        "STEPWELL_MAX_BODY_BYTES": "100000",
    }
    with ExitStack() as stack:
        url = f"sqlite:///{folder}/sessions.db" if server is None else stack.enter_context(fresh_database(server))
        service = running_service("--database-url", url, *MACHINES, cwd=folder, variables=variables)
        yield Running(stack.enter_context(service), folder, server is None)


@pytest.fixture
def target(running: Running) -> Target:
    """A service, and a session of its counter that has taken no step."""
    url = running.service.url
    session = httpx.post(f"{url}/v1/sessions", json={"machine": "counter"}, timeout=LIMIT_S).json()["id"]
    return Target(url, int(url.rpartition(":")[2]), session, running.service, running.folder, running.is_sqlite)
