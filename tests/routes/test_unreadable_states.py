"""Sessions whose state holds a value that cannot be read back: what is told of them, and how they are mended."""

import asyncio
import contextlib
import dataclasses
import enum
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest

from app.persistence.factory import open_store
from app.sessions.host_settings import HostSettings
from app.sessions.housekeeping import Retention
from app.sessions.requests import NewSessionRequest, RunRequest
from tests import orders
from tests.machines import counter
from tests.orders import shop
from tests.server import running_server
from tests.sessions.hosting import hosting, leave_a_run


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_store_url"))
    return f"sqlite:///{tmp_path}/sessions.db"


@contextlib.contextmanager
def served(url: str, *machines: Any, settings: HostSettings | None = None) -> Iterator[httpx.Client]:
    with running_server(machines or [shop(), counter()], open_store(url), settings) as server, server.client() as client:
        yield client


def put(client: httpx.Client, session: str, **inputs: str) -> httpx.Response:
    return client.post(f"/v1/sessions/{session}/steps", json={"inputs": inputs})


def stored(url: str, *inputs: dict[str, str]) -> None:
    """Store the session `s`, whose steps have put these values."""
    with served(url) as client:
        client.post("/v1/sessions", json={"machine": "shop", "id": "s"}).raise_for_status()
        for each in inputs:
            put(client, "s", **each).raise_for_status()


def lose_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    class Item(pydantic.BaseModel):
        __module__, __qualname__ = orders.__name__, "Item"
        name: str
        price: float

    monkeypatch.setattr(orders, "Item", Item)


def lose_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "Urgency", enum.Enum("Urgency", {"LOW": "low"}, module=orders.__name__))


def need_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Order:
        __module__, __qualname__ = orders.__name__, "Order"
        item: str
        price: float

    monkeypatch.setattr(orders, "Order", Order)


def lose_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(orders, "Order")


def interrupt_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    class Item(pydantic.BaseModel):
        __module__, __qualname__ = orders.__name__, "Item"
        name: str
        price: float = 0.0  # a new field, so the stored values are validated

        @pydantic.model_validator(mode="after")
        def _checked(self) -> Any:
            raise KeyboardInterrupt("secret-tea")

    monkeypatch.setattr(orders, "Item", Item)


CHANGES = [
    pytest.param("model", interrupt_reading, "Item", id="a class whose code raises KeyboardInterrupt"),
    pytest.param("model", lose_a_field, "Item", id="a new required field of a model"),
    pytest.param("enum", lose_a_member, "Urgency", id="an enum member that is gone"),
    pytest.param("dataclass", need_a_field, "Order", id="a new required field of a dataclass"),
    pytest.param("dataclass", lose_the_class, "Order", id="a class that is gone"),
    pytest.param("nested", lose_the_class, "Order", id="a class that is gone, in a list in a dict"),
]


def assert_unreadable(answer: httpx.Response, class_name: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["type"].rpartition(":")[2].rpartition("/")[2]) == (409, "state-unreadable"), problem
    assert (problem["session_id"], problem["key"]) == ("s", "order")
    assert problem["class"] == f"tests.orders.{class_name}"
    for named in ("'s'", "'order'", class_name):
        assert named in problem["detail"]
    assert "secret-tea" not in answer.text


@pytest.mark.parametrize(("kind", "change", "class_name"), CHANGES)
def test_what_cannot_be_read_back_is_told_and_is_read_again_when_its_class_is_back(
    url: str, kind: str, change: Any, class_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(url, {"kind": "plain"}, {"kind": kind})
    with served(url) as client:
        before = client.get("/v1/sessions/s").json()
        steps = client.get("/v1/sessions/s/steps").json()
    with monkeypatch.context() as patch, served(url) as client:
        change(patch)
        for _ in range(2):  # asked for from the store, and then with the session in memory
            for path in ("", "/steps", "/steps/1", "/events"):
                assert_unreadable(client.get(f"/v1/sessions/s{path}"), class_name)
            for path, body in (("steps", {}), ("runs", {}), ("fork", {}), ("fork", {"seq": 1})):
                assert_unreadable(client.post(f"/v1/sessions/s/{path}", json=body), class_name)
            refused = client.post("/v1/sessions/s/runs", json={}, headers={"Prefer": "respond-async"})
            assert_unreadable(refused, class_name)
        assert client.get("/v1/sessions/s/runs").status_code == 200
        assert [each["id"] for each in client.get("/v1/sessions").json()["items"]] == ["s"]
        assert client.get("/v1/sessions/s/steps/0").status_code == 200
        assert client.post("/v1/sessions/s/fork", json={"seq": 0}).status_code == 201
    with served(url) as client:
        assert client.get("/v1/sessions/s").json() == before
        assert client.get("/v1/sessions/s/steps").json() == steps
        assert put(client, "s").status_code == 200


@pytest.mark.parametrize("edit", [{"set": {"order": "tea"}}, {"delete": ["order"]}], ids=["set", "delete"])
def test_setting_or_deleting_the_key_mends_a_session(url: str, edit: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stored(url, {"kind": "dataclass"})
    lose_the_class(monkeypatch)
    with served(url) as client:
        mended = client.patch("/v1/sessions/s", json={"state": edit})
        assert mended.status_code == 200
        expected = {"n": 1, "other": "kept", **edit.get("set", {})}
        assert mended.json()["state"] == client.get("/v1/sessions/s").json()["state"] == expected
        assert put(client, "s").status_code == 200
        assert client.post("/v1/sessions/s/fork", json={}).status_code == 201
        assert_unreadable(client.get("/v1/sessions/s/steps/0"), "Order")  # what was, cannot be read still
    with served(url) as client:
        assert client.get("/v1/sessions/s").json()["state"]["order"] == 1


def test_an_edit_of_another_key_leaves_what_cannot_be_read_as_it_is_stored(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(url, {"kind": "dataclass", "where": "append"}, {"kind": "plain", "where": "append"})
    with monkeypatch.context() as patch, served(url) as client:
        lose_the_class(patch)
        answer = client.patch("/v1/sessions/s", json={"state": {"set": {"other": "new"}}, "metadata": {"seen": "yes"}})
        assert answer.status_code == 200
        assert answer.json()["state"] == {"n": 2, "other": "new"}
        assert answer.json()["unreadable"] == {"order": "tests.orders.Order"}
        assert_unreadable(client.get("/v1/sessions/s"), "Order")
    with served(url) as client:
        assert client.get("/v1/sessions/s").json()["state"] == {"n": 2, "other": "new", "order": [{"item": "secret-tea"}, 1]}


def test_a_session_that_cannot_be_read_can_be_deleted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(url, {"kind": "dataclass"})
    lose_the_class(monkeypatch)
    with served(url) as client:
        assert client.delete("/v1/sessions/s").status_code == 204
        assert client.get("/v1/sessions/s").status_code == 404


@pytest.mark.parametrize("is_queued", [True, False], ids=["queued", "running"])
@pytest.mark.parametrize(
    ("kind", "change", "class_name"),
    [("dataclass", lose_the_class, "Order"), ("model", interrupt_reading, "Item")],
    ids=["gone", "KeyboardInterrupt"],
)
def test_a_run_that_was_accepted_ends_as_failed_with_that_reason_once(
    url: str, is_queued: bool, kind: str, change: Any, class_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def left() -> str:
        async with hosting([shop()], open_store(url)) as host:
            await host.create(NewSessionRequest("shop", "s"))
            await host.step("s", {"kind": kind})
            if not is_queued:
                await leave_a_run(host.store, "s", "left")
                return "left"
            host.store.queue.close()
            return (await host.queue("s", RunRequest(max_steps=1))).id

    run_id = asyncio.run(left())
    change(monkeypatch)
    with served(url) as client:
        for _ in range(600):
            run = client.get(f"/v1/runs/{run_id}").json()
            if run["status"] == "failed":
                break
            time.sleep(0.05)
        assert (run["status"], run["error"]["type"]) == ("failed", "state-unreadable")
        assert (run["error"]["key"], run["error"]["class"]) == ("order", f"tests.orders.{class_name}")
        assert "secret-tea" not in str(run)
        assert [each["id"] for each in client.get("/v1/sessions/s/runs").json()["items"]].count(run_id) == 1
        assert client.patch("/v1/sessions/s", json={"state": {"delete": ["order"]}}).status_code == 200
        events = client.get("/v1/sessions/s/steps?limit=1&cursor=0").json()["items"]
        assert [each["kind"] for each in events] == ["edit"]
        assert put(client, "s").status_code == 200
    with served(url) as client:
        assert client.get(f"/v1/runs/{run_id}").json() == run


def test_a_history_that_cannot_be_read_is_trimmed_and_followed_all_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(url, *[{"kind": "dataclass", "where": "append"}] * 3, {"kind": "dataclass", "where": "result"}, {"kind": "plain"})
    with monkeypatch.context() as patch, served(url) as client:
        lose_the_class(patch)
        assert client.get("/v1/sessions/s").json()["state"]["order"] == 1  # what is there now can be read
        assert client.get("/v1/sessions/s/steps?cursor=3").status_code == 200
        assert_unreadable(client.get("/v1/sessions/s/steps"), "Order")
        with client.stream("GET", "/v1/sessions/s/events", headers={"Last-Event-ID": "0"}) as events:
            assert events.status_code == 200
            text = ""
            for chunk in events.iter_text():
                text += chunk
                if text.count("event: run.finished") == 5:
                    break
        assert text.count('{"unreadable":"tests.orders.Order"}') >= 4
        assert "secret-tea" not in text
        assert client.delete("/v1/sessions/s/steps?before_seq=2").json()["first_seq"] == 2
    with served(url) as client:
        assert client.get("/v1/sessions/s/steps/2").json()["state"]["order"] == [{"item": "secret-tea"}] * 3


def test_chores_go_on_beside_a_session_that_cannot_be_read(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stored(url, *[{"kind": "dataclass", "where": "append"}] * 30)
    lose_the_class(monkeypatch)
    settings = HostSettings(housekeeping_s=0.05, retention=Retention(steps=2))
    with served(url, settings=settings) as client:
        assert_unreadable(client.get("/v1/sessions/s"), "Order")
        for _ in range(600):
            if client.get("/v1/sessions/s/steps/0").status_code == 410:
                break
            time.sleep(0.05)
        assert client.get("/v1/sessions/s/steps/0").status_code == 410
        client.post("/v1/sessions", json={"machine": "counter", "id": "c"}).raise_for_status()
        assert client.post("/v1/sessions/c/steps", json={}).status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


def test_a_session_of_a_machine_that_is_not_hosted_says_so_though_its_state_cannot_be_read(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(url, {"kind": "dataclass"})
    lose_the_class(monkeypatch)
    with served(url, counter()) as client:
        for answer in (
            client.get("/v1/sessions/s"),
            client.get("/v1/sessions/s/steps"),
            client.get("/v1/sessions/s/steps/0"),
            client.get("/v1/sessions/s/events"),
            client.patch("/v1/sessions/s", json={"state": {"delete": ["order"]}}),
            client.post("/v1/sessions/s/fork", json={}),
            put(client, "s"),
        ):
            assert (answer.status_code, answer.json()["title"]) == (409, "The session's machine is not hosted now"), answer.text
        assert client.delete("/v1/sessions/s").status_code == 204


def test_an_answer_that_is_asked_for_again_under_its_key_says_that_it_cannot_be_read(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(url, {"kind": "dataclass"})
    keyed = {"Idempotency-Key": "k1"}, {"Idempotency-Key": "k2"}
    with served(url) as client:
        step = client.post("/v1/sessions/s/steps", json={"inputs": {"kind": "dataclass"}}, headers=keyed[0])
        assert client.post("/v1/sessions/s/fork", json={"id": "t"}, headers=keyed[1]).status_code == 201
    lose_the_class(monkeypatch)
    with served(url) as client:
        again = client.post("/v1/sessions/s/steps", json={"inputs": {"kind": "dataclass"}}, headers=keyed[0])
        assert step.status_code == 200
        assert_unreadable(again, "Order")
        again = client.post("/v1/sessions/s/fork", json={"id": "t"}, headers=keyed[1])
        assert (again.status_code, again.json()["class"]) == (409, "tests.orders.Order")


@pytest.mark.parametrize(("kind", "class_name"), [("half", "Half"), ("half model", "Item")])
@pytest.mark.parametrize("where", ["state", "result", "append"])
def test_a_half_made_value_fails_its_step(kind: str, where: str, class_name: str, url: str) -> None:
    stored(url)
    with served(url) as client:
        answer = put(client, "s", kind=kind, where=where)
        assert answer.status_code == 424, answer.text
        assert class_name in answer.text
        assert "has no value" in answer.text
        assert "secret-tea" not in answer.text
        assert client.get("/v1/sessions/s").json()["state"] == {"n": 0, "other": "kept"}
