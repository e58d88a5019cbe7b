"""Keep a number of clients busy against a server, from a process of its own, and count what they get.

`python -m benchmarks.load` reads one Load as JSON from its standard input and prints one Outcome.
"""

import asyncio
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import uvloop

from benchmarks.measuring import percentile
from benchmarks.wire import Answer, Wire, connect, request_bytes

__all__ = ["Load", "Outcome", "apply_load"]

_WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True)
class Load:
    """One client per path, each sending its next request when it has the last answer, for `seconds`."""

    host: str
    port: int
    method: str
    paths: list[str]
    body: Any
    headers: dict[str, str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the clients saw.

    `answers` counts all of them, the warm-up's too. `refused` counts those that were no 2xx; `first_refusal` is the body of one.
    """

    answers: int
    per_second: float
    p50_ms: float
    p99_ms: float
    refused: int
    first_refusal: str


def apply_load(load: Load) -> Outcome:
    """Run `load` in another process. Raises RuntimeError if a request was refused: a rate of errors is no rate."""
    command = [sys.executable, "-m", "benchmarks.load"]
    done = subprocess.run(command, input=orjson.dumps(asdict(load)), stdout=subprocess.PIPE, check=True)
    outcome = Outcome(**orjson.loads(done.stdout))
    if outcome.refused:
        raise RuntimeError(f"{outcome.refused} requests were refused, one with: {outcome.first_refusal}")
    return outcome


class _Client:
    """Sends one request again and again and notes how long each took."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._sent_at = 0.0
        self._wire: Wire | None = None
        self.finished_at: list[float] = []
        self.took: list[float] = []
        self.refusals: list[bytes] = []
        self._is_stopping = False
        self._stopped = asyncio.Event()

    async def start(self, host: str, port: int) -> None:
        self._wire = await connect(host, port, self._answered, self._lost)
        self._send()

    async def stop(self) -> None:
        """Return when the last answer is there: a session that is left in the middle of a step would refuse the next client."""
        self._is_stopping = True
        await self._stopped.wait()
        assert self._wire is not None
        self._wire.close()

    def _send(self) -> None:
        assert self._wire is not None
        self._sent_at = time.perf_counter()
        self._wire.send(self._request)

    def _answered(self, answer: Answer) -> None:
        now = time.perf_counter()
        self.finished_at.append(now)
        self.took.append(now - self._sent_at)
        if not 200 <= answer[0] < 300:
            self.refusals.append(answer[1])
        if self._is_stopping:
            self._stopped.set()
        else:
            self._send()

    def _lost(self) -> None:
        if not self._stopped.is_set():
            self.refusals.append(b"the server closed the connection")
            self._stopped.set()


async def _carry_out(load: Load) -> Outcome:
    clients = [_Client(request_bytes(load.method, path, load.body, load.headers)) for path in load.paths]
    await asyncio.gather(*(client.start(load.host, load.port) for client in clients))
    await asyncio.sleep(_WARM_UP_S)
    began = time.perf_counter()
    await asyncio.sleep(load.seconds)
    ended = time.perf_counter()
    await asyncio.gather(*(client.stop() for client in clients))
    took_ms = [
        took * 1e3
        for client in clients
        for at, took in zip(client.finished_at, client.took, strict=True)
        if began <= at < ended
    ]  # fmt: skip
    slow_ms = took_ms or [load.seconds * 1e3]  # none came: each took that long at the least
    refusals = [body for client in clients for body in client.refusals]
    return Outcome(
        answers=sum(len(client.took) for client in clients),
        per_second=len(took_ms) / (ended - began),
        p50_ms=percentile(slow_ms, 0.5),
        p99_ms=percentile(slow_ms, 0.99),
        refused=len(refusals),
        first_refusal=refusals[0].decode(errors="replace")[:300] if refusals else "",
    )


if __name__ == "__main__":
    outcome = uvloop.run(_carry_out(Load(**orjson.loads(sys.stdin.buffer.read()))))
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)))
