"""What the server says by itself, before the application hears of a request."""

import json
import socket
from collections.abc import Iterator

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
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=20) as connection:
        connection.sendall(f"{request_line}\r\nHost: here\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["type"]) == (400, "urn:stepwell:problem:request-malformed")
