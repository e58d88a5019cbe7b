"""Clients that send too much, too slowly, or come in too great a number: each is refused, and the others notice nothing."""

import os
import socket
import time
from contextlib import ExitStack, closing

import httpx
import pytest

from tests.hostile.conftest import LIMIT_S, Target, is_closed, read_answer, request

HEAD = b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\n"
MOST_CONNECTIONS = 60  # of the services in conftest


def flood(connection: socket.socket, piece: bytes, times: int) -> None:
    """Send `piece` again and again, until the other side has had enough."""
    try:
        for _ in range(times):
            connection.sendall(piece)
    except OSError:
        return


@pytest.mark.parametrize(
    ("begin", "piece", "times"),
    [
        (HEAD, b"X-Filler: " + b"x" * 1000 + b"\r\n", 20_000),
        (HEAD + b"X-Filler: ", b"x" * 65536, 1_000),
        (b"GET /", b"x" * 65536, 1_000),
        (b"", b"x" * 65536, 1_000),
        (HEAD, b"A: b\r\n", 101),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Filler: " + b"x" * 1000 + b"\r\n", 20_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 65536, 1_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536, 1_000),
    ],
    ids=["headers", "a header", "a path", "a method", "short headers", "trailers", "a trailer", "an extension"],
)
def test_what_goes_on_without_end_is_cut_off(target: Target, begin: bytes, piece: bytes, times: int) -> None:
    with closing(target.connect()) as connection:
        connection.sendall(begin)
        flood(connection, piece, times)
        if times <= 101:
            connection.sendall(b"\r\n")
        received = b""
        try:
            while more := connection.recv(65536):
                received += more
        except ConnectionResetError:
            pass  # it was closed while more was on its way
    assert not received or received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), received[:100]
    assert httpx.post(target.url + target.steps, json={}, timeout=LIMIT_S).status_code == 200


def test_more_headers_than_a_hundred_are_refused(target: Target) -> None:
    answer = target.send(request("GET", "/healthz", b"", *(f"X-{number}: y" for number in range(101))))
    assert (answer.status, answer.slug) == (431, "headers-too-large")


def test_a_long_path_is_refused(target: Target) -> None:
    answer = target.send(request("GET", "/" + "x" * 70_000))
    assert answer.status in (414, 431)


@pytest.mark.parametrize(
    "begin",
    [b"", b"POST", HEAD, HEAD + b"Content-Type: application/json\r\nContent-Length: 90000\r\n\r\n{"],
    ids=["nothing", "a method", "a head", "a body"],
)
def test_a_request_that_does_not_come_is_not_waited_for(target: Target, begin: bytes) -> None:
    with closing(target.connect()) as connection:
        connection.sendall(begin)
        if begin:
            answer = read_answer(connection)
            assert (answer.status, answer.slug) == (408, "request-timeout")
        assert is_closed(connection)


def test_a_head_that_comes_in_drops_is_not_waited_for(target: Target) -> None:
    with closing(target.connect()) as connection:
        began_s = time.monotonic()
        while time.monotonic() - began_s < LIMIT_S:
            try:
                connection.sendall(b"X")
            except OSError:
                break
            connection.settimeout(0.1)
            try:
                if connection.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("the service waits for ever")


def test_an_idle_connection_is_kept(target: Target) -> None:
    with closing(target.connect()) as idle:
        idle.sendall(request("GET", "/healthz"))
        assert read_answer(idle).status == 200
        with closing(target.connect()) as slow:  # by when this one is refused the limit for heads is over
            slow.sendall(b"GET")
            assert read_answer(slow).status == 408
        idle.sendall(request("GET", "/healthz"))
        assert read_answer(idle).status == 200


def test_a_stream_outlives_the_limit_for_requests(target: Target) -> None:
    with closing(target.connect()) as follower:
        follower.sendall(request("GET", f"/v1/sessions/{target.session}/events", b"", "Last-Event-ID: 0"))
        with closing(target.connect()) as slow:
            slow.sendall(b"GET")
            assert read_answer(slow).status == 408
        httpx.post(target.url + target.steps, json={}, timeout=LIMIT_S)
        received = b""
        while b"step.finished" not in received:
            more = follower.recv(65536)
            assert more, received
            received += more


def test_connections_beyond_the_limit_are_told_to_come_back(target: Target) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS + 5):
            stack.enter_context(closing(target.connect()))
        answer = target.send(request("GET", "/healthz"))
        assert (answer.status, answer.slug) == (503, "too-many-connections")
        assert int(answer.headers["retry-after"]) >= 1
    with httpx.Client(base_url=target.url, timeout=LIMIT_S) as client:
        while client.get("/healthz", headers={"Connection": "close"}).status_code == 503:
            pass  # the connections above are on their way out
        figures = client.get("/metrics").text
    assert 'stepwell_connections_refused_total{reason="connections"}' in figures


def test_the_rest_of_a_body_that_is_too_large_is_not_read_for_ever(target: Target) -> None:
    headers = f"{HEAD.decode()}Content-Type: application/json\r\nContent-Length: {10**12}\r\n\r\n"
    sent = 0
    with closing(target.connect()) as connection:
        connection.sendall(headers.encode())
        piece = os.urandom(65536)
        try:
            while sent < 10**9:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
    assert sent < 10**8
