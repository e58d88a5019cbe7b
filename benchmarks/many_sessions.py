"""What a step and the lists cost beside a thousand stored sessions, and beside a million.

    python -m benchmarks.many_sessions [sqlite] [postgresql] [1000000]

The sessions are put into the tables in bulk, as the store would have: each with its snapshot and two labels. Pages hold ten
sessions. Both are measured in turns. The bar is on steps: at most 1.5 times as long.
"""

import asyncio
import random
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types of its own

from app.persistence.codec import encode_state, pack
from app.persistence.cursors import encode_cursor
from app.persistence.factory import open_store
from app.persistence.records import SessionFilter, SessionStatus
from app.persistence.store import Store
from app.persistence.urls import Sqlite, parse
from app.persistence.wave_rows import labels_of
from benchmarks.commits import one_step_run, session_id
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


def _metadata(number: int) -> dict[str, str]:
    return {"customer": f"c{number // 10}", "env": ("prod", "test")[number % 2]}


def _session(number: int) -> tuple[Any, ...]:
    machine, status, at = f"machine-{number % 20}", _STATUSES[0 if number % 25 else number // 25 % 3], _T0 + number
    where = (-1, None, "count") if status == "idle" else (-1, None, None)
    kept = pack(_metadata(number))
    return (number, session_id(number), machine, "1", f"p{number % 50}", kept, status, *where, at, at, 1, -1, -1, 0, 4096)


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


class _Beside:
    """What is measured beside `count` sessions."""

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self._count = count
        self._dice = random.Random(7)  # the same ones each time
        self._stepped: dict[int, int] = {}

    def calls(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        half = encode_cursor(self._count // 2)
        return {
            "step": self._step,
            "load": self._load,
            "list": self._page(),
            "list from the middle": self._page(half),
            "by machine": self._page(machine="machine-7"),
            "by status, many": self._page(status=SessionStatus.IDLE),
            "by status, few": self._page(status=SessionStatus.FAILED),
            "by status, running": self._page(status=SessionStatus.RUNNING),
            "by partition": self._page(partition_key="p12"),
            "by metadata, few": self._page(metadata={"customer": "c50"}),
            "by metadata, many, from the middle": self._page(half, metadata={"env": "prod"}),
            "by metadata, two": self._page(metadata={"env": "prod", "customer": "c50"}),
            "by machine and metadata": self._page(machine="machine-7", metadata={"env": "test"}),
            "by all of them": self._page(half, machine="machine-7", partition_key="p7", metadata={"env": "test"}),
            "in vain, as one is unknown": self._page(machine="nobody's", metadata={"env": "prod"}),
            "in vain, of two that are many": self._page(machine="machine-7", metadata={"env": "prod"}),
        }

    async def _step(self) -> None:
        number = self._dice.randrange(1, self._count + 1)
        seq = self._stepped[number] = self._stepped.get(number, -1) + 1
        await self._store.commit(one_step_run(number, seq))

    async def _load(self) -> None:
        await self._store.load_session(session_id(self._dice.randrange(1, self._count + 1)))

    def _page(self, cursor: str | None = None, **which: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: self._store.list_sessions(SessionFilter(**which), _PAGE, cursor)


async def _timed(calls: Sequence[Callable[[], Awaitable[Any]]], rounds: int) -> list[float]:
    """What the fastest tenth of so many of each took, in ms, in turns: what the machine does beside it adds to the others."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - began)
    return [1e3 * percentile(taken, 0.1) for taken in times]


async def _run(url: str, most: int) -> tuple[Mapping[str, list[float]], float]:
    """Figures beside few and beside many sessions, by what was done; and the seconds that it took to put the many in."""
    beside: list[_Beside] = []
    async with AsyncExitStack() as stack:
        for count, where in ((_FEW, url), (most, await _second_database(url))):
            store = open_store(where, migrate=True)
            await store.open()
            stack.push_async_callback(store.close)
            began = time.perf_counter()
            await _fill(where, range(1, count + 1))
            took_s = time.perf_counter() - began
            beside.append(_Beside(store, count))
        few, many = (each.calls() for each in beside)
        return {what: await _timed([few[what], many[what]], _STEPS if what == "step" else _ROUNDS) for what in few}, took_s


async def _second_database(url: str) -> str:
    match parse(url):
        case Sqlite() as database:
            return f"sqlite:///{database.path}-many"
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE DATABASE many")
    await connection.close()
    return url.replace("/postgres?", "/many?")


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdecimal()]
    most = numbers[0] if numbers else _MANY
    names = [argument for argument in sys.argv[1:] if not argument.isdecimal()] or ["sqlite", "postgresql"]
    bars = []
    for name in names:
        with databases([name]) as urls:
            figures, took_s = asyncio.run(_run(urls[name], most))
        rows = [(what, f"{few:.2f}", f"{many:.2f}", f"{many / few:.2f}") for what, (few, many) in figures.items()]
        show(f"{name}: {most:,} sessions, put in within {took_s:.0f} s", ("ms", f"{_FEW:,}", f"{most:,}", "ratio"), rows)
        ratio = figures["step"][1] / figures["step"][0]
        bars.append(Bar(f"a step beside {most:,} sessions on {name}", f"{ratio:.2f} times as long", "1.50", ratio <= 1.5))
    show_bars(bars)


if __name__ == "__main__":
    main()
