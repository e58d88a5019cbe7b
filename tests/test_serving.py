"""What the server says by itself, before the application hears of a request."""

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service_process import ROOT, ServiceProcess, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    counter = str(ROOT / "examples" / "counter.py")
    with running_service("--database-url", "memory://", counter, cwd=tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.mark.parametrize(
    "request_line",
    ["GET /v1/sessions/größe HTTP/1.1", "GET /v1/sessions/a b HTTP/1.1", "FETCH /v1/sessions HTTP/1.1", "hello"],
    ids=["letters", "blank", "method", "nothing"],
)
def test_what_is_no_http_request_is_refused_by_a_problem(service: ServiceProcess, request_line: str) -> None:
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=60) as connection:
        connection.sendall(f"{request_line}\r\nHost: here\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["type"]) == (400, "urn:stepwell:problem:request-malformed")


def test_a_request_that_comes_as_the_service_ends_is_served_or_finds_nobody_there(tmp_path: Path) -> None:
    counter = str(ROOT / "examples" / "counter.py")
    statuses: list[int] = []
    going = threading.Barrier(5, timeout=60)

    def keep_stepping() -> None:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            session = client.post("/v1/sessions", json={"machine": "counter"}).json()["id"]
            statuses.append(client.post(f"/v1/sessions/{session}/steps", json={}).status_code)
            going.wait()
            with contextlib.suppress(httpx.TransportError):
                while True:
                    statuses.append(client.post(f"/v1/sessions/{session}/steps", json={}).status_code)

    with running_service("--database-url", "memory://", counter, cwd=tmp_path) as service:
        threads = [threading.Thread(target=keep_stepping) for _ in range(4)]
        for thread in threads:
            thread.start()
        going.wait()
        service.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert service.wait() == 0
    assert set(statuses) == {200}
