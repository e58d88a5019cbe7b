"""How long a health check takes beside sessions that block, ours and apache-burr's behind FastAPI."""

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.health_probe import EVERY_S, Latency, probe
from benchmarks.processes import Server, running
from benchmarks.request_rate import create_sessions
from benchmarks.tables import Bar, show, show_bars

SESSIONS = 8
SECONDS = 8.0


class Stepping:
    """Steps one session per path without a pause while its context is open."""

    def __init__(self, server: Server, paths: list[str]) -> None:
        self._url = server.url
        self._paths = paths
        self._over = threading.Event()
        self._done = [0] * len(paths)
        self.steps_per_second = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._step, args=(index,)) for index in range(len(self._paths))]
        for thread in threads:
            thread.start()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.steps_per_second = sum(self._done) / (time.perf_counter() - began)
            self._over.set()
            for thread in threads:
                thread.join()

    def _step(self, index: int) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._over.is_set():
                client.post(self._paths[index], json={"inputs": {}}).raise_for_status()
                self._done[index] += 1


def measure(server: Server, paths: list[str]) -> tuple[Latency, float]:
    """Return the health check's latency while `paths` are stepped, and the steps per second meanwhile."""
    stepping = Stepping(server, paths)
    return probe(server.host, server.port, SECONDS, stepping), stepping.steps_per_second


def main() -> None:
    rows: dict[str, tuple[Latency, float]] = {}
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-", ignore_cleanup_errors=True) as folder:
        with running("benchmarks.own_service", f"sqlite:///{Path(folder) / 'own.db'}") as server:
            rows["Stepwell: beside nothing"] = measure(server, [])
            ids = create_sessions(server, "blocking", SESSIONS)
            rows[f"Stepwell: beside {SESSIONS} in time.sleep(0.2)"] = measure(
                server, [f"/v1/sessions/{id_}/steps" for id_ in ids]
            )
        with running("benchmarks.peer_service", f"sqlite:{Path(folder) / 'peer.db'}") as server:
            rows["Burr + FastAPI: beside nothing"] = measure(server, [])
            paths = [f"/blocking/{index}/steps" for index in range(SESSIONS)]
            rows[f"Burr + FastAPI: beside {SESSIONS} in time.sleep(0.2)"] = measure(server, paths)
    report(rows)


def report(rows: Mapping[str, tuple[Latency, float]]) -> None:
    show(
        f"Health check, one every {EVERY_S * 1e3:.0f} ms for {SECONDS:g} s",
        ["beside", "p50 ms", "p99 ms", "max ms", "steps/s meanwhile"],
        [
            [label, f"{latency.p50_ms:.2f}", f"{latency.p99_ms:.2f}", f"{latency.max_ms:.1f}", f"{rate:.0f}"]
            for label, (latency, rate) in rows.items()
        ],
    )
    ours = next(latency for label, (latency, _) in rows.items() if "Stepwell" in label and "sleep" in label)
    show_bars([Bar("health p99 beside blocking sessions", f"{ours.p99_ms:.2f} ms", "<= 10 ms", ours.p99_ms <= 10)])
