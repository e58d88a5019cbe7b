"""What an operator sees of a running service, read as a scraper reads it."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from tests.machines import Gate, counter, failing, gated, mixed
from tests.routes.test_sessions_over_http import create
from tests.server import RunningServer, running_server

SECRET = "a value that nobody else may see"


def blocker() -> Machine:
    @action(reads=["secret"], writes=["n"])
    async def block(state: State) -> State:
        time.sleep(1.5)  # noqa: ASYNC251 - on purpose
        return state.update(n=1)

    return Machine(
        "blocker",
        lambda: (
            ApplicationBuilder()
            .with_actions(block)
            .with_transitions(("block", "block"))
            .with_state(secret=SECRET)
            .with_entrypoint("block")
        ),
    )


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def server(tmp_path: Path, gate: Gate) -> Iterator[RunningServer]:
    machines = [counter(), counter("three", 3), failing(), gated(gate), mixed(), blocker()]
    with running_server(machines, open_store(f"sqlite:///{tmp_path}/metrics.db")) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


class Figures:
    """The samples of one scrape."""

    def __init__(self, client: httpx.Client) -> None:
        answer = client.get("/metrics")
        assert answer.status_code == 200
        self.text = answer.text
        families = parser.text_string_to_metric_families(self.text)
        self.samples = [sample for family in families for sample in family.samples]

    def of(self, name: str, **labels: str) -> float:
        found = [s.value for s in self.samples if s.name == f"stepwell_{name}" and labels.items() <= s.labels.items()]
        assert len(found) == 1, f"{len(found)} samples of {name} {labels}"
        return found[0]

    def all(self, name: str) -> list[Mapping[str, str]]:
        return [sample.labels for sample in self.samples if sample.name == f"stepwell_{name}"]


def test_runs_steps_and_sessions_are_counted_by_machine(client: httpx.Client, gate: Gate) -> None:
    sessions = [create(client, "three") for _ in range(2)]
    for session in sessions:
        assert client.post(f"/v1/sessions/{session}/runs", json={}).status_code == 200
    assert client.post(f"/v1/sessions/{create(client, 'failing')}/runs", json={}).status_code == 424
    waiting = create(client, "gated")
    accepted = client.post(f"/v1/sessions/{waiting}/runs", json={}, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    assert gate.reached.wait(60)
    figures = Figures(client)

    assert figures.of("runs_ended_total", machine="three", status="finished", reason="end") == 2
    assert figures.of("runs_ended_total", machine="failing", status="failed") == 1
    assert figures.of("steps_committed_total", machine="three") == 6
    assert figures.of("steps_committed_total", machine="counter") == 0
    assert figures.of("sessions_live", machine="three") == 2
    assert (figures.of("runs_active", machine="gated"), figures.of("runs_active", machine="three")) == (1, 0)
    client.post(f"/v1/runs/{accepted.json()['id']}/cancel")
    assert Figures(client).of("runs_ended_total", machine="gated", status="cancelled", reason="requested") == 1


def test_the_steps_of_a_run_count_while_it_goes_on(client: httpx.Client, gate: Gate, server: RunningServer) -> None:
    session = create(client, "counter")
    accepted = client.post(f"/v1/sessions/{session}/runs", json={}, headers={"Prefer": "respond-async"})
    before = 0.0
    for _ in range(3):
        while (now := Figures(client).of("steps_committed_total", machine="counter")) <= before:
            time.sleep(0.005)
        before = now
    client.post(f"/v1/runs/{accepted.json()['id']}/cancel")
    steps = client.get(f"/v1/sessions/{session}").json()["seq"] + 1
    assert Figures(client).of("steps_committed_total", machine="counter") == steps


def test_executors_are_shown_by_pool_and_by_action(client: httpx.Client) -> None:
    session = create(client, "mixed")
    for _ in range(4):
        assert client.post(f"/v1/sessions/{session}/steps", json={}).status_code == 200
    figures = Figures(client)

    assert {each["pool"] for each in figures.all("pool_size")} == {"thread", "compute", "reserve", "process", "dask"}
    assert figures.of("pool_size", pool="thread") == 64
    assert figures.of("pool_calls_total", pool="thread") == 2
    assert figures.of("pool_busy", pool="thread") == figures.of("pool_queued", pool="thread") == 0
    for name in ("abandoned", "oldest_wait_seconds", "wait_seconds_total", "late_results_total", "refused_total", "died_total"):
        assert figures.of(f"pool_{name}", pool="thread") >= 0
    assert figures.of("action_calls_total", machine="mixed", action="second") == 2
    assert figures.of("action_executor", machine="mixed", action="second", executor="thread") == 1
    assert figures.of("action_cpu_seconds_total", machine="mixed", action="second") < 1
    assert figures.of("action_warnings", kind="blocking_action", machine="mixed", action="second") == 1


def test_the_loop_and_who_holds_it_are_shown(client: httpx.Client) -> None:
    assert client.post(f"/v1/sessions/{create(client, 'blocker')}/steps", json={}).status_code == 200
    line = blocker.__code__.co_firstlineno + 3
    end_s = time.monotonic() + 60
    while not (figures := Figures(client)).all("loop_stalls_total") and time.monotonic() < end_s:
        time.sleep(0.02)  # the watchdog looks from a thread of its own

    assert figures.of("loop_stalls_total", machine="blocker", action="block", place=f"{__file__}:{line}") == 1
    assert figures.of("loop_lag_max_seconds") > 0.1
    assert figures.of("loop_late_total") >= 1
    assert figures.of("loop_lag_seconds") >= 0
    assert figures.of("loop_starved_total") >= 0


def test_commits_and_connections_are_shown(client: httpx.Client) -> None:
    session = create(client, "counter")
    for _ in range(5):
        assert client.post(f"/v1/sessions/{session}/steps", json={}).status_code == 200
    figures = Figures(client)

    assert figures.of("commits_total") >= figures.of("commit_transactions_total") >= 6
    assert figures.of("commits_waiting") == 0
    assert figures.of("database_pool_size", pool="read") == 5
    assert 0 <= figures.of("database_pool_in_use", pool="read") <= figures.of("database_pool_open", pool="read") <= 5


def test_requests_are_counted_by_route_and_never_by_path(client: httpx.Client) -> None:
    sessions = [create(client, "counter") for _ in range(3)]
    for session in sessions:
        assert client.post(f"/v1/sessions/{session}/steps", json={}).status_code == 200  # past the middleware
        assert client.get(f"/v1/sessions/{session}").status_code == 200
    assert client.post("/v1/sessions/nobody/steps", json={}).status_code == 404
    assert client.get("/nowhere/at/all").status_code == 404
    assert client.request("PROPFIND", "/v1/sessions").status_code == 405
    figures = Figures(client)

    steps = {"method": "POST", "route": "/v1/sessions/{session_id}/steps"}
    assert figures.of("http_requests_total", **steps, status="200") == 3
    assert figures.of("http_requests_total", **steps, status="404") == 1
    assert figures.of("http_requests_total", method="GET", route="/v1/sessions/{session_id}", status="200") == 3
    assert figures.of("http_requests_total", method="GET", route="other", status="404") == 1
    assert figures.of("http_requests_total", method="other", status="405") == 1
    assert figures.of("http_request_duration_seconds_count", **steps) == 4
    assert figures.of("http_request_duration_seconds_bucket", **steps, le="+Inf") == 4
    assert 0 < figures.of("http_request_duration_seconds_sum", **steps) < 20


def test_no_value_and_no_id_is_ever_shown(client: httpx.Client) -> None:
    session = create(client, "blocker")
    client.post(f"/v1/sessions/{session}/steps", json={})
    text = Figures(client).text

    assert (SECRET in text, session in text) == (False, False)


def test_followers_are_counted_while_they_follow(client: httpx.Client, server: RunningServer) -> None:
    session = create(client, "counter")
    with server.client() as own, own.stream("GET", f"/v1/sessions/{session}/events") as stream:
        assert stream.status_code == 200
        await_followers(client, 1)
    await_followers(client, 0)


def await_followers(client: httpx.Client, expected: int) -> None:
    end_s = time.monotonic() + 60
    while (found := Figures(client).of("followers")) != expected:
        assert time.monotonic() < end_s, f"{found} followers"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("text/plain; version=0.0.4", "text/plain"),
        ("*/*", "text/plain"),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(client: httpx.Client, accept: str, content_type: str) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})

    assert answer.headers["content-type"].startswith(content_type)
    parse: Any = openmetrics_parser if "openmetrics" in content_type else parser
    names = {family.name for family in parse.text_string_to_metric_families(answer.text)}
    assert {"stepwell_pool_size", "stepwell_followers"} <= names
