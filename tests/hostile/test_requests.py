"""Odd requests, byte by byte: what a client sends is what counts, or it is refused."""

import json
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import orjson
import pytest

from tests.hostile.conftest import LIMIT_S, Target, read_answer, request
from tests.programs import program

BODY = json.dumps({"inputs": {"by": 5}}).encode()


@pytest.mark.parametrize("wish", ["h2c", "websocket", "TLS/1.0, h2c"])
def test_an_upgrade_is_ignored_and_the_body_counts(target: Target, wish: str) -> None:
    headers = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {wish}", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    with closing(target.connect()) as connection:
        connection.sendall(request("POST", target.steps, BODY, *headers))
        assert read_answer(connection).json["state"]["n"] == 5
        connection.sendall(request("POST", target.steps, BODY))  # the connection is as good as before
        assert read_answer(connection).json["state"]["n"] == 10


def test_an_upgrade_whose_body_comes_later_is_ignored(target: Target) -> None:
    head, body = request("POST", target.steps, BODY, "Connection: Upgrade", "Upgrade: h2c").split(b"\r\n\r\n")
    with closing(target.connect()) as connection:
        for part in (head[:30], head[30:] + b"\r\n", b"\r\n" + body[:4], body[4:]):
            connection.sendall(part)
        assert read_answer(connection).json["state"]["n"] == 5


def test_curl_may_offer_http2(target: Target) -> None:
    curl = program("curl")
    command = [curl.path, "-s", "--http2", "--max-time", "60", "-H", "Content-Type: application/json", "-d", BODY.decode()]
    done = subprocess.run(
        [*command, target.url + target.steps], env=curl.variables, capture_output=True, timeout=LIMIT_S, check=True
    )
    assert json.loads(done.stdout)["state"]["n"] == 5


def test_a_body_that_is_shorter_than_it_says_is_refused(target: Target) -> None:
    with closing(target.connect()) as connection:
        connection.sendall(request("POST", target.steps, BODY, "Content-Length: 100"))
        connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
    assert (answer.status, answer.slug) == (400, "request-incomplete")
    assert target.count() == 0


def test_a_head_that_breaks_off_is_refused(target: Target) -> None:
    with closing(target.connect()) as connection:
        connection.sendall(b"POST /v1/sessions HTTP/1.1\r\nHost: loc")
        connection.shutdown(socket.SHUT_WR)
        assert read_answer(connection).status == 400


def test_a_trailer_is_no_header(target: Target) -> None:
    chunked = b'%x\r\n%b\r\n0\r\nIf-Match: "77"\r\nStepwell-Run-Id: theirs\r\n\r\n' % (len(BODY), BODY)
    headers = ("Transfer-Encoding: chunked", "Content-Type: application/json", "Trailer: If-Match")
    answer = target.send(request("POST", target.steps, b"", *headers) + chunked)
    assert (answer.status, answer.json["state"]["n"]) == (200, 5)
    assert answer.json["run_id"] != "theirs"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST %b HTTP/2.0", 505),
        (b"POST %b HTTP/3.7", 400),
        (b"PRI * HTTP/2.0", 400),
        (b"CONNECT localhost:80 HTTP/1.1", 501),
    ],
)
def test_another_version_or_a_tunnel_is_refused(target: Target, line: bytes, status: int) -> None:
    first = line % target.steps.encode() if b"%b" in line else line
    answer = target.send(first + b"\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    assert answer.status in (status, 505)
    assert answer.headers["content-type"] == "application/problem+json"
    assert target.count() == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Host: elsewhere",), 400),
        (("Host: localhost",), 400),
        (("Content-Encoding: gzip",), 415),
        (("Content-Type: text/plain", "Content-Type: application/json"), 400),
    ],
)
def test_headers_that_contradict_are_refused(target: Target, headers: tuple[str, ...], status: int) -> None:
    answer = target.send(request("POST", target.steps, BODY, *headers))
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert target.count() == 0


def test_a_request_without_a_host_is_refused(target: Target) -> None:
    answer = target.send(request("POST", target.steps, BODY).replace(b"Host: localhost\r\n", b""))
    assert (answer.status, answer.json["type"][:4]) == (400, "urn:")


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, gzip", "identity", "xchunked"])
def test_another_transfer_coding_is_refused(target: Target, coding: str) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    headers = (f"Transfer-Encoding: {coding}", "Content-Type: application/json")
    answer = target.send(request("POST", target.steps, b"", *headers) + chunked)
    assert answer.status in (400, 501)
    assert answer.headers["content-type"] == "application/problem+json"
    assert target.count() == 0


def test_a_length_and_chunks_together_are_refused(target: Target) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    headers = ("Transfer-Encoding: chunked", "Content-Length: 3", "Content-Type: application/json")
    assert target.send(request("POST", target.steps, b"", *headers) + chunked).status in (400, 501)


def test_blanks_around_the_value_of_a_header_do_not_count(target: Target) -> None:
    headers = (f"Content-Length:   {len(BODY)}  ", 'If-Match: \t"-1" ')
    answer = target.send(request("POST", target.steps, BODY, *headers))
    assert (answer.status, answer.json["state"]["n"]) == (200, 5)


def test_an_encoded_slash_is_no_slash_of_the_path(target: Target) -> None:
    path = target.steps.replace("/steps", "%2Fsteps")
    answer = target.send(request("POST", path, BODY))
    assert answer.status in (404, 405, 422)
    assert target.count() == 0


@pytest.mark.parametrize("path", ["/v1/machines", "/v1/sessions", "/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_head_answers_as_get_without_a_body(target: Target, path: str) -> None:
    with target.client() as client:
        got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


def test_head_of_an_endless_stream_ends(target: Target) -> None:
    with target.client() as client:
        head = client.head(f"/v1/sessions/{target.session}/events")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"].startswith("text/event-stream")
        assert client.head("/v1/sessions/nobody/events").status_code == 404


def test_options_names_the_methods(target: Target) -> None:
    with target.client() as client:
        answer = client.request("OPTIONS", f"/v1/sessions/{target.session}")
        assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH")
        assert client.request("OPTIONS", "/v1/nothing").status_code == 404
        refused = client.put(f"/v1/sessions/{target.session}", json={})
        assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH")


def test_a_stream_that_is_refused_by_its_weight_is_none(target: Target) -> None:
    headers = ("Accept: application/json, text/event-stream;q=0",)
    answer = target.send(request("POST", f"/v1/sessions/{target.session}/runs", b'{"max_steps": 1}', *headers))
    assert answer.headers["content-type"] == "application/json"


def test_metrics_answer_whatever_version_is_asked_for(target: Target) -> None:
    with target.client() as client:
        answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=abc"})
    assert answer.status_code == 200
    assert "stepwell_connections_open" in answer.text


@pytest.mark.parametrize(
    "query", ["owner=ada", "metadta=x:y", "limit=1&limit=2", "metadata=ada", "metadata=owner:a&metadata=owner:b", "%00=1"]
)
def test_a_query_that_is_not_known_is_refused(target: Target, query: str) -> None:
    with target.client() as client:
        answer = client.get(f"/v1/sessions?{query}")
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:stepwell:problem:parameter-invalid")
        assert client.get(f"/v1/sessions/{target.session}?{query}").status_code == 422
        assert client.post(f"{target.steps}?{query}", json={}).status_code == 422
    assert target.count() == 0


def test_metadata_can_be_asked_for_in_both_spellings(target: Target) -> None:
    with target.client() as client:
        ids = [client.post("/v1/sessions", json={"machine": "counter", "metadata": {"owner": who}}).json()["id"] for who in "ab"]
        for query in ("metadata=owner:a", "metadata[owner]=a", "metadata=owner:a&metadata=owner:a"):
            found = {each["id"] for each in client.get(f"/v1/sessions?{query}").json()["items"]}
            assert ids[0] in found
            assert ids[1] not in found


JAVA = """
import java.net.URI;
import java.net.http.*;

public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int round = 0; round < 2; round++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(arguments[1])).build();
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        }
    }
}
"""


def test_the_client_of_java_is_understood(target: Target, tmp_path: Path) -> None:
    """It offers HTTP/2 with its first request. Where there is no Java, the bytes that it sends are sent."""
    java = shutil.which("java")
    if java is None:
        headers = (
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk",
            "User-Agent: Java",
        )
        answers = [target.send(request("POST", target.steps, BODY, *headers)).json for _ in range(2)]
    else:
        source = tmp_path / "Client.java"
        source.write_text(JAVA)
        command = [java, str(source), target.url + target.steps, BODY.decode()]
        done = subprocess.run(command, capture_output=True, timeout=2 * LIMIT_S, check=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["state"]["n"] for answer in answers] == [5, 10]


def test_a_connection_outlives_an_error_of_the_service(target: Target) -> None:
    with httpx.Client(base_url=target.url, timeout=LIMIT_S) as client:
        assert client.get("/v1/nothing").status_code == 404
        assert client.post(target.steps, json={"inputs": {"by": "x"}}).status_code == 422
        assert client.post(target.steps, json={}).status_code == 200


def test_garbage_after_a_request_does_not_answer_for_it(target: Target) -> None:
    with closing(target.connect()) as connection:
        connection.sendall(request("POST", target.steps, BODY) + b"\x00garbage\r\n\r\n")
        answer = read_answer(connection)
        assert answer.status == 200
        assert orjson.loads(answer.body[: int(answer.headers["content-length"])])["state"]["n"] == 5
        while connection.recv(65536):
            pass  # perhaps a refusal of the garbage; then the connection ends
