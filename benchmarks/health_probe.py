"""Asking for /healthz on a schedule, and how late the answers are.

The next probe does not wait for the answer to the last: one that did would meet each pause of the server once, however long
it was.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import uvloop

from benchmarks.measuring import percentile
from benchmarks.wire import Answer, Wire, connect, request_bytes

__all__ = ["EVERY_S", "Latency", "probe"]

EVERY_S = 0.02
LINES = 128

_REQUEST = request_bytes("GET", "/healthz")


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from due to answered."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    probes: int

    @classmethod
    def of(cls, took_s: Sequence[float]) -> "Latency":
        ms = [took * 1e3 for took in took_s]
        return cls(percentile(ms, 0.5), percentile(ms, 0.99), max(ms), len(ms))


class _Line:
    """One connection with at most one question open."""

    def __init__(self) -> None:
        self._wire: Wire | None = None
        self._answer: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> "_Line":
        line = cls()
        line._wire = await connect(host, port, line._answered, line._lost)
        return line

    async def ask(self) -> Answer:
        assert self._wire is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._wire.send(_REQUEST)
        return await self._answer

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def _answered(self, answer: Answer) -> None:
        assert self._answer is not None
        self._answer.set_result(answer)

    def _lost(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))


class Prober:
    """Connections that are open before the load begins: a server that blocks accepts new ones too slowly to be probed."""

    def __init__(self, lines: Sequence[_Line]) -> None:
        self._idle: asyncio.Queue[_Line] = asyncio.Queue()
        for line in lines:
            self._idle.put_nowait(line)

    @classmethod
    async def open(cls, host: str, port: int) -> "Prober":
        return cls([await _Line.open(host, port) for _ in range(LINES)])

    async def probe(self, seconds: float) -> Latency:
        """Ask every `EVERY_S` for `seconds`; return how long the answers took."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as asking:
            asked = []
            for tick in range(round(seconds / EVERY_S)):
                due = began + tick * EVERY_S
                await asyncio.sleep(due - time.perf_counter())
                asked.append(asking.create_task(self._ask(time.perf_counter())))
        return Latency.of([task.result() for task in asked])

    async def _ask(self, due: float) -> float:
        line = await self._idle.get()
        status, _ = await line.ask()
        if status != 200:
            raise RuntimeError(f"/healthz answered {status}")
        self._idle.put_nowait(line)
        return time.perf_counter() - due

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait().close()


def probe(host: str, port: int, seconds: float, load: Callable[[], AbstractContextManager[None]]) -> Latency:
    """Probe for `seconds` while `load` is on, from a loop of its own."""

    async def measure() -> Latency:
        prober = await Prober.open(host, port)
        try:
            await prober.probe(0.5)
            with load():
                return await prober.probe(seconds)
        finally:
            prober.close()

    return uvloop.run(measure())
