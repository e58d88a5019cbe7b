"""Webhooks over HTTP, with a real server at the other end."""

import base64
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from app.persistence.factory import open_store
from app.persistence.memory import MemoryStore
from app.persistence.records import StepRecord
from app.sessions.host_settings import HostSettings
from app.sessions.webhook_messages import WebhookSettings
from tests.endpoint import receiving
from tests.machines import Gate, counter, failing, gated
from tests.persistence.making import step, step_commit
from tests.routes.test_sessions_over_http import create
from tests.server import RunningServer, running_server
from tests.service_process import running_service

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
QUICK = WebhookSettings(is_private_allowed=True, first_pause_s=0.05, attempts=4, timeout_s=15.0)
ASYNC = {"Prefer": "respond-async"}


def settings(**changes: Any) -> HostSettings:
    made = {name: getattr(QUICK, name) for name in QUICK.__slots__}
    return HostSettings(webhooks=WebhookSettings(**{**made, **changes}))


def until_told(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """The state of a run's webhook when nothing more is tried."""
    until_s = time.monotonic() + 60
    while True:
        webhook: dict[str, Any] = client.get(f"/v1/runs/{run_id}").json()["webhook"]
        if webhook["status"] in ("delivered", "failed"):
            return webhook
        assert time.monotonic() < until_s, webhook
        time.sleep(0.02)


def test_the_end_of_a_run_is_told_until_it_is_heard(store_url: str) -> None:
    with (
        receiving(lambda number: 503 if number < 3 else 204) as endpoint,
        running_server([counter()], open_store(store_url, migrate=True), settings()) as server,
        server.client() as client,
    ):
        session = create(client)
        hook = {"url": f"{endpoint.url}?a=b", "secret": SECRET}
        answer = client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 2, "webhook": hook})
        run_id = answer.json()["run_id"]
        client.post(f"/v1/sessions/{session}/steps", json={})  # what comes later is not told of
        told = until_told(client, run_id)
        assert (told["status"], told["attempts"], told["last_answer"], told["next_at"]) == ("delivered", 3, "204", None)
        received = endpoint.until(3)
        run = client.get(f"/v1/runs/{run_id}").json()
    assert len({(each.path, each.body, each.headers["webhook-id"]) for each in received}) == 1
    assert received[0].path == "/hook?a=b"
    for each in received:
        Webhook(SECRET).verify(each.body, each.headers)
    assert json.loads(received[0].body) == {
        "type": "run.finished",
        "timestamp": run["finished_at"],
        "data": {
            "run_id": run_id,
            "session_id": session,
            "status": "finished",
            "reason": "max_steps",
            "error": None,
            "steps": 2,
            "seq": 1,
            "started_at": run["started_at"],
            "finished_at": run["finished_at"],
        },
    }


class StepsMeanwhile(MemoryStore):
    """Somebody takes a step when its session was seen without one."""

    async def steps_after_event(self, session_id: str, after_event_id: int, limit: int = 100) -> Sequence[StepRecord]:
        found = await super().steps_after_event(session_id, after_event_id, limit)
        if not found:
            await self.commit(step_commit(session_id, step((await self.get_session(session_id)).seq + 1)))
        return found


def test_a_step_that_follows_a_run_while_it_is_told_of_is_not_told_of() -> None:
    with (
        receiving(lambda _: 204) as endpoint,
        running_server([counter()], StepsMeanwhile(), settings()) as server,
        server.client() as client,
    ):
        session = create(client)
        client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 2, "webhook": {"url": endpoint.url}})
        (received,) = endpoint.until(1)
    assert json.loads(received.body)["data"]["seq"] == 1


def test_a_webhook_survives_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    with receiving(lambda number: 500 if number == 1 else 200) as endpoint:
        with running_server([counter()], open_store(url), settings(first_pause_s=1.0)) as server, server.client() as client:
            hook = {"url": endpoint.url}
            run = client.post(f"/v1/sessions/{create(client)}/runs", json={"max_steps": 1, "webhook": hook}).json()
            endpoint.until(1)
        with running_server([counter()], open_store(url), settings()) as server, server.client() as client:
            assert until_told(client, run["run_id"])["status"] == "delivered"
            assert [each.headers["webhook-id"] for each in endpoint.until(2)] == [run["run_id"]] * 2


@pytest.fixture
def closed() -> Gate:
    return Gate()


@pytest.fixture
def hooked(closed: Gate) -> Iterator[RunningServer]:
    with running_server([counter(), failing(), gated(closed)], settings=settings(secret=OTHER_SECRET)) as server:
        yield server


def test_a_run_that_failed_or_was_cancelled_is_told_too(hooked: RunningServer, closed: Gate) -> None:
    with receiving() as endpoint, hooked.client() as client:
        hook = {"webhook": {"url": endpoint.url}}
        client.post(f"/v1/sessions/{create(client, 'failing')}/runs", json=hook)
        path = f"/v1/sessions/{create(client, 'gated')}/runs"
        running = client.post(path, json=hook, headers=ASYNC).json()
        assert running["webhook"] == {
            "url": endpoint.url, "status": "waiting", "attempts": 0, "last_at": None, "last_answer": None, "next_at": None,
        }  # fmt: skip
        assert closed.reached.wait(60)
        assert client.get(f"/v1/runs/{running['id']}").json()["webhook"]["status"] == "waiting"
        waiting = client.post(path, json={**hook, "on_busy": "enqueue"}, headers=ASYNC).json()
        client.post(f"/v1/runs/{waiting['id']}/cancel")
        client.post(f"/v1/runs/{running['id']}/cancel")
        told = {each.headers["webhook-id"]: Webhook(OTHER_SECRET).verify(each.body, each.headers) for each in endpoint.until(3)}
    assert sorted(each["type"] for each in told.values()) == ["run.cancelled", "run.cancelled", "run.failed"]
    (failed,) = [each["data"] for each in told.values() if each["type"] == "run.failed"]
    assert (failed["status"], failed["error"]["type"], "message" in failed["error"]) == ("failed", "step-failed", False)
    assert told[running["id"]]["data"]["reason"] == "requested"
    assert told[waiting["id"]]["data"]["steps"] == 0


def test_gone_is_the_end_of_it_and_so_is_the_last_attempt(hooked: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with receiving(lambda _: 410) as gone, receiving(lambda _: 302) as elsewhere, hooked.client() as client:
        ended = {}
        for endpoint in (gone, elsewhere):
            hook = {"url": endpoint.url, "secret": SECRET}
            run = client.post(f"/v1/sessions/{create(client)}/runs", json={"max_steps": 1, "webhook": hook}).json()
            told = until_told(client, run["run_id"])
            ended[told["last_answer"]] = told["status"], told["attempts"]
            assert SECRET not in client.get(f"/v1/runs/{run['run_id']}").text
        assert ended == {"410": ("failed", 1), "302": ("failed", 4)}
        assert {each.path for each in elsewhere.received} == {"/hook"}, "a redirect is not followed"
    assert "a webhook is given up" in caplog.text
    assert SECRET not in caplog.text


def test_a_dead_endpoint_slows_nobody(tmp_path: Path) -> None:
    with (
        receiving(lambda _: 0) as silent,
        receiving(lambda _: 1) as endless,
        receiving() as good,
        running_server([counter()], settings=settings(timeout_s=60.0, at_once=6, at_once_per_host=2)) as server,
        server.client() as client,
    ):
        dead = [{"url": silent.url}] * 8 + [{"url": "http://127.0.0.2:9/closed"}]
        for hook in dead:
            client.post(f"/v1/sessions/{create(client)}/runs", json={"max_steps": 1, "webhook": hook})
        began_s = time.monotonic()
        run_ids = []
        for url in (good.url.replace("127.0.0.1", "localhost"), endless.url.replace("127.0.0.1", "localhost")):
            answer = client.post(f"/v1/sessions/{create(client)}/runs", json={"max_steps": 1, "webhook": {"url": url}})
            run_ids.append(answer.json()["run_id"])
        assert [until_told(client, run_id)["last_answer"] for run_id in run_ids] == ["204", "200"]
        assert time.monotonic() - began_s < 30.0, "the silent one holds its requests for a minute"


@pytest.mark.parametrize(
    ("webhook", "field", "reason"),
    [
        ({"url": "ftp://example.org"}, "webhook.url", "http or https"),
        ({"url": "http:///path"}, "webhook.url", "name a host"),
        ({"url": "http://[::1"}, "webhook.url", "not a URL"),
        ({"url": "http://example.org:99999999"}, "webhook.url", "not a URL"),
        ({"url": "http://user:word@example.org"}, "webhook.url", "password"),
        ({"url": "http://example.org:0/x"}, "webhook.url", "can be reached"),
        ({"url": "http://a..b/x"}, "webhook.url", "can be reached"),
        ({"url": "http://-shop.example.org"}, "webhook.url", "can be reached"),
        ({"url": f"http://{'x' * 64}.org"}, "webhook.url", "can be reached"),
        ({"url": "http://shop%2Eexample.org"}, "webhook.url", "can be reached"),
        ({"url": "http://shop.invalid/x"}, "webhook.url", "can be reached"),
        ({"url": "http://999.1.1.1/x"}, "webhook.url", "can be reached"),
        ({"url": "http://0.0.0.0/x"}, "webhook.url", "can be reached"),
        ({"url": "http://[ff02::1]/x"}, "webhook.url", "can be reached"),
        ({"url": "http://255.255.255.255/x"}, "webhook.url", "can be reached"),
        ({"url": "http://127.0.0.1/x"}, "webhook.url", "no public address"),
        ({"url": "http://[::ffff:10.0.0.1]/x"}, "webhook.url", "no public address"),
        ({"url": "http://169.254.169.254/latest"}, "webhook.url", "no public address"),
        ({"url": "https://example.org", "secret": ""}, "webhook.secret", "1 to 256 characters"),
        ({"url": "https://example.org", "secret": "whsec_sesame!"}, "webhook.secret", "base64"),
        ({"url": "https://example.org", "secret": "whsec_c2hvcnQ="}, "webhook.secret", "24 to 64 bytes"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(client: httpx.Client, webhook: dict[str, str], field: str, reason: str) -> None:
    session = create(client)
    for headers in ({}, ASYNC):
        answer = client.post(f"/v1/sessions/{session}/runs", json={"webhook": webhook}, headers=headers)
        problem = answer.json()
        assert (answer.status_code, problem["type"], problem["field"]) == (422, "urn:stepwell:problem:webhook-invalid", field)
        assert reason in problem["detail"]
        assert all(secret not in answer.text for secret in ("sesame", "whsec_c2hvcnQ", "user:word"))
    assert client.get(f"/v1/sessions/{session}/runs").json()["items"] == []


def test_a_name_that_means_a_private_address_is_not_called() -> None:
    with (
        receiving() as endpoint,
        running_server([counter()], settings=settings(is_private_allowed=False, attempts=1)) as server,
        server.client() as client,
    ):
        hook = {"url": endpoint.url.replace("127.0.0.1", "localhost")}
        run = client.post(f"/v1/sessions/{create(client)}/runs", json={"max_steps": 1, "webhook": hook}).json()
        told = until_told(client, run["run_id"])
        assert (told["status"], told["last_answer"], endpoint.received) == ("failed", "AddressRefused", [])


def test_only_hosts_that_are_listed_are_called_when_there_is_a_list() -> None:
    listed = settings(is_private_allowed=False, hosts=("localhost",))
    with receiving() as endpoint, running_server([counter()], settings=listed) as server, server.client() as client:
        path = f"/v1/sessions/{create(client)}/runs"
        refused = client.post(path, json={"webhook": {"url": "https://example.org"}})
        assert (refused.status_code, "'example.org'" in refused.json()["detail"]) == (422, True)
        hook = {"url": endpoint.url.replace("127.0.0.1", "localhost")}
        run = client.post(path, json={"max_steps": 1, "webhook": hook}).json()
        assert until_told(client, run["run_id"])["status"] == "delivered"
        assert "webhook-signature" not in endpoint.received[0].headers, "without a secret there is nothing to sign with"
        assert endpoint.received[0].headers["host"] == hook["url"].split("/")[2]


def test_a_secret_that_is_a_plain_text_signs_with_its_bytes() -> None:
    with receiving() as endpoint, running_server([counter()], settings=settings()) as server, server.client() as client:
        hook = {"url": endpoint.url, "secret": "open sesame"}
        run = client.post(f"/v1/sessions/{create(client)}/runs", json={"max_steps": 1, "webhook": hook}).json()
        assert until_told(client, run["run_id"])["status"] == "delivered"
        Webhook(base64.b64encode(b"open sesame").decode()).verify(endpoint.received[0].body, endpoint.received[0].headers)


@pytest.mark.parametrize(("variables", "is_called"), [({}, True), ({"STEPWELL_WEBHOOK_PRIVATE": "false"}, False)])
def test_a_service_that_listens_here_alone_may_call_here_unless_it_is_told_not_to(
    tmp_path: Path, variables: dict[str, str], is_called: bool
) -> None:
    (tmp_path / "counter.py").write_text(Path("examples/counter.py").read_text())
    with (
        receiving() as endpoint,
        running_service("counter.py", cwd=tmp_path, variables=variables) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        answer = client.post(f"/v1/sessions/{create(client)}/runs", json={"max_steps": 1, "webhook": {"url": endpoint.url}})
        assert answer.status_code == (200 if is_called else 422)
        if is_called:
            endpoint.until(1)
