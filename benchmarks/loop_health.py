"""Health checks and other sessions' steps beside sessions that do their worst: sleep, compute, block the loop.

The other sessions step an async action on SQLite. What is late is late from the moment at which it was due.
"""

import asyncio
import inspect
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks import loop_machines
from benchmarks.health_probe import Latency
from benchmarks.load import Load, apply_load
from benchmarks.processes import Server, running
from benchmarks.tables import Bar, show, show_bars
from benchmarks.wire import Answer, Wire, connect, request_bytes

SECONDS = 8.0
HEALTH_EVERY_S = 0.02
STEP_EVERY_S = 0.05
HEALTH_LINES = 96
STEP_LINES = 32
NAMED_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """`sessions` of `machine` that step without a pause, on a service with `settings`.

    `bar_ms` is what the p99 of health checks may be, `step_bar_ms` that of other sessions' steps.
    """

    label: str
    machine: str = ""
    sessions: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    bar_ms: float | None = None
    step_bar_ms: float | None = None
    settle_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Named:
    """Where the service found its loop held, and how soon after the step began; nowhere if it did not."""

    place: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a scene gave."""

    scene: Scene
    health: Latency
    steps: Latency
    per_second: float
    named: "Named | None" = None


SCENES = (
    Scene("nothing"),
    Scene("8 in time.sleep(0.2)", "sleeping", 8, bar_ms=5, step_bar_ms=20),
    Scene("64 in time.sleep(0.2)", "sleeping", 64, bar_ms=10, step_bar_ms=20),
    Scene("8 that fill the default executor", "filling", 8, bar_ms=10, step_bar_ms=20),
    Scene("8 computing, in threads", "computing_in_threads", 8, bar_ms=10, step_bar_ms=20),
    Scene("8 computing, auto", "computing_in_auto", 8, bar_ms=10, step_bar_ms=20, settle_s=12.0),
    Scene("8 computing, in processes", "computing_in_processes", 8, bar_ms=10, step_bar_ms=20),
    Scene("8 computing, on local Dask", "computing_on_dask", 8, {"dask": "local:2"}, bar_ms=25, settle_s=8.0),
    Scene("8 async that block", "blocking", 8),
    Scene("8 async that block, isolated", "blocking", 8, {"isolate_blocking": True}, bar_ms=10, step_bar_ms=20),
)
PEER_SCENES = (
    Scene("nothing"),
    Scene("8 in time.sleep(0.2)", "sleeping", 8),
    Scene("64 in time.sleep(0.2)", "sleeping", 64),
    Scene("8 computing", "computing", 8),
    Scene("8 async that block", "blocking", 8),
)


class Line:
    """One connection that asks one question, at most once at a time."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._wire: Wire | None = None
        self._answer: asyncio.Future[Answer] | None = None

    async def open(self, server: Server) -> None:
        self._wire = await connect(server.host, server.port, self._answered, self._lost)

    async def ask(self) -> None:
        assert self._wire is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._wire.send(self._request)
        status, body = await self._answer
        if status != 200:
            raise RuntimeError(f"answered {status}: {body.decode(errors='replace')[:200]}")

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def _answered(self, answer: Answer) -> None:
        assert self._answer is not None
        self._answer.set_result(answer)

    def _lost(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))


async def ask_on_time(lines: Sequence[Line], every_s: float, seconds: float) -> Latency:
    """Ask every `every_s`, whether the last answer is there or not, each time on a line that has nothing open."""
    idle: asyncio.Queue[Line] = asyncio.Queue()
    for line in lines:
        idle.put_nowait(line)

    async def ask(due_s: float) -> float:
        line = await idle.get()
        await line.ask()
        idle.put_nowait(line)
        return time.perf_counter() - due_s

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as asking:
        asked = []
        for tick in range(round(seconds / every_s)):
            await asyncio.sleep(began_s + tick * every_s - time.perf_counter())
            asked.append(asking.create_task(ask(time.perf_counter())))
    return Latency.of([task.result() for task in asked])


async def measure(
    server: Server, step_paths: Sequence[str], load_paths: list[str], settle_s: float
) -> tuple[Latency, Latency, float]:
    """Return the latency of health checks and of steps while the load is on, and the load's steps per second."""
    health = [Line(request_bytes("GET", "/healthz")) for _ in range(HEALTH_LINES)]
    steps = [Line(request_bytes("POST", path, {"inputs": {}})) for path in step_paths]
    for line in (*health, *steps):
        await line.open(server)
    await ask_on_time(steps, 0.005, 0.5)  # sessions are in memory, connections warm
    total_s = settle_s + SECONDS
    load = Load(server.host, server.port, "POST", load_paths, {"inputs": {}}, {}, total_s)
    loading = asyncio.create_task(asyncio.to_thread(apply_load, load)) if load_paths else None
    await asyncio.sleep(settle_s if loading else 0.5)
    async with asyncio.TaskGroup() as group:
        checked = group.create_task(ask_on_time(health, HEALTH_EVERY_S, SECONDS))
        stepped = group.create_task(ask_on_time(steps, STEP_EVERY_S, SECONDS))
    outcome = await loading if loading else None
    for line in (*health, *steps):
        line.close()
    return checked.result(), stepped.result(), outcome.per_second if outcome else 0.0


def create(server: Server, machine: str, count: int) -> list[str]:
    """Create sessions; return the path of each one's steps."""
    paths = []
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(count):
            answer = client.post("/v1/sessions", json={"machine": machine})
            answer.raise_for_status()
            paths.append(f"/v1/sessions/{answer.json()['id']}/steps")
    return paths


def play(scene: Scene, folder: Path) -> Finding:
    database = folder / f"{abs(hash(scene.label))}.db"
    with running("benchmarks.loop_service", json.dumps({"database_url": f"sqlite:///{database}", **scene.settings})) as server:
        others = create(server, "counting", STEP_LINES)
        load = create(server, scene.machine, scene.sessions) if scene.sessions else []
        named = name_the_blocker(server, load[0]) if scene.machine == "blocking" else None
        return Finding(scene, *uvloop.run(measure(server, others, load, scene.settle_s)), named)


def name_the_blocker(server: Server, path: str) -> Named:
    """Take one step that blocks the loop; return what the service says of it."""
    began_s = time.perf_counter()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.post(path, json={"inputs": {}}).raise_for_status()
        while time.perf_counter() - began_s < 5:
            for told in client.get("/v1/machines/blocking").json()["warnings"]:
                if told["kind"] == "loop_blocked":
                    place = f"{Path(told['details']['file']).name}:{told['details']['line']}"
                    return Named(place, time.perf_counter() - began_s)
    return Named("nowhere", time.perf_counter() - began_s)


def blocking_place() -> str:
    """Where `block` blocks, as its source says."""
    function = loop_machines.block.action_function.fn
    lines, first = inspect.getsourcelines(function)
    offset = next(index for index, line in enumerate(lines) if "time.sleep(" in line)
    return f"{Path(loop_machines.__file__).name}:{first + offset}"


def play_peer(scene: Scene) -> Finding:
    with running("benchmarks.loop_peer") as server:
        others = [f"/counting/{index}/steps" for index in range(STEP_LINES)]
        load = [f"/{scene.machine}/{index}/steps" for index in range(scene.sessions)]
        return Finding(scene, *uvloop.run(measure(server, others, load, scene.settle_s)))


def report(title: str, findings: Sequence[Finding]) -> None:
    show(
        title,
        ["beside", "health ms p50", "p99", "max", "others' step p50", "p99", "max", "its own/s"],
        [
            [
                found.scene.label,
                f"{found.health.p50_ms:.1f}",
                f"{found.health.p99_ms:.1f}",
                f"{found.health.max_ms:.0f}",
                f"{found.steps.p50_ms:.1f}",
                f"{found.steps.p99_ms:.1f}",
                f"{found.steps.max_ms:.0f}",
                f"{found.per_second:.1f}",
            ]
            for found in findings
        ],
    )
    show_bars(bar for found in findings for bar in bars(found))


def bars(found: Finding) -> Iterator[Bar]:
    limit_ms, named = found.scene.bar_ms, found.named
    if limit_ms is not None:
        p99_ms = found.health.p99_ms
        yield Bar(f"health p99 beside {found.scene.label}", f"{p99_ms:.1f} ms", f"<= {limit_ms:g} ms", p99_ms <= limit_ms)
    step_limit_ms = found.scene.step_bar_ms
    if step_limit_ms is not None:
        p99_ms = found.steps.p99_ms
        yield Bar(f"step p99 beside {found.scene.label}", f"{p99_ms:.1f} ms", f"<= {step_limit_ms:g} ms", p99_ms <= step_limit_ms)
    if named is not None:
        place, limit_s = blocking_place(), NAMED_WITHIN_S
        yield Bar(
            f"named: {found.scene.label}",
            f"{named.place} after {named.after_s:.2f} s",
            f"{place} in {limit_s:g} s",
            named.place == place and named.after_s <= limit_s,
        )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-", ignore_cleanup_errors=True) as folder:
        report("Stepwell", [play(scene, Path(folder)) for scene in SCENES])
    report("apache-burr behind FastAPI, in memory", [play_peer(scene) for scene in PEER_SCENES])


if __name__ == "__main__":
    main()
