"""A real service is given awkward values, and looked at: it lives on, and a new process shows what was accepted."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz_values.values import CONTAINERS, LEAVES, PLACES
from tests.service_process import ROOT, ServiceProcess, running_service

__all__ = ["MACHINES", "Fuzzed", "fuzz"]

MACHINES = ("put", "put_sync", "stream", "stream_sync")
DEPTHS = (3, 60, 76, 230, 231, 3_000)
_LIMIT_S = 60.0

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
recipes: st.SearchStrategy[Any] = st.recursive(
    st.builds(lambda value: ["json", value], json_values)
    | st.builds(lambda name: ["leaf", name], st.sampled_from(list(LEAVES)))
    | st.builds(
        lambda kind, depth: ["deep", kind, depth],
        st.sampled_from(list(CONTAINERS)),
        st.sampled_from([3, 60, 76, 230, 231, 3_000]),
    ),
    lambda inner: st.builds(lambda kind, of: [kind, of], st.sampled_from(list(CONTAINERS)), inner),
    max_leaves=4,
)


@dataclass
class Fuzzed:
    """What came of the values: how many were stored and refused, and what each session showed."""

    accepted: int = 0
    refused: int = 0
    shown: dict[str, list[Any]] = field(default_factory=dict)


class Service:
    """The service under test, started again when it has died or is told to."""

    def __init__(self, folder: Path, machines: tuple[str, ...]) -> None:
        self._database = f"sqlite:///{folder}/fuzzed.db"
        self._machines = machines
        self._stack = contextlib.ExitStack()
        self._process: ServiceProcess | None = None
        self.client = httpx.Client()

    def start(self) -> None:
        self.close()
        # one seed of hashes, or the order of a set would differ from process to process
        variables = {"STEPWELL_DATABASE_URL": self._database, "PYTHONHASHSEED": "0", "STEPWELL_LOG_FORMAT": "json"}
        machines = [f"tests.fuzz_values.values:{name}" for name in self._machines]
        self._process = self._stack.enter_context(running_service(*machines, cwd=ROOT, variables=variables))
        self.client = self._stack.enter_context(httpx.Client(base_url=self._process.url, timeout=_LIMIT_S))

    def close(self) -> None:
        self._stack.close()
        self._process = None

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.process.poll() is None


def fuzz(folder: Path, examples: int, machines: tuple[str, ...] = MACHINES) -> Fuzzed:
    """Give a service so many values. Raises AssertionError, for the smallest value that was found, if it does not stand them."""
    found = Fuzzed()
    service = Service(folder, machines)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(st.sampled_from(machines), st.sampled_from(PLACES), st.sampled_from(["sync", "async", "exit"]), recipes, json_values)
    def give(machine: str, place: str, durability: str, recipe: Any, other: Any) -> None:
        if not service.lives:
            service.start()
        with _telling_of_a_death(service):
            _give(service.client, found, machine, place, durability, recipe, other)

    with contextlib.closing(service):
        give()
        service.start()
        for session_id, shown in found.shown.items():
            with _telling_of_a_death(service):
                again = _shown(service.client, session_id)
                assert again == shown, f"session {session_id} is shown differently by a new process"
    return found


@contextlib.contextmanager
def _telling_of_a_death(service: Service) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise AssertionError(f"the service did not answer ({type(error).__name__}); it lives: {service.lives}") from error


def _give(client: httpx.Client, found: Fuzzed, machine: str, place: str, durability: str, recipe: Any, other: Any) -> None:
    made = client.post("/v1/sessions", json={"machine": machine})
    assert made.status_code == 201, made.text
    session_id = made.json()["id"]
    inputs = {"recipe": recipe}
    if machine.startswith("put"):
        inputs["place"] = place
    if machine == "put":
        inputs["other"] = other
    body = {"inputs": inputs, "max_steps": 1, "durability": durability}
    ran = client.post(f"/v1/sessions/{session_id}/runs", json=body)
    if ran.status_code == 200:
        found.accepted += 1
    else:
        assert ran.status_code == 424, f"{ran.status_code} {ran.text}"
        found.refused += 1
    found.shown[session_id] = _shown(client, session_id)
    forked = client.post(f"/v1/sessions/{session_id}/fork", json={})
    assert forked.status_code == 201, forked.text
    assert client.get("/healthz").status_code == 200


def _shown(client: httpx.Client, session_id: str) -> list[Any]:
    """All that clients see of a session."""
    looked = [client.get(f"/v1/sessions/{session_id}{part}") for part in ("", "/steps", "/runs")]
    for answer in looked:
        assert answer.status_code == 200, answer.text
    for run in looked[-1].json()["items"]:
        events = client.get(f"/v1/runs/{run['id']}/events", headers={"Last-Event-ID": "0"})
        assert events.status_code == 200, events.text
        assert "event: run." in events.text
    return [answer.json() for answer in looked]
