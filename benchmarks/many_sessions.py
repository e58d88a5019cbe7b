"""What a step and the lists cost beside a thousand stored sessions, and beside a million.

    python -m benchmarks.many_sessions [sqlite] [postgresql] [1000000]

The sessions are put into the tables in bulk, as the store would have: each with its snapshot and two labels. Pages hold ten
sessions. The bar is on steps: at most 1.5 times as long.
"""

import asyncio
import random
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types of its own

from app.engine.operations import Increment
from app.persistence.codec import encode_state, pack
from app.persistence.cursors import encode_cursor
from app.persistence.factory import open_store
from app.persistence.records import Commit, RunEnd, RunStart, RunStatus, SessionFilter, SessionStatus, StepCommit
from app.persistence.store import Store
from app.persistence.urls import Sqlite, parse
from app.persistence.wave_rows import labels_of
from benchmarks.measuring import percentile
from benchmarks.processes import databases
from benchmarks.tables import Bar, show, show_bars

__all__ = ["main"]

_FEW, _MANY = 1_000, 1_000_000
_ROUNDS = 40
_STEPS = 400
_PAGE = 10
_BATCH = 20_000
_T0 = 1_700_000_000.0
_STATUSES = ("idle", "ended", "failed")
_SESSION = (
    *("key", "id", "machine", "machine_version", "partition_key", "metadata", "status", "seq", "prior_action", "next_action"),
    *("created_at", "updated_at", "last_event_id", "base_seq", "snapshot_seq", "log_bytes", "snapshot_at"),
)


def _id(number: int) -> str:
    return f"01934f0e-7c1a-7000-8000-{number:012d}"


def _metadata(number: int) -> dict[str, str]:
    return {"customer": f"c{number // 10}", "env": ("prod", "test")[number % 2]}


def _session(number: int) -> tuple[Any, ...]:
    machine, status, at = f"machine-{number % 20}", _STATUSES[0 if number % 25 else number // 25 % 3], _T0 + number
    where = (-1, None, "count") if status == "idle" else (-1, None, None)
    kept = pack(_metadata(number))
    return (number, _id(number), machine, "1", f"p{number % 50}", kept, status, *where, at, at, 1, -1, -1, 0, 4096)


_STATE = encode_state({"n": 0, "log": []})


def _rows(numbers: Sequence[int]) -> Iterator[tuple[str, Sequence[str], list[tuple[Any, ...]]]]:
    yield "sessions", _SESSION, [_session(number) for number in numbers]
    yield "snapshots", ("session_key", "seq", "state"), [(number, -1, _STATE) for number in numbers]
    labels = [(label, number) for number in numbers for label in labels_of(_metadata(number))]
    yield "labels", ("label", "session_key"), labels


def _batches(numbers: range) -> Iterator[range]:
    return (numbers[at : at + _BATCH] for at in range(0, len(numbers), _BATCH))


def _fill_sqlite(path: str, numbers: range) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for batch in _batches(numbers):
            for table, names, rows in _rows(batch):
                places = ", ".join("?" * len(names))
                connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", rows)
            connection.commit()
        connection.execute("ANALYZE")
    connection.close()


async def _fill_postgres(url: str, numbers: range) -> None:
    connection = await asyncpg.connect(url)
    for batch in _batches(numbers):
        for table, names, rows in _rows(batch):
            await connection.copy_records_to_table(table, records=rows, columns=names)
    await connection.execute("SELECT setval(pg_get_serial_sequence('sessions', 'key'), (SELECT max(key) FROM sessions))")
    await connection.execute("VACUUM (ANALYZE) sessions, labels, snapshots")
    await connection.close()


async def _fill(url: str, numbers: range) -> None:
    match parse(url):
        case Sqlite() as database:
            await asyncio.to_thread(_fill_sqlite, str(database.path), numbers)
        case _:
            await _fill_postgres(url, numbers)


async def _timed(call: Callable[[], Awaitable[Any]], rounds: int = _ROUNDS) -> float:
    """What the fastest tenth of so many calls took, in ms: what the machine does beside it adds to the others."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return 1e3 * percentile(times, 0.1)


async def _measure(store: Store, count: int, first: int = 1) -> dict[str, float]:
    """Milliseconds by what was done beside `count` sessions, of which those from `first` on have not moved yet."""
    dice = random.Random(7)  # the same ones each time
    stepped: dict[int, int] = {}

    async def step() -> None:
        number = dice.randrange(first, count + 1)
        seq = stepped[number] = stepped.get(number, -1) + 1
        await store.commit(_commit(number, seq, time.time()))

    async def load() -> None:
        await store.load_session(_id(dice.randrange(1, count + 1)))

    def page(cursor: str | None = None, **which: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: store.list_sessions(SessionFilter(**which), _PAGE, cursor)

    half = encode_cursor(count // 2)
    return {
        "step": await _timed(step, _STEPS),
        "load": await _timed(load),
        "list": await _timed(page()),
        "list from the middle": await _timed(page(half)),
        "by machine": await _timed(page(machine="machine-7")),
        "by status, many": await _timed(page(status=SessionStatus.IDLE)),
        "by status, few": await _timed(page(status=SessionStatus.FAILED)),
        "by status, running": await _timed(page(status=SessionStatus.RUNNING)),
        "by partition": await _timed(page(partition_key="p12")),
        "by metadata, few": await _timed(page(metadata={"customer": "c50"})),
        "by metadata, many, from the middle": await _timed(page(half, metadata={"env": "prod"})),
        "by metadata, two": await _timed(page(metadata={"env": "prod", "customer": "c50"})),
        "by machine and metadata": await _timed(page(machine="machine-7", metadata={"env": "test"})),
    }


def _commit(number: int, seq: int, at: float) -> Commit:
    event = 10 * seq + 10
    run_id = f"01934f0e-{seq:08d}-7000-{number:012d}-{at}"
    made = StepCommit(seq, "count", (Increment("n", 1),), {"n": seq}, {"n": seq}, "count", at, at, event + 1, event + 2)
    return Commit(
        session_id=_id(number),
        status=SessionStatus.IDLE,
        last_event_id=event + 3,
        run_start=RunStart(run_id, event, at, {"max_steps": 1}),
        step=made,
        run_end=RunEnd(run_id, RunStatus.FINISHED, event + 3, at, 1, "max_steps"),
        run_id=run_id,
    )


async def _run(url: str, most: int) -> tuple[dict[str, float], dict[str, float], float]:
    """Figures beside few and beside many sessions, and the seconds that it took to put them in."""
    store = open_store(url, migrate=True)
    await store.open()
    try:
        await _fill(url, range(1, _FEW + 1))
        few = await _measure(store, _FEW)
        began = time.perf_counter()
        await _fill(url, range(_FEW + 1, most + 1))
        took_s = time.perf_counter() - began
        return few, await _measure(store, most, first=_FEW + 1), took_s
    finally:
        await store.close()


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdecimal()]
    most = numbers[0] if numbers else _MANY
    names = [argument for argument in sys.argv[1:] if not argument.isdecimal()] or ["sqlite", "postgresql"]
    bars = []
    for name in names:
        with databases([name]) as urls:
            few, many, took_s = asyncio.run(_run(urls[name], most))
        rows = [(what, f"{few[what]:.2f}", f"{many[what]:.2f}", f"{many[what] / few[what]:.2f}") for what in few]
        show(f"{name}: {most:,} sessions, put in within {took_s:.0f} s", ("ms", f"{_FEW:,}", f"{most:,}", "ratio"), rows)
        ratio = many["step"] / few["step"]
        bars.append(Bar(f"a step beside {most:,} sessions on {name}", f"{ratio:.2f} times as long", "1.50", ratio <= 1.5))
    show_bars(bars)


if __name__ == "__main__":
    main()
