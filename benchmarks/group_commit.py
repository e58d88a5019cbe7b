"""Steps per second of many sessions in one process: group commit against a transaction for each step.

    python -m benchmarks group_commit

Once in the store alone, where every commit holds the start of a run, its step and its end, as a request for one step makes it;
and once as the service hosts them, without HTTP: a session takes its next step when the last one is durable.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop

from app.collector import seldom_collecting
from app.engine.operations import Append, Increment, Operation, Set
from app.persistence.factory import open_store
from app.persistence.group_commit import Committer
from app.persistence.records import NewSession
from app.persistence.store import Store
from app.sessions.host import SessionHost
from app.sessions.host_settings import HostSettings
from app.sessions.loading import load_machines
from app.sessions.requests import NewSessionRequest
from benchmarks.commits import one_step_run, session_id
from benchmarks.measuring import percentile
from benchmarks.processes import databases
from benchmarks.tables import Bar, show, show_bars

__all__ = ["Figures", "measure"]

_CROWDS = (64, 1_000)
_SECONDS = 3.0
_FACTOR = 10.0  # group commit against a transaction for each step, at least


@dataclass(frozen=True, slots=True)
class Figures:
    """Steps per second, how long one took in the middle of all and near the slowest, and the CPU time of the process for each."""

    per_s: float
    median_ms: float
    p99_ms: float
    cpu_us: float


async def measure(store: Store, sessions: int, *, seconds: float = _SECONDS) -> Figures:
    """Let so many sessions commit step after step, in the store alone."""
    new = [
        NewSession(session_id(number), "counter", "1", {"n": 0, "log": []}, "count", created_at_s=time.time(), event_id=1)
        for number in range(sessions)
    ]
    await asyncio.gather(*map(store.create_session, new))
    state = {"n": 0, "log": [], "who": "x"}

    async def commit(number: int, seq: int) -> None:
        await store.commit(one_step_run(number, seq, _operations(number, seq), state))

    return await _repeated(commit, sessions, seconds)


async def measure_hosted(store: Store, sessions: int, *, seconds: float = _SECONDS) -> Figures:
    """Let so many sessions of a host take step after step. The host opens the store, and closes it."""
    async with SessionHost(load_machines(["benchmarks.machines:counting"]), store, HostSettings(shutdown_grace_s=0)) as host:
        loaded = await asyncio.gather(*(host.create(NewSessionRequest("counting")) for _ in range(sessions)))
        ids = [each.record.id for each in loaded]

        async def step(number: int, _seq: int) -> None:
            await host.step(ids[number], {})

        return await _repeated(step, sessions, seconds)


async def _repeated(take: Callable[[int, int], Awaitable[None]], sessions: int, seconds: float) -> Figures:
    latencies: list[float] = []

    async def client(number: int) -> None:
        seq = 0
        while (began := time.perf_counter()) < until:
            await take(number, seq)
            latencies.append(time.perf_counter() - began)
            seq += 1

    began, cpu = time.perf_counter(), time.process_time()
    until = began + seconds
    await asyncio.gather(*map(client, range(sessions)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Figures(
        len(latencies) / took, 1e3 * percentile(latencies, 0.5), 1e3 * percentile(latencies, 0.99), 1e6 * cpu / len(latencies)
    )


def _operations(number: int, seq: int) -> tuple[Operation, ...]:
    more = (Set("who", f"client {number}"), Append("log", f"turn {seq}")) if seq % 8 == 0 else ()
    return (Increment("n", 1), *more)


async def _run(url: str, sessions: int, most_entries: int, *, is_hosted: bool) -> Figures:
    store = open_store(url, migrate=True)
    committer: Committer = store._committer  # type: ignore[attr-defined]  # the size of a batch is no setting
    committer.most_entries = most_entries
    with seldom_collecting():  # as the service does
        if is_hosted:
            return await measure_hosted(store, sessions)
        await store.open()
        try:
            return await measure(store, sessions)
        finally:
            await store.close()


def main() -> None:
    rows, bars = [], []
    for name in ("SQLite", "PostgreSQL"):
        for what, sessions, is_hosted in (*(("store alone", each, False) for each in _CROWDS), ("hosted", 1_000, True)):
            rates = []
            for kind, most_entries in (("one by one", 1), ("group commit", 1024)):
                with databases([name.lower()]) as urls:
                    figures = uvloop.run(_run(urls[name.lower()], sessions, most_entries, is_hosted=is_hosted))
                times = (f"{figures.median_ms:.1f}", f"{figures.p99_ms:.1f}", f"{figures.cpu_us:.0f}")
                rows.append([f"{name}: {sessions:,} sessions, {what}, {kind}", f"{figures.per_s:,.0f}", *times])
                rates.append(figures.per_s)
            factor = rates[1] / rates[0]
            if sessions > _CROWDS[0] and not is_hosted:
                bar = f">= {_FACTOR:.0f}x"
                bars.append(Bar(f"{name}: {sessions:,} sessions, {what}", f"{factor:.1f}x", bar, factor >= _FACTOR))
    show(
        f"Sessions in one process, each takes one step after another for {_SECONDS:g} s",
        ["", "steps/s", "p50 ms", "p99 ms", "CPU µs each"],
        rows,
    )
    show_bars(bars)


if __name__ == "__main__":
    main()
