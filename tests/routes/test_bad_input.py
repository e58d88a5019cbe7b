"""Bad input: a 4xx problem that names what was wrong, and nothing has changed."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.routes.test_sessions_over_http import create
from tests.server import RunningServer

SECRET = "s3cr3t-value"


def everything(client: httpx.Client, session: str) -> Any:
    """All that there is of a session."""
    path = f"/v1/sessions/{session}"
    return [client.get(path).json(), client.get(f"{path}/steps").json(), client.get(f"{path}/runs").json()]


def assert_problem(answer: httpx.Response, status: int, slug: str, *named: str) -> None:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"urn:stepwell:problem:{slug}"), problem
    assert problem["title"]
    for each in named:
        assert each in problem["detail"], problem
    assert SECRET not in answer.text


@pytest.fixture
def session(client: httpx.Client) -> Iterator[str]:
    """A session that must be the same after the test."""
    made = create(client, "greeter")
    client.post(f"/v1/sessions/{made}/steps", json={"inputs": {"name": "ann"}})
    before = everything(client, made)
    yield made
    assert everything(client, made) == before


Send = Callable[[httpx.Client, str], httpx.Response]


def post(path: str, **options: Any) -> Send:
    return lambda client, session: client.post(path.format(session), **options)


def get(path: str, **options: Any) -> Send:
    return lambda client, session: client.get(path.format(session), **options)


def make(**fields: Any) -> Send:
    return post("/v1/sessions", json={"machine": "counter", **fields})


def edit(**fields: Any) -> Send:
    return lambda client, session: client.patch(ONE.format(session), json={"state": fields})


def raw(content: bytes, **headers: str) -> Send:
    return post(STEPS, content=content, headers=headers or JSON)


JSON = {"Content-Type": "application/json"}
STEPS, RUNS, FORK, ONE = "/v1/sessions/{}/steps", "/v1/sessions/{}/runs", "/v1/sessions/{}/fork", "/v1/sessions/{}"

CASES: dict[str, tuple[Send, int, str, tuple[str, ...]]] = {
    "an unknown machine": (post("/v1/sessions", json={"machine": "nope"}), 404, "machine-unknown", ("nope", "counter")),
    "an unknown machine to look at": (get("/v1/machines/nope"), 404, "machine-unknown", ("nope",)),
    "the graph of an unknown machine": (get("/v1/machines/nope/graph"), 404, "machine-unknown", ("nope",)),
    "an unknown form of a graph": (get("/v1/machines/turns/graph?format=gif"), 422, "parameter-invalid", ("format",)),
    "an unknown session to look at": (get("/v1/sessions/nobody"), 404, "session-not-found", ("nobody",)),
    "an unknown session to move": (post("/v1/sessions/nobody/steps", json={}), 404, "session-not-found", ("nobody",)),
    "an unknown session to run": (post("/v1/sessions/nobody/runs", json={}), 404, "session-not-found", ("nobody",)),
    "an unknown session to fork": (post("/v1/sessions/nobody/fork", json={}), 404, "session-not-found", ("nobody",)),
    "an unknown session's steps": (get("/v1/sessions/nobody/steps"), 404, "session-not-found", ("nobody",)),
    "an unknown session's step": (get("/v1/sessions/nobody/steps/0"), 404, "session-not-found", ("nobody",)),
    "an unknown session's runs": (get("/v1/sessions/nobody/runs"), 404, "session-not-found", ("nobody",)),
    "an unknown session's events": (get("/v1/sessions/nobody/events"), 404, "session-not-found", ("nobody",)),
    "an unknown run": (get("/v1/runs/nobody"), 404, "run-not-found", ("nobody",)),
    "an unknown run to cancel": (post("/v1/runs/nobody/cancel"), 404, "run-not-found", ("nobody",)),
    "an unknown run's events": (get("/v1/runs/nobody/events"), 404, "run-not-found", ("nobody",)),
    "malformed JSON": (raw(b'{"inputs": '), 400, "body-malformed", ("line 1",)),
    "JSON with NaN": (raw(b'{"inputs": {"name": NaN}}'), 400, "body-malformed", ()),
    "JSON with a number beyond all numbers": (
        raw(b'{"inputs": {"name": [1, 1e400]}}'),
        422,
        "body-invalid",
        ("body.inputs.name.1", "beyond"),
    ),
    "JSON with many digits beyond all numbers": (
        raw(b'{"inputs": {"name": ' + b"9" * 400 + b".5}}"),
        422,
        "body-invalid",
        ("body.inputs.name", "beyond"),
    ),
    "JSON that says a thing twice": (raw(b'{"inputs": {"name": 1, "name": 2}}'), 400, "body-malformed", ("name",)),
    "JSON with half a character": (
        raw(b'{"inputs": {"name": "a\\ud800"}}'),
        422,
        "body-invalid",
        ("body.inputs.name", "ud800", "surrogate"),
    ),
    "JSON with half a character in a name": (
        raw(b'{"inputs": {"\\udc00": 1}}'),
        422,
        "body-invalid",
        ("body.inputs", "surrogate"),
    ),
    "JSON of more depth than is read": (
        raw(b'{"inputs": {"name": ' + b"[" * 300 + b"]" * 300 + b"}}"),
        422,
        "body-invalid",
        ("body", "nested too deeply"),
    ),
    "no text at all": (raw(b"\xff\xfe\x00"), 400, "body-malformed", ()),
    "a number of 5,000 digits": (
        raw(b'{"inputs": ' + b"9" * 5000 + b"}"),
        422,
        "body-invalid",
        ("body.inputs", "4300 digits"),
    ),
    "JSON of great depth": (raw(b"[" * 50_000), 400, "body-malformed", ("recursion",)),
    "a list for a body": (post(STEPS, json=[1]), 422, "body-invalid", ("body",)),
    "null for a body": (raw(b"null"), 422, "body-invalid", ("body",)),
    "another type of body": (raw(b"a=b", **{"Content-Type": "text/plain"}), 415, "media-type-unsupported", ("text/plain",)),
    "no type of body": (post(STEPS, content=b"{}"), 415, "media-type-unsupported", ("missing",)),
    "inputs that are a list": (post(STEPS, json={"inputs": [SECRET]}), 422, "body-invalid", ("body.inputs",)),
    "an unknown field": (post(STEPS, json={"input": {}}), 422, "body-invalid", ("body.input",)),
    "a missing field": (post("/v1/sessions", json={}), 422, "body-invalid", ("body.machine",)),
    "a machine that is a number": (post("/v1/sessions", json={"machine": 3}), 422, "body-invalid", ("body.machine",)),
    "a state that is a text": (make(state=SECRET), 422, "body-invalid", ("body.state",)),
    "unexpected inputs": (post(STEPS, json={"inputs": {"nmae": SECRET}}), 422, "inputs-invalid", ("nmae",)),
    "an unknown halt action": (post(RUNS, json={"halt_after": ["nope"]}), 422, "action-unknown", ("nope", "ask")),
    "an unknown halt tag": (post(RUNS, json={"halt_before": ["@tag:nope"]}), 422, "tag-unknown", ("nope",)),
    "a halt that is a text": (post(RUNS, json={"halt_after": "reply"}), 422, "body-invalid", ("body.halt_after",)),
    "no steps at all": (post(RUNS, json={"max_steps": 0}), 422, "body-invalid", ("body.max_steps",)),
    "a limit that is a text": (post(RUNS, json={"max_steps": "3"}), 422, "body-invalid", ("body.max_steps",)),
    "a negative timeout": (post(RUNS, json={"timeout_s": -1}), 422, "body-invalid", ("body.timeout_s",)),
    "a negative seq to look at": (get("/v1/sessions/{}/steps/-1"), 422, "parameter-invalid", ("seq",)),
    "a seq that is a text": (get("/v1/sessions/{}/steps/one"), 422, "parameter-invalid", ("seq",)),
    "a seq with a sign": (get("/v1/sessions/{}/steps/+0"), 422, "parameter-invalid", ("seq",)),
    "a seq with a zero too many": (get("/v1/sessions/{}/steps/00"), 422, "parameter-invalid", ("seq",)),
    "a seq with a blank": (get("/v1/sessions/{}/steps/%200"), 422, "parameter-invalid", ("seq",)),
    "a seq in other digits": (get("/v1/sessions/{}/steps/%D9%A1"), 422, "parameter-invalid", ("seq",)),
    "a negative cursor of steps": (get("/v1/sessions/{}/steps?cursor=-1"), 422, "parameter-invalid", ("cursor",)),
    "a cursor of steps with a sign": (get("/v1/sessions/{}/steps?cursor=%2B1"), 422, "parameter-invalid", ("cursor",)),
    "a limit with a fraction": (get("/v1/sessions?limit=5.0"), 422, "parameter-invalid", ("limit",)),
    "a position in the state": (make(state={"__SEQUENCE_ID": 7}), 422, "body-invalid", ("body.state", "__SEQUENCE_ID")),
    "a position in an edit": (edit(set={"__PRIOR_STEP": "a"}), 422, "body-invalid", ("body.state.set", "__PRIOR_STEP")),
    "a seq that is not reached": (get("/v1/sessions/{}/steps/99"), 404, "step-not-found", ("99",)),
    "a seq beyond all numbers": (get("/v1/sessions/{}/steps/" + "9" * 40), 422, "parameter-invalid", ("seq",)),
    "a negative seq to fork at": (post(FORK, json={"seq": -1}), 422, "body-invalid", ("body.seq",)),
    "a seq to fork at that is not reached": (post(FORK, json={"seq": 99}), 404, "step-not-found", ("99",)),
    "a seq to fork at beyond all numbers": (post(FORK, json={"seq": 10**30}), 422, "body-invalid", ("body.seq",)),
    "an id with a blank": (make(id="a b"), 422, "id-invalid", ("1 to 128",)),
    "an id with a slash": (make(id="a/b"), 422, "id-invalid", ()),
    "an id with a NUL": (make(id="a\0b"), 422, "id-invalid", ()),
    "an id that is empty": (make(id=""), 422, "id-invalid", ()),
    "an id that is long": (make(id="x" * 129), 422, "id-invalid", ()),
    "an id that is a folder": (make(id=".."), 422, "id-invalid", ()),
    "an id in other letters": (make(id="größe"), 422, "id-invalid", ()),
    "an odd id of a fork": (post(FORK, json={"id": "a b"}), 422, "id-invalid", ()),
    "an odd id to look at": (get("/v1/sessions/a%00b"), 422, "id-invalid", ()),
    "an odd id of a run": (get("/v1/runs/%F0%9F%92%A5"), 422, "id-invalid", ()),
    "a NUL in a partition": (make(partition_key="\0"), 422, "text-unstorable", ("partition",)),
    "a NUL in metadata": (make(metadata={"a": ["\0"]}), 422, "text-unstorable", ("metadata",)),
    "a limit beyond measure": (get("/v1/sessions?limit=100000"), 422, "parameter-invalid", ("limit",)),
    "a limit that is none": (get("/v1/sessions/{}/steps?limit=0"), 422, "parameter-invalid", ("limit",)),
    "an unknown status": (get("/v1/sessions?status=asleep"), 422, "parameter-invalid", ("status",)),
    "a cursor of one's own": (get("/v1/sessions?cursor=abc"), 422, "cursor-invalid", ()),
    "a cursor of one's own for what runs": (get("/v1/sessions?status=running&cursor=abc"), 422, "cursor-invalid", ()),
    "a cursor of runs of one's own": (get("/v1/sessions/{}/runs?cursor=5"), 422, "cursor-invalid", ()),
    "a cursor of runs with odd numbers": (get("/v1/sessions/{}/runs?cursor=5~%2B1~r"), 422, "cursor-invalid", ()),
    "a cursor of steps of one's own": (get("/v1/sessions/{}/steps?cursor=abc"), 422, "parameter-invalid", ("cursor",)),
    "an odd position": (get("/v1/sessions/{}/events", headers={"Last-Event-ID": "x"}), 400, "header-invalid", ("Last-Event-ID",)),
    "a negative position": (get("/v1/sessions/{}/events", headers={"Last-Event-ID": "-5"}), 400, "header-invalid", ()),
    "a position in the future": (get("/v1/sessions/{}/events", headers={"Last-Event-ID": "9" * 18}), 400, "position-invalid", ()),
    "a key that is set and deleted": (edit(set={"a": 1}, delete=["a"]), 422, "body-invalid", ("body.state.delete",)),
    "an odd precondition": (post(STEPS, json={}, headers={"If-Match": "3"}), 400, "header-invalid", ("If-Match",)),
    "a path that is none": (get("/v1/sesions"), 404, "path-unknown", ("/v1/sesions",)),
    "a path with a slash too many": (get("/v1/sessions/"), 404, "path-unknown", ()),
    "the wrong method": (lambda client, _: client.put("/v1/sessions"), 405, "method-not-allowed", ("GET, HEAD, OPTIONS, POST",)),
    "another wrong method": (
        lambda client, x: client.put(ONE.format(x)),
        405,
        "method-not-allowed",
        ("DELETE, GET, HEAD, OPTIONS, PATCH",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_a_problem_and_changes_nothing(client: httpx.Client, session: str, case: str) -> None:
    send, status, slug, named = CASES[case]
    count = len(client.get("/v1/sessions", params={"limit": 1000}).json()["items"])
    assert_problem(send(client, session), status, slug, *named)
    assert len(client.get("/v1/sessions", params={"limit": 1000}).json()["items"]) == count


def test_missing_inputs_are_named(client: httpx.Client) -> None:
    session = create(client, "greeter")
    before = everything(client, session)
    answer = client.post(f"/v1/sessions/{session}/steps", json={"inputs": {"title": SECRET}})
    assert_problem(answer, 422, "inputs-invalid", "name", "ask")
    assert (answer.json()["missing"], answer.json()["unexpected"]) == (["name"], [])
    streamed = client.post(f"/v1/sessions/{session}/runs", json={}, headers={"Accept": "text/event-stream"})
    assert_problem(streamed, 422, "inputs-invalid", "name")
    assert everything(client, session) == before


def test_inputs_of_a_wrong_type_are_named(client: httpx.Client) -> None:
    session = create(client)
    before = everything(client, session)
    for by in (SECRET, 1.5, True, None, [1]):
        answer = client.post(f"/v1/sessions/{session}/steps", json={"inputs": {"by": by}})
        assert_problem(answer, 422, "inputs-invalid", "count", "'by' should be a valid integer")
        assert answer.json()["mistyped"] == ["by"]
    assert everything(client, session) == before


def test_the_methods_of_a_path_are_told(client: httpx.Client) -> None:
    assert client.put("/v1/sessions").headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert client.post("/healthz").headers["Allow"] == "GET, HEAD, OPTIONS"


def test_a_body_that_says_it_is_too_large_is_not_read(client: httpx.Client, session: str) -> None:
    answer = client.post(f"/v1/sessions/{session}/steps", content=b" " * 10_000_000, headers=JSON)
    assert_problem(answer, 413, "body-too-large", "100000")


def test_a_body_of_unknown_length_is_cut_off(client: httpx.Client, session: str) -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        yield b'{"inputs": {"name": "'
        for _ in range(1_000):
            taken += 10_000
            yield b"x" * 10_000

    for path in (f"/v1/sessions/{session}/steps", "/v1/sessions"):
        assert_problem(client.post(path, content=chunks(), headers=JSON), 413, "body-too-large", "100000")
    assert client.get("/healthz").status_code == 200


def test_a_connection_serves_on_after_a_body_that_was_too_large(client: httpx.Client, session: str) -> None:
    for _ in range(3):
        assert client.post(f"/v1/sessions/{session}/steps", content=b" " * 200_000, headers=JSON).status_code == 413
        assert client.get(f"/v1/sessions/{session}").status_code == 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "inputs",
        "halt_before",
        "halt_after",
        "max_steps",
        "timeout_s",
        "machine",
        "id",
        "state",
        "metadata",
        "partition_key",
        "seq",
    ]
)
BODIES = st.one_of(
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(FIELDS, VALUES, max_size=4).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
)
PATHS = st.sampled_from(["/v1/sessions", STEPS, RUNS, FORK, ONE, "/v1/sessions/{}/events", "/v1/runs/{}/cancel"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(["POST", "PATCH"]), path=PATHS, body=BODIES)
def test_no_body_makes_the_service_fail(server: RunningServer, method: str, path: str, body: bytes) -> None:
    with server.client() as client:
        session = create(client, "three")
        answer = client.request(method, path.format(session), content=body, headers=JSON)
        assert answer.status_code < 500, (answer.text, body)
        if answer.status_code >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json"
        else:
            assert client.get(f"/v1/sessions/{session}").status_code == 200


ODD_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=ODD_TEXT, path=st.sampled_from(["/v1/sessions/{}", "/v1/sessions/{}/steps/{}", "/v1/runs/{}", "/v1/machines/{}/graph"])
)
def test_no_path_makes_the_service_fail(server: RunningServer, text: str, path: str) -> None:
    with server.client() as client:
        quoted = "".join(f"%{byte:02X}" for byte in text.encode())
        assert client.get(path.format(quoted, quoted)).status_code < 500


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["limit", "cursor", "status", "machine", "partition_key", "metadata[a]", "metadata[\0]"]), text=ODD_TEXT
)
def test_no_question_makes_the_service_fail(server: RunningServer, name: str, text: str) -> None:
    with server.client() as client:
        for path in ("/v1/sessions", "/v1/sessions/x/steps", "/v1/sessions/x/runs"):
            assert client.get(path, params={name: text}).status_code < 500
