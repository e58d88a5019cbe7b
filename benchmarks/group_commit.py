"""Steps per second of 64 sessions that commit one step at a time: group commit against a transaction for each step.

    python -m benchmarks.group_commit [sqlite] [postgresql]

Every commit holds the start of a run, its step and its end, as a request for one step makes it.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop

from app.engine.operations import Append, Increment, Set
from app.persistence.factory import open_store
from app.persistence.group_commit import Committer
from app.persistence.records import Commit, NewSession, RunEnd, RunStart, RunStatus, SessionStatus, StepCommit
from app.persistence.store import Store
from tests.postgres import fresh_database, running_postgres

__all__ = ["Figures", "measure"]

_SESSIONS = 64
_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Steps per second, and how long one commit took in the middle of all and near the slowest."""

    per_s: float
    median_ms: float
    p99_ms: float
    loop_us: float


async def measure(store: Store, *, sessions: int = _SESSIONS, seconds: float = _SECONDS) -> Figures:
    """Let `sessions` clients commit step after step for so long."""
    for number in range(sessions):
        await store.create_session(
            NewSession(_id(number), "counter", "1", {"n": 0, "log": []}, "count", created_at_s=time.time(), event_id=1)
        )
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    began, cpu = time.perf_counter(), time.thread_time()
    await asyncio.gather(*(_client(store, number, until, latencies) for number in range(sessions)))
    took, cpu = time.perf_counter() - began, time.thread_time() - cpu
    latencies.sort()
    count = len(latencies)
    return Figures(count / took, 1e3 * latencies[count // 2], 1e3 * latencies[count * 99 // 100], 1e6 * cpu / count)


async def _client(store: Store, number: int, until: float, latencies: list[float]) -> None:
    seq = 0
    state = {"n": 0, "log": [], "who": "x"}
    while (began := time.perf_counter()) < until:
        await store.commit(_commit(number, seq, state))
        latencies.append(time.perf_counter() - began)
        seq += 1


def _id(number: int) -> str:
    return f"01934f0e-7c1a-7000-8000-{number:012d}"


def _commit(number: int, seq: int, state: dict[str, object]) -> Commit:
    at, event, run_id = time.time(), 10 * seq + 10, f"01934f0e-{seq:08d}-7000-{number:012d}"
    operations = (
        (Increment("n", 1), Set("who", f"client {number}"), Append("log", f"turn {seq}"))
        if seq % 8 == 0
        else (Increment("n", 1),)
    )
    step = StepCommit(seq, "count", operations, {"n": seq}, state, "count", at, at, event + 1, event + 2)
    return Commit(
        session_id=_id(number),
        status=SessionStatus.IDLE,
        last_event_id=event + 3,
        run_start=RunStart(run_id, event, at, {"max_steps": 1}),
        step=step,
        run_end=RunEnd(run_id, RunStatus.FINISHED, event + 3, at, 1, "max_steps"),
        run_id=run_id,
    )


@contextmanager
def databases(names: list[str]) -> Iterator[dict[str, str]]:
    """Urls of empty databases."""
    with tempfile.TemporaryDirectory() as folder:
        urls = {"sqlite": f"sqlite:///{folder}/sessions.db"} if "sqlite" in names else {}
        if "postgresql" not in names:
            yield urls
            return
        with running_postgres() as server, fresh_database(server) as url:
            yield {**urls, "postgresql": url}


async def _run(url: str, most_entries: int) -> Figures:
    store = open_store(url, migrate=True)
    committer: Committer = store._committer  # type: ignore[attr-defined]  # the size of a batch is no setting
    committer.most_entries = most_entries
    await store.open()
    try:
        return await measure(store)
    finally:
        await store.close()


def main() -> None:
    names = sys.argv[1:] or ["sqlite", "postgresql"]
    print(f"{_SESSIONS} sessions, each commits one step after another\n")
    print(f"{'database':12} {'commit':22} {'steps/s':>9} {'median ms':>10} {'p99 ms':>8} {'loop µs/step':>13}")
    for name in names:
        for kind, most_entries in (("one by one", 1), ("group", 1024)):
            with databases([name]) as urls:
                figures = uvloop.run(_run(urls[name], most_entries))
            times = f"{figures.median_ms:10.2f} {figures.p99_ms:8.2f} {figures.loop_us:13.1f}"
            print(f"{name:12} {kind:22} {figures.per_s:9,.0f} {times}")


if __name__ == "__main__":
    main()
