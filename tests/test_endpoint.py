"""The server that receives webhooks for the tests."""

import socket
from urllib.parse import urlsplit

from tests.endpoint import LIMIT_S, Endpoint, Received, receiving


def send(endpoint: Endpoint, request: bytes) -> bytes:
    """Send these bytes, say that no more come, and return the first line of the answer."""
    to = urlsplit(endpoint.url)
    with socket.create_connection((to.hostname, to.port), LIMIT_S) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            return answer.readline()


def test_a_request_whose_sender_goes_before_its_body_is_whole_has_not_come() -> None:
    with receiving() as endpoint:
        head = b"POST /hook HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
        assert send(endpoint, head) == b""
        assert send(endpoint, head + b"hal") == b""
        assert send(endpoint, head + b"full").startswith(b"HTTP/1.0 204")
        assert endpoint.received == [Received("/hook", {"content-length": "4"}, b"full")]
