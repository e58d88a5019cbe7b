"""What a second replica adds: persisted one-step requests per second of one and of two over one PostgreSQL.

    python -m benchmarks replicas

64 clients, each with a session of its own, in two processes; with two replicas half of the sessions is at each. Clients, replicas
and database share one machine, so the CPU time of each is shown too: with as many free cores as there are replicas and databases
the rates would add up, and without them the CPU time for a step says how far they would.
"""

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Load, Outcome, apply_load
from benchmarks.processes import Server, cpu_s, postgres, running
from benchmarks.request_rate import BODY, create_sessions
from benchmarks.tables import Bar, show, show_bars

CLIENTS = 64
ROUNDS = 3
SECONDS = 2.0
_FACTOR = 1.6
_CORES = 5  # for two replicas, the database, and two processes of clients


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: steps per second, and CPU microseconds for a step of whoever takes part; `cores` is what all of them used."""

    per_second: float
    p99_ms: float
    replicas_us: float
    database_us: float
    clients_us: float
    cores: float


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-", ignore_cleanup_errors=True) as name, postgres(Path(name)) as url:
        turns = {count: _measured(url, count, Path(name)) for count in (1, 2)}
    show(
        f"Persisted one-step requests, replicas over one PostgreSQL, {CLIENTS} clients (median of {ROUNDS} times {SECONDS:g} s)",
        ["replicas", "per second", "p99 ms", "replica CPU µs", "database CPU µs", "client CPU µs", "cores used"],
        [_row(count, each) for count, each in turns.items()],
    )
    factor = _median(turns[2], "per_second") / _median(turns[1], "per_second")
    by_cpu = _median(turns[1], "replicas_us") / _median(turns[2], "replicas_us") * 2
    bar = f">= {_FACTOR}x"
    bars = [Bar("two replicas, each with a core of its own, by CPU time", f"{by_cpu:.2f}x one", bar, by_cpu >= _FACTOR)]
    if (os.cpu_count() or 1) >= _CORES:
        bars.append(Bar("two replicas", f"{factor:.2f}x one", bar, factor >= _FACTOR))
    show_bars(bars)


def _measured(database_url: str, replicas: int, folder: Path) -> Sequence[Turn]:
    with ExitStack() as stack:
        servers = [stack.enter_context(running("benchmarks.own_service", database_url)) for _ in range(replicas)]
        halves = [(servers[0], CLIENTS // 2), (servers[-1], CLIENTS // 2)]
        loads = [(server, _paths(create_sessions(server, "counting", count))) for server, count in halves]
        turns = [_turn(servers, loads, folder, SECONDS if number else SECONDS / 4) for number in range(ROUNDS + 1)]
    return turns[1:]


def _turn(servers: Sequence[Server], loads: Sequence[tuple[Server, list[str]]], folder: Path, seconds: float) -> Turn:
    def apply(load: tuple[Server, list[str]]) -> Outcome:
        server, paths = load
        return apply_load(Load(server.host, server.port, "POST", paths, BODY, {}, seconds))

    began_s = time.perf_counter()
    with _used(servers, folder) as used, ThreadPoolExecutor(len(loads)) as pool:
        outcomes = list(pool.map(apply, loads))
    took_s = time.perf_counter() - began_s
    answers = sum(outcome.answers for outcome in outcomes)
    of_replicas, of_database, of_clients = (used[who] / answers * 1e6 for who in ("replicas", "database", "clients"))
    rate, p99_ms = sum(outcome.per_second for outcome in outcomes), max(outcome.p99_ms for outcome in outcomes)
    return Turn(rate, p99_ms, of_replicas, of_database, of_clients, sum(used.values()) / took_s)


@contextmanager
def _used(servers: Sequence[Server], folder: Path) -> Iterator[dict[str, float]]:
    """What is filled at the end: the seconds of CPU that everybody has used meanwhile."""
    used: dict[str, float] = {}
    before = _clocks(servers, folder)
    yield used
    used.update({who: after - before[who] for who, after in _clocks(servers, folder).items()})


def _clocks(servers: Sequence[Server], folder: Path) -> Mapping[str, float]:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "replicas": sum(server.cpu_s() for server in servers),
        "database": cpu_s(*_processes_of(folder)),
        "clients": ended.ru_utime + ended.ru_stime,
    }


def _processes_of(folder: Path) -> list[int]:
    """Return the processes of the PostgreSQL server with its data in `folder`."""
    main = int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    children = [int(each.parent.name) for each in Path("/proc").glob("[0-9]*/stat") if _parent_of(each) == main]
    return [main, *children]


def _parent_of(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return None


def _paths(session_ids: Sequence[str]) -> list[str]:
    return [f"/v1/sessions/{session_id}/steps" for session_id in session_ids]


def _row(count: int, turns: Sequence[Turn]) -> list[str]:
    times = [f"{_median(turns, name):.0f}" for name in ("p99_ms", "replicas_us", "database_us", "clients_us")]
    return [str(count), f"{_median(turns, 'per_second'):,.0f}", *times, f"{_median(turns, 'cores'):.2f}"]


def _median(turns: Sequence[Turn], name: str) -> float:
    return statistics.median(getattr(turn, name) for turn in turns)


if __name__ == "__main__":
    main()
