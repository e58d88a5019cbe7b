"""A state from outside on which a condition of the machine fails is refused, and changes nothing."""

from collections.abc import Iterator

import httpx
import pytest

from app.engine import ApplicationBuilder, Condition, State, action
from app.engine.machine import Machine
from tests.machines import counter
from tests.server import running_server


def quitting() -> ApplicationBuilder:
    """Its condition ends the interpreter, or would, when `n` is 1."""

    @action(reads=["n"], writes=["n"])
    async def count(state: State) -> State:
        return state.increment(n=2)

    def quits(state: State) -> bool:
        if state["n"] == 1:
            raise SystemExit(3)
        return True

    condition = Condition(["n"], quits, name="quits")
    builder = ApplicationBuilder().with_actions(count).with_transitions(("count", "count", condition))
    return builder.with_state(n=0).with_entrypoint("count")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with running_server([counter("limited", 100), Machine("quitting", quitting)]) as server, server.client() as made:
        yield made


@pytest.mark.parametrize(
    ("machine", "change"), [("limited", {"set": {"n": "text"}}), ("limited", {"delete": ["n"]}), ("quitting", {"set": {"n": 1}})]
)
def test_an_edit_on_which_a_condition_fails_is_refused(client: httpx.Client, machine: str, change: dict[str, object]) -> None:
    session = client.post("/v1/sessions", json={"machine": machine}).json()["id"]
    client.post(f"/v1/sessions/{session}/steps", json={}).raise_for_status()
    before = client.get(f"/v1/sessions/{session}").json()
    answer = client.patch(f"/v1/sessions/{session}", json={"state": change})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:stepwell:problem:condition-failed")
    assert machine in answer.json()["detail"]
    assert client.get(f"/v1/sessions/{session}").json() == before
    assert client.post(f"/v1/sessions/{session}/steps", json={}).status_code == 200
