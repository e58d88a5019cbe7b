"""What web pages of strangers can make a browser send is refused, on the address that every local service has."""

import httpx
import pytest

from tests.hostile.conftest import Target, request

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("path", ["steps", "runs", "fork"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": FORM}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_a_form_of_a_stranger_moves_nothing(target: Target, path: str, headers: dict[str, str], status: int) -> None:
    with target.client() as client:
        answer = client.post(f"/v1/sessions/{target.session}/{path}", headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert target.count() == 0


def test_a_stranger_cancels_and_deletes_nothing(target: Target) -> None:
    foreign = {"Origin": "https://evil.example"}
    with target.client() as client:
        run = client.post(f"/v1/sessions/{target.session}/runs", json={"max_steps": 1}).json()["run_id"]
        assert client.post(f"/v1/runs/{run}/cancel", headers=foreign).status_code == 403
        assert client.delete(f"/v1/sessions/{target.session}", headers=foreign).status_code == 403
        assert client.patch(f"/v1/sessions/{target.session}", headers=foreign, json={}).status_code == 403
    assert target.count() == 1


def test_a_page_of_the_service_may_do_everything(target: Target) -> None:
    own = {"Origin": f"http://127.0.0.1:{target.port}", "Sec-Fetch-Site": "same-origin"}
    with target.client() as client:
        assert client.post(target.steps, json={}, headers=own).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "a@localhost"]
)
def test_a_name_that_was_bound_anew_reaches_nothing(target: Target, host: str) -> None:
    for method, path in (("GET", "/v1/sessions"), ("POST", target.steps), ("GET", "/healthz")):
        answer = target.send(request(method, path).replace(b"Host: localhost", f"Host: {host}".encode()))
        assert answer.status in (400, 421)
    assert target.count() == 0


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80", "stepwell.localhost"])
def test_names_of_this_machine_are_answered(target: Target, host: str) -> None:
    assert target.send(request("GET", "/healthz").replace(b"Host: localhost", f"Host: {host}".encode())).status == 200


def test_an_address_says_where_it_leads(target: Target) -> None:
    answer = httpx.get(f"{target.url}/v1/sessions", headers={"Host": "shop.example"})
    assert answer.json()["type"] == "urn:stepwell:problem:host-unknown"
    assert "STEPWELL_ALLOWED_HOSTS" in answer.json()["detail"]
