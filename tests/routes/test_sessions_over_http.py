"""Sessions, steps, runs and history as a client sees them."""

import re

import httpx

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def create(client: httpx.Client, machine: str = "counter", **fields: object) -> str:
    answer = client.post("/v1/sessions", json={"machine": machine, **fields})
    assert answer.status_code == 201, answer.text
    session: str = answer.json()["id"]
    return session


def test_a_session_is_created_looked_at_and_deleted(client: httpx.Client) -> None:
    answer = client.post("/v1/sessions", json={"machine": "turns", "metadata": {"who": "ann"}, "partition_key": "p"})
    assert answer.status_code == 201
    made = answer.json()
    assert UUID7.fullmatch(made["id"])
    assert TIME.fullmatch(made["created_at"])
    assert (answer.headers["Location"], answer.headers["ETag"]) == (f"/v1/sessions/{made['id']}", '"-1"')
    assert {key: made[key] for key in ("machine", "status", "seq", "state", "next_action", "metadata", "partition_key")} == {
        "machine": "turns",
        "status": "idle",
        "seq": -1,
        "state": {"words": []},
        "next_action": "a",
        "metadata": {"who": "ann"},
        "partition_key": "p",
    }
    assert client.get(answer.headers["Location"]).json() == made
    assert client.delete(answer.headers["Location"]).status_code == 204
    gone = client.get(answer.headers["Location"])
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:stepwell:problem:session-not-found")


def test_an_id_of_the_clients_is_taken_once(client: httpx.Client) -> None:
    assert create(client, id="order:4711@x~y") == "order:4711@x~y"
    again = client.post("/v1/sessions", json={"machine": "counter", "id": "order:4711@x~y"})
    assert (again.status_code, again.json()["session_id"]) == (409, "order:4711@x~y")


def test_a_step_answers_with_where_the_session_stands(client: httpx.Client) -> None:
    session = create(client)
    answer = client.post(f"/v1/sessions/{session}/steps", json={"inputs": {"by": 5}})
    document = answer.json()
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"0"')
    assert UUID7.fullmatch(document.pop("run_id"))
    assert document == {
        "session_id": session,
        "seq": 0,
        "action": "count",
        "result": {"n": 5},
        "state": {"n": 5},
        "status": "idle",
        "next_action": "count",
    }
    assert client.post(f"/v1/sessions/{session}/steps").json()["state"] == {"n": 6}, "no body is a body without inputs"


def test_the_state_is_left_out_of_a_minimal_answer(client: httpx.Client) -> None:
    session = create(client)
    for path, body in (("steps", {}), ("runs", {"max_steps": 2})):
        answer = client.post(f"/v1/sessions/{session}/{path}", json=body, headers={"Prefer": "return=minimal"})
        assert "state" not in answer.json()
        assert answer.headers["Preference-Applied"] == "return=minimal"
        assert "Preference-Applied" not in client.post(f"/v1/sessions/{session}/{path}", json=body).headers


def test_a_run_answers_with_why_it_ended(client: httpx.Client) -> None:
    session = create(client, "turns")
    first = client.post(f"/v1/sessions/{session}/runs", json={"halt_before": ["c"]})
    assert {key: first.json()[key] for key in ("reason", "steps", "seq", "action", "next_action", "state")} == {
        "reason": "halt_before",
        "steps": 2,
        "seq": 1,
        "action": "b",
        "next_action": "c",
        "state": {"words": ["a", "b"]},
    }
    run = client.get(first.headers["Location"]).json()
    assert (run["status"], run["reason"], run["steps"], run["parameters"]) == (
        "finished",
        "halt_before",
        2,
        {"halt_before": ["c"]},
    )
    ended = client.post(f"/v1/sessions/{create(client, 'three')}/runs", json={"halt_after": ["@tag:counting"]}).json()
    assert (ended["reason"], ended["seq"]) == ("halt_after", 0)


def test_history_comes_in_pages_and_with_states(client: httpx.Client) -> None:
    session = create(client, "turns")
    client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 5})
    found, cursor = [], None
    while True:
        page = client.get(f"/v1/sessions/{session}/steps", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [(step["seq"], step["action"], step["kind"]) for step in found] == [
        (0, "a", "action"),
        (1, "b", "action"),
        (2, "c", "action"),
        (3, "a", "action"),
        (4, "b", "action"),
    ]
    assert found[1]["operations"] == [{"op": "append", "key": "words", "value": "b"}]
    third = client.get(f"/v1/sessions/{session}/steps/2").json()
    assert (third["action"], third["state"]) == ("c", {"words": ["a", "b", "c"]})


def test_runs_come_in_pages(client: httpx.Client) -> None:
    session = create(client)
    made = [client.post(f"/v1/sessions/{session}/steps", json={}).json()["run_id"] for _ in range(5)]
    found, cursor = [], {}
    while cursor is not None:
        page = client.get(f"/v1/sessions/{session}/runs", params={"limit": 2, **cursor}).json()
        found += [run["id"] for run in page["items"]]
        cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}
    assert found == made


def test_sessions_are_listed_newest_first_and_filtered(client: httpx.Client) -> None:
    made = [create(client, "three", partition_key="lists", metadata={"odd": str(n % 2)}) for n in range(5)]
    client.post(f"/v1/sessions/{made[0]}/runs", json={})

    def listed(**params: str) -> list[str]:
        found, cursor = [], None
        while True:
            page = client.get(
                "/v1/sessions",
                params={"partition_key": "lists", "limit": "2", **params, **({"cursor": cursor} if cursor else {})},
            ).json()
            found += [each["id"] for each in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    assert listed() == made[::-1]
    assert listed(status="ended") == made[:1]
    assert listed(status="running") == []
    assert listed(machine="counter") == []
    assert listed(**{"metadata[odd]": "1"}) == [made[3], made[1]]
    assert "state" not in client.get("/v1/sessions", params={"limit": 1}).json()["items"][0]


def test_a_list_is_filtered_by_sixteen_names_of_metadata_and_no_more(client: httpx.Client) -> None:
    labels = {f"n{number}": "x" for number in range(17)}
    session = create(client, metadata=labels)
    asked = {f"metadata[{name}]": value for name, value in labels.items()}
    refused = client.get("/v1/sessions", params=asked)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:stepwell:problem:parameter-invalid")
    assert refused.json()["detail"] == "query.metadata: a list can be filtered by 16 names of metadata, not by 17"
    del asked["metadata[n16]"]
    assert [each["id"] for each in client.get("/v1/sessions", params=asked).json()["items"]] == [session]


def test_a_fork_is_a_session_of_its_own(client: httpx.Client) -> None:
    session = create(client, "turns", metadata={"who": "ann"})
    client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 3})
    answer = client.post(f"/v1/sessions/{session}/fork", json={"seq": 0, "id": "forked-1"})
    fork = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, "/v1/sessions/forked-1")
    assert (fork["seq"], fork["parent_session_id"], fork["parent_seq"], fork["metadata"]) == (0, session, 0, {"who": "ann"})
    assert client.post("/v1/sessions/forked-1/steps", json={}).json()["state"] == {"words": ["a", "b"]}
    assert client.get(f"/v1/sessions/{session}").json()["seq"] == 2


def test_an_edit_is_a_step_of_its_own_kind(client: httpx.Client) -> None:
    session = create(client)
    edited = client.patch(f"/v1/sessions/{session}", json={"state": {"set": {"n": 41, "x": None}, "delete": []}})
    assert (edited.status_code, edited.json()["state"], edited.json()["seq"]) == (200, {"n": 41, "x": None}, 0)
    step = client.get(f"/v1/sessions/{session}/steps/0").json()
    assert (step["kind"], step["action"], step["run_id"]) == ("edit", None, None)
    assert client.post(f"/v1/sessions/{session}/steps", json={}).json()["state"]["n"] == 42


def test_a_precondition_holds_or_nothing_happens(client: httpx.Client) -> None:
    session = create(client)
    path = f"/v1/sessions/{session}"
    etag = client.get(path).headers["ETag"]
    moved = client.post(f"{path}/steps", json={}, headers={"If-Match": etag})
    assert moved.status_code == 200
    for answer in (
        client.post(f"{path}/steps", json={}, headers={"If-Match": etag}),
        client.post(f"{path}/runs", json={"max_steps": 1}, headers={"If-Match": etag}),
        client.patch(path, json={"state": {"set": {"n": 0}}}, headers={"If-Match": etag}),
        client.delete(path, headers={"If-Match": etag}),
        client.post(f"{path}/steps", json={}, headers={"If-Match": 'W/"0"'}),
    ):
        assert (answer.status_code, answer.json()["seq"]) == (412, 0)
    assert client.post(f"{path}/steps", json={}, headers={"If-Match": '"7", "0"'}).status_code == 200
    assert client.post(f"{path}/steps", json={}, headers={"If-Match": "*"}).status_code == 200


def test_a_failing_action_is_a_problem_that_says_where(client: httpx.Client) -> None:
    session = create(client, "failing")
    answer = client.post(f"/v1/sessions/{session}/runs", json={})
    problem = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (424, "application/problem+json")
    assert {key: problem[key] for key in ("type", "session_id", "seq", "action", "error_type", "message", "steps")} == {
        "type": "urn:stepwell:problem:step-failed",
        "session_id": session,
        "seq": 1,
        "action": "work",
        "error_type": "ValueError",
        "message": "the wheel is broken",
        "steps": 1,
    }
    assert "s3cr3t" not in answer.text
    run = client.get(f"/v1/runs/{problem['run_id']}").json()
    assert (run["status"], run["error"]["type"]) == ("failed", "step-failed")


def test_machines_are_described(client: httpx.Client) -> None:
    names = [each["name"] for each in client.get("/v1/machines").json()["items"]]
    assert names == ["counter", "three", "failing", "gated", "greeter", "mixed", "streamer", "turns"]
    session = create(client, "mixed")
    client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 2})
    mixed = client.get("/v1/machines/mixed").json()
    assert [(each["name"], each["is_async"], each["executor"]) for each in mixed["actions"]] == [
        ("first", True, "loop"),
        ("second", False, "thread"),
    ]
    assert mixed["transitions"][0] == {"source": "first", "target": "second", "condition": "default"}
    assert [(each["kind"], each["action"]) for each in mixed["warnings"]] == [("blocking_action", "second")]
    greeter = client.get("/v1/machines/greeter").json()
    assert greeter["actions"][0]["inputs"] == {"required": ["name"], "optional": ["title"]}
    assert greeter["actions"][1]["reads"] == ["name"]
    assert client.get("/v1/machines/nope").status_code == 404


def test_a_graph_is_shown_as_it_is_asked_for(client: httpx.Client) -> None:
    path = "/v1/machines/turns/graph"
    assert [edge["source"] for edge in client.get(path).json()["edges"]] == ["a", "b", "c"]
    assert client.get(path, params={"format": "mermaid"}).text.startswith("flowchart")
    assert client.get(path, headers={"Accept": "text/vnd.graphviz"}).text.startswith("digraph")
    drawing = client.get(path, headers={"Accept": "image/svg+xml"})
    assert (drawing.headers["Content-Type"], "<svg" in drawing.text) == ("image/svg+xml", True)


def test_the_service_says_how_it_is_and_what_it_can(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert (client.head("/healthz").status_code, client.head("/readyz").content) == (200, b"")
    assert client.get("/docs").status_code == 200
    document = client.get("/openapi.json").json()
    step = document["paths"]["/v1/sessions/{session_id}/steps"]["post"]
    assert step["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TakeStep"}
    assert "424" in step["responses"]
    assert {"TakeStep", "StartRun", "CreateSession", "EditSession", "StateEdit", "Fork", "Problem", "StepAnswer"} <= set(
        document["components"]["schemas"]
    )
