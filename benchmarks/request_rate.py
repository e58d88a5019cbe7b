"""How many persisted one-step requests a second one process answers, beside a route that does nothing.

64 clients, each with a session of its own and a kept-alive connection; every answer means that the step is durable. The
no-op route of the same process is asked in turns with the steps, so that the ratio is one of the same minutes.
"""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import Load, Outcome, apply_load
from benchmarks.processes import Server, postgres, running
from benchmarks.tables import Bar, show, show_bars

CLIENTS = 64
ROUNDS = 5
SECONDS = 2.0
MINIMAL = {"Prefer": "return=minimal"}
BODY: Mapping[str, Any] = {"inputs": {}}


@dataclass(frozen=True, slots=True)
class Figures:
    """One turn: what the clients saw, and the CPU time of the server's process per request."""

    outcome: Outcome
    cpu_us: float


Rates = Mapping[str, Sequence[Figures]]


def create_sessions(server: Server, machine: str, how_many: int) -> list[str]:
    """Create sessions of one of Stepwell's machines; return their ids."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        answers = [client.post("/v1/sessions", json={"machine": machine}).raise_for_status() for _ in range(how_many)]
        return [str(answer.json()["id"]) for answer in answers]


def measure(server: Server, subjects: Mapping[str, tuple[list[str], Mapping[str, str]]]) -> Rates:
    """Return the outcomes per subject (paths and headers), in turns; one short unmeasured turn goes before."""
    figures: dict[str, list[Figures]] = {name: [] for name in subjects}
    for turn in range(ROUNDS + 1):
        for name, (paths, headers) in subjects.items():
            seconds = SECONDS if turn else SECONDS / 4
            cpu_before_s = server.cpu_s()
            outcome = apply_load(Load(server.host, server.port, "POST", paths, BODY, dict(headers), seconds))
            if turn:
                figures[name].append(Figures(outcome, (server.cpu_s() - cpu_before_s) / outcome.answers * 1e6))
    return figures


def measure_own(database_url: str) -> Rates:
    with running("benchmarks.own_service", database_url) as server:
        steps = [f"/v1/sessions/{session_id}/steps" for session_id in create_sessions(server, "counting", CLIENTS)]
        noop = ["/noop"] * CLIENTS
        return measure(server, {"step": (steps, {}), "noop": (noop, {}), "minimal": (steps, MINIMAL)})


def measure_peer(database: str) -> Rates:
    with running("benchmarks.peer_service", database) as server:
        loaded = [f"/sessions/loaded-{index}/steps" for index in range(CLIENTS)]
        kept = [f"/kept/kept-{index}/steps" for index in range(CLIENTS)]
        return measure(server, {"step": (loaded, {}), "noop": (["/noop"] * CLIENTS, {}), "kept": (kept, {})})


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _report("SQLite", measure_own(f"sqlite:///{folder / 'own.db'}"), measure_peer(f"sqlite:{folder / 'peer.db'}"))
        with postgres(folder) as url:
            _report("PostgreSQL", measure_own(url), measure_peer(url))


def _report(database: str, own: Rates, peer: Rates) -> None:
    rows = [
        _row("Stepwell: one step", own["step"], own["noop"]),
        _row("Stepwell: one step, Prefer: return=minimal", own["minimal"], own["noop"]),
        _row("Stepwell's process: no-op route", own["noop"], own["noop"]),
        _row("Burr + FastAPI: load, step, save", peer["step"], peer["noop"]),
        _row("Burr + FastAPI: kept in memory, step, save", peer["kept"], peer["noop"]),
        _row("Burr + FastAPI's process: no-op route", peer["noop"], peer["noop"]),
    ]
    show(
        f"Persisted one-step requests, {database}, {CLIENTS} clients (median of {ROUNDS} runs of {SECONDS:g} s, in turns)",
        ["request", "per second", "of no-op", "p50 ms", "p99 ms", "CPU µs each"],
        rows,
    )
    ratio, rival = _rate(own["step"]) / _rate(own["noop"]), _rate(own["step"]) / _rate(peer["step"])
    show_bars(
        [
            Bar(f"{database}: share of the no-op rate", f"{ratio:.0%}", ">= 60%", ratio >= 0.6),
            Bar(f"{database}: against Burr + FastAPI", f"{rival:.1f}x", "> 1x", rival > 1),
        ]
    )


def _rate(turns: Sequence[Figures]) -> float:
    return statistics.median(turn.outcome.per_second for turn in turns)


def _row(label: str, turns: Sequence[Figures], floor: Sequence[Figures]) -> list[str]:
    return [
        label,
        f"{_rate(turns):,.0f}",
        f"{_rate(turns) / _rate(floor):.0%}",
        f"{statistics.median(turn.outcome.p50_ms for turn in turns):.1f}",
        f"{statistics.median(turn.outcome.p99_ms for turn in turns):.1f}",
        f"{statistics.median(turn.cpu_us for turn in turns):.0f}",
    ]
