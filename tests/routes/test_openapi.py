"""What OpenAPI says is what the service does."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from app.routes import schemas
from app.routes.problems import Problem
from tests.routes.test_sessions_over_http import create

SESSION, RUNS = "/v1/sessions/{}", "/v1/sessions/{}/runs"


def session(client: httpx.Client) -> str:
    """A session with a run of two steps."""
    made = create(client, "turns", id=None)
    client.post(RUNS.format(made), json={"max_steps": 2}).raise_for_status()
    return made


def run_of(client: httpx.Client) -> str:
    found: str = client.get(RUNS.format(session(client))).json()["items"][0]["id"]
    return found


ANSWERS: dict[tuple[str, str, int], tuple[type[BaseModel], Callable[[httpx.Client], httpx.Response]]] = {
    ("/v1/sessions", "post", 201): (schemas.Session, lambda c: c.post("/v1/sessions", json={"machine": "counter"})),
    ("/v1/sessions", "get", 200): (schemas.SessionPage, lambda c: c.get("/v1/sessions")),
    (SESSION, "get", 200): (schemas.Session, lambda c: c.get(SESSION.format(session(c)))),
    (SESSION, "patch", 200): (schemas.Session, lambda c: c.patch(SESSION.format(session(c)), json={"state": {"set": {"x": 1}}})),
    (f"{SESSION}/fork", "post", 201): (schemas.Session, lambda c: c.post(f"{SESSION}/fork".format(session(c)), json={"seq": 0})),
    (f"{SESSION}/steps", "post", 200): (schemas.StepAnswer, lambda c: c.post(f"{SESSION}/steps".format(session(c)), json={})),
    (f"{SESSION}/steps", "get", 200): (schemas.StepPage, lambda c: c.get(f"{SESSION}/steps".format(session(c)))),
    (f"{SESSION}/steps/1", "get", 200): (schemas.StepWithState, lambda c: c.get(f"{SESSION}/steps/1".format(session(c)))),
    (RUNS, "post", 200): (schemas.RunAnswer, lambda c: c.post(RUNS.format(session(c)), json={"max_steps": 1})),
    (RUNS, "get", 200): (schemas.RunPage, lambda c: c.get(RUNS.format(session(c)))),
    ("/v1/runs/{}", "get", 200): (schemas.Run, lambda c: c.get(f"/v1/runs/{run_of(c)}")),
    ("/v1/runs/{}/cancel", "post", 200): (schemas.Run, lambda c: c.post(f"/v1/runs/{run_of(c)}/cancel")),
    ("/v1/machines", "get", 200): (schemas.MachinePage, lambda c: c.get("/v1/machines")),
    ("/v1/machines/mixed", "get", 200): (schemas.Machine, lambda c: c.get("/v1/machines/mixed")),
    ("/v1/sessions/nobody", "get", 404): (Problem, lambda c: c.get("/v1/sessions/nobody")),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_have_the_form_that_is_told(client: httpx.Client, case: tuple[str, str, int]) -> None:
    model, send = ANSWERS[case]
    answer = send(client)
    assert answer.status_code == case[2], answer.text
    model.model_validate(answer.json(), extra="allow" if model is Problem else "forbid")


def test_every_operation_tells_its_parameters_bodies_and_problems(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            told = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert told == {part[1:-1] for part in path.split("/") if part.startswith("{")}, (method, path)
            assert operation["summary"], path
            for reference in _references(operation):
                assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"], reference
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)


def _references(node: Any) -> list[str]:
    match node:
        case {"$ref": str(reference)}:
            return [reference]
        case dict():
            return [found for each in node.values() for found in _references(each)]
        case list():
            return [found for each in node for found in _references(each)]
    return []


def test_operations_have_short_names_of_their_own(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert {"take_step", "start_run", "create_session", "list_sessions", "follow_run"} <= set(names)
    tags = {each["name"] for each in document["tags"]}
    assert all(set(each["tags"]) <= tags and each["summary"] for each in operations)


def test_bounds_have_the_names_of_json_schema(client: httpx.Client) -> None:
    text = client.get("/openapi.json").text
    assert '"ge":' not in text
    assert '"le":' not in text
    parameters = client.get("/openapi.json").json()["paths"]["/v1/sessions"]["get"]["parameters"]
    limit = next(each["schema"] for each in parameters if each["name"] == "limit")
    assert (limit["minimum"], limit["maximum"]) == (1, 1000)


def test_problems_are_named_by_status(client: httpx.Client) -> None:
    responses = client.get("/openapi.json").json()["paths"]["/v1/sessions/{session_id}/steps"]["post"]["responses"]
    types = responses["409"]["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["type"]["enum"]
    assert "urn:stepwell:problem:session-busy" in types
    assert "default" in responses
    assert set(responses["200"]["headers"]) == {"ETag", "Preference-Applied"}


def test_an_event_is_described(client: httpx.Client) -> None:
    event = client.get("/openapi.json").json()["components"]["schemas"]["SessionEvent"]
    assert "step.finished" in event["properties"]["event"]["enum"]
