"""What is written from outside into a typed machine is checked where it is written: 422, and nothing changes."""

import datetime
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import httpx
import pydantic
import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.engine.pydantic import PydanticTypingSystem
from tests.server import running_server


class Line(pydantic.BaseModel):
    item: str
    count: int = 1


class Ticket(pydantic.BaseModel):
    urgency: Literal["low", "high"] = "low"
    ok: bool = False
    price: Annotated[float, pydantic.Field(ge=0)] = 0.0
    due: datetime.datetime | None = None
    lines: list[Line] = []
    tags: set[str] = set()
    note: str = None  # type: ignore[assignment]  # as many write it


@action.pydantic(reads=["ok"], writes=["ok"])
async def decide(state: Ticket, ok: bool, price: Annotated[float, pydantic.Field(ge=0)] = 0.0) -> Ticket:
    state.ok = ok
    return state


@action(reads=["ok"], writes=["ok"])
async def decide_plainly(state: State, ok: bool, price: Annotated[float, pydantic.Field(ge=0)] = 0.0) -> State:
    return state.update(ok=ok)


def built(name: str, step: Any, *, is_typed: bool) -> Machine:
    def make() -> ApplicationBuilder:
        builder = ApplicationBuilder().with_actions(step=step).with_transitions(("step", "step")).with_entrypoint("step")
        return (
            builder.with_typing(PydanticTypingSystem(Ticket)).with_state(Ticket()) if is_typed else builder.with_state(ok=False)
        )

    return Machine(name, make)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    machines = [
        built("typed", decide, is_typed=True),
        built("typed-state", decide_plainly, is_typed=True),
        built("typed-action", decide, is_typed=False),
        built("plain", decide_plainly, is_typed=False),
    ]
    with running_server(machines) as server, server.client() as made:
        yield made


WRONG = [
    ("urgency", "lots"),
    ("urgency", None),
    ("ok", "banana"),
    ("ok", "yes"),
    ("ok", 1),
    ("price", "3.5"),
    ("price", -1),
    ("due", 3),
    ("due", "tomorrow"),
    ("lines", [{"item": "a"}, {"item": 3}]),
    ("lines", {"item": "a"}),
    ("tags", "red"),
    ("urgent", "low"),
]
RIGHT = {
    "urgency": "high",
    "ok": True,
    "price": 3,
    "due": "2026-01-02T03:04:05Z",
    "lines": [{"item": "a", "count": 2}],
    "tags": ["red"],
    "note": None,
}


def assert_refused(answer: httpx.Response, key: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "urn:stepwell:problem:state-invalid"), problem
    assert [each["where"] for each in problem["errors"]] == [f"state.{key}"]
    for value in ("lots", "banana", "tomorrow", "3.5"):
        assert value not in answer.text


@pytest.mark.parametrize(("key", "value"), WRONG)
@pytest.mark.parametrize("machine", ["typed", "typed-state"])
def test_a_state_that_does_not_fit_is_refused_where_it_is_written(
    machine: str, key: str, value: Any, client: httpx.Client
) -> None:
    before = client.get("/v1/sessions").json()["items"]
    assert_refused(client.post("/v1/sessions", json={"machine": machine, "state": {"note": "fits", key: value}}), key)
    plan = {"cron": "0 0 * * *", "session": {"machine": machine, "state": {key: value}}}
    assert_refused(client.post("/v1/schedules", json=plan), key)
    assert client.get("/v1/sessions").json()["items"] == before
    session = client.post("/v1/sessions", json={"machine": machine}).json()
    path = f"/v1/sessions/{session['id']}"
    assert_refused(client.patch(path, json={"state": {"set": {"note": "fits", key: value}}}), key)
    assert client.get(path).json() == session


@pytest.mark.parametrize("machine", ["typed", "typed-state"])
def test_a_state_that_fits_is_taken_as_it_is_and_steps_go_on_with_it(machine: str, client: httpx.Client) -> None:
    session = client.post("/v1/sessions", json={"machine": machine, "state": RIGHT}).json()
    assert session["state"] == RIGHT
    path = f"/v1/sessions/{session['id']}"
    assert client.post(f"{path}/steps", json={"inputs": {"ok": False}}).status_code == 200
    assert client.patch(path, json={"state": {"set": RIGHT}}).json()["state"] == RIGHT
    assert client.post("/v1/sessions", json={"machine": machine, "state": client.get(path).json()["state"]}).status_code == 201


def test_keys_of_typed_actions_are_checked_without_a_typed_state(client: httpx.Client) -> None:
    for key, value in (("ok", "banana"), ("ok", "yes"), ("other", 1)):
        assert_refused(client.post("/v1/sessions", json={"machine": "typed-action", "state": {key: value}}), key)
    assert client.post("/v1/sessions", json={"machine": "plain", "state": {"ok": "banana", "other": 1}}).status_code == 201


@pytest.mark.parametrize("machine", ["typed", "typed-state", "typed-action", "plain"])
@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"ok": "banana"}, "mistyped"),
        ({"ok": "yes"}, "mistyped"),
        ({"ok": 1}, "mistyped"),
        ({"ok": None}, "mistyped"),
        ({"ok": True, "price": -1}, "mistyped"),
        ({}, "missing"),
        ({"ok": True, "okay": True}, "unexpected"),
    ],
    ids=str,
)
def test_inputs_are_as_strict_for_plain_and_typed_actions(
    machine: str, inputs: dict[str, Any], field: str, client: httpx.Client
) -> None:
    session = client.post("/v1/sessions", json={"machine": machine}).json()
    path = f"/v1/sessions/{session['id']}"
    for last, headers in (("steps", {}), ("runs", {}), ("runs", {"Prefer": "respond-async"})):
        answer = client.post(f"{path}/{last}", json={"inputs": inputs}, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:stepwell:problem:inputs-invalid"), answer.text
        assert answer.json()[field]
        assert "banana" not in answer.text
    assert client.get(path).json() == session
    assert client.post(f"{path}/steps", json={"inputs": {"ok": True}}).json()["state"]["ok"] is True
