"""What a turn of a long chat costs over HTTP, at its beginning and at its end, and what the chats take on disk."""

import asyncio
import http.client
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types of its own
import orjson

from app.persistence.factory import open_store
from app.persistence.urls import Sqlite, parse
from benchmarks.processes import Server, running

__all__ = ["Served", "measure"]

_MINIMAL = {"Prefer": "return=minimal"}
_OF_ALL_TABLES = """
    SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


@dataclass(frozen=True, slots=True)
class Served:
    """Seconds of a turn, with the state in the answer and without, and bytes: those of the database, and what was said."""

    early_s: float
    late_s: float
    early_with_state_s: float
    late_with_state_s: float
    stored: int
    said: int


def measure(
    database_url: str, machine: str, lengths: tuple[int, int], chats: int, turns: int, around: int, say: Callable[[int], str]
) -> Served:
    """Let chats of a machine get old; then take turns of theirs in turns with those of chats that have just begun.

    In a turn, the one length of characters is asked and the other answered. Turns 10 - `around` to 10 + `around` of the young
    ones are timed, and the last as many of the old ones.
    """
    asyncio.run(_make(database_url))
    empty = _bytes(database_url)
    with running("benchmarks.own_service", database_url) as server, closing(_Client(server, machine, lengths, say)) as client:
        old = [client.begin() for _ in range(chats)]
        for _ in range(turns - 2 * around):
            for chat in old:
                client.turn(chat)
        times: dict[tuple[str, bool], list[float]] = {(age, full): [] for age in ("early", "late") for full in (False, True)}
        young = [client.begin() for _ in range(2 * chats)]
        for chat in young:
            for _ in range(10 - around):
                client.turn(chat)
        for place in range(2 * around):
            for number, chat in enumerate(old):
                is_full = (place + number) % 2 == 0
                times["early", is_full].append(client.turn(young[number], is_full=is_full))
                times["late", is_full].append(client.turn(chat, is_full=is_full))
        said = client.said
    medians = {key: median(each) for key, each in times.items()}
    return Served(
        medians["early", False],
        medians["late", False],
        medians["early", True],
        medians["late", True],
        _bytes(database_url) - empty,
        said,
    )


class _Client:
    """One kept-alive connection. `said` counts the bytes that were said."""

    def __init__(self, server: Server, machine: str, lengths: tuple[int, int], say: Callable[[int], str]) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port)
        self._machine = machine
        self._lengths = lengths
        self._say = say
        self.said = 0

    def close(self) -> None:
        self._connection.close()

    def begin(self) -> str:
        return str(self._post("/v1/sessions", {"machine": self._machine})["id"])

    def turn(self, chat: str, *, is_full: bool = False) -> float:
        """Return how long it took, in seconds."""
        asked, answered = self._lengths
        inputs = {"prompt": self._say(asked), "reply": self._say(answered)}
        self.said += sum(map(len, inputs.values()))
        began = time.perf_counter()
        self._post(f"/v1/sessions/{chat}/steps", {"inputs": inputs}, {} if is_full else _MINIMAL)
        return time.perf_counter() - began

    def _post(self, path: str, body: Any, headers: dict[str, str] = {}) -> Any:  # noqa: B006  # only read
        self._connection.request("POST", path, orjson.dumps(body), {"Content-Type": "application/json", **headers})
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{path} was answered with {response.status}")
        return orjson.loads(content) if path == "/v1/sessions" else content


async def _make(url: str) -> None:
    store = open_store(url, migrate=True)
    await store.open()
    await store.close()


def _bytes(url: str) -> int:
    """Return what the database takes, with its indexes and everything."""
    match parse(url):
        case Sqlite() as database:
            with closing(sqlite3.connect(database.path)) as connection:
                connection.execute("VACUUM")
                size = connection.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
                return int(size.fetchone()[0])
    return asyncio.run(_bytes_of_postgres(url))


async def _bytes_of_postgres(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("VACUUM")
        return int(await connection.fetchval(_OF_ALL_TABLES))
    finally:
        await connection.close()
