"""What a live session costs in memory while its action waits on I/O, and what an application costs that only exists.

Measured with `tracemalloc` (what Python has allocated) and as growth of the process (what the system has given), each in
a process of its own that does nothing else.
"""

import asyncio
import gc
import logging
import multiprocessing
import resource
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engine_step import Engine, async_machine, burr, stepwell
from benchmarks.tables import Bar, show, show_bars

LIVE = 10_000
IDLE = 2_000
AT_ONCE = 200
PAGE = resource.getpagesize()


def live_sessions(folder: str, *, is_traced: bool) -> float:
    """Return bytes per session, of `LIVE` whose runs all wait inside an action."""
    from app.engine.machine import machine
    from app.persistence.factory import open_store
    from app.sessions.host import SessionHost
    from app.sessions.host_settings import HostSettings
    from app.sessions.requests import NewSessionRequest, RunRequest
    from benchmarks.machines import waiting

    async def begin(host: SessionHost) -> None:
        session = await host.create(NewSessionRequest(machine="waiting"))
        run = await host.start(session.record.id, RunRequest(inputs={"seconds": 3600.0}, max_steps=1))
        await run.begun()

    # ten thousand runs that end at once hold the loop: right to be told, but not here
    warnings.simplefilter("ignore")
    logging.disable()

    async def measure() -> float:
        settings = HostSettings(max_live_sessions=LIVE * 2, shutdown_grace_s=0)
        async with SessionHost([machine(waiting)], open_store(f"sqlite:///{folder}/traced-{is_traced}.db"), settings) as host:
            await asyncio.gather(*(begin(host) for _ in range(AT_ONCE)))
            gauge = _Gauge(is_traced=is_traced)
            for _ in range(LIVE // AT_ONCE):
                await asyncio.gather(*(begin(host) for _ in range(AT_ONCE)))
            return gauge.growth() / LIVE

    return asyncio.run(measure())


def idle_applications(engine: Callable[[], Engine], *, is_traced: bool) -> float:
    """Return bytes per application of the counting machine with ten keys of state, before its first step."""
    names = engine()
    builder = async_machine(names, {f"key_{index}": index for index in range(9)}, steps=1)
    if names.name == "Stepwell":
        blueprint = builder.blueprint()

        def make(index: int) -> Any:
            return blueprint.instantiate(app_id=str(index))

    else:

        def make(index: int) -> Any:
            return async_machine(names, {f"key_{key}": key for key in range(9)}, steps=1).with_identifiers(str(index)).build()

    kept = [make(index) for index in range(10)]
    gauge = _Gauge(is_traced=is_traced)
    kept += [make(index) for index in range(IDLE)]
    return gauge.growth() / IDLE


class _Gauge:
    """How much memory there is more than when it was made."""

    def __init__(self, *, is_traced: bool) -> None:
        self._is_traced = is_traced
        gc.collect()
        if is_traced:
            tracemalloc.start()
        self._before = self._now()

    def growth(self) -> int:
        gc.collect()
        return self._now() - self._before

    def _now(self) -> int:
        return tracemalloc.get_traced_memory()[0] if self._is_traced else _resident_bytes()


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except OSError:  # not Linux: the peak has to do
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _apart(measure: Callable[..., float], *arguments: Any) -> tuple[float, float]:
    """Return the figures with and without tracing, each from a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        traced = pool.apply(measure, arguments, {"is_traced": True})
        resident = pool.apply(measure, arguments, {"is_traced": False})
    return traced, resident


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-") as folder:
        live = _apart(live_sessions, folder)
    ours, theirs = _apart(idle_applications, stepwell), _apart(idle_applications, burr)
    show(
        "Memory",
        ["each", "allocated KB", "process growth KB"],
        [
            [f"Stepwell: one of {LIVE:,} sessions in an action that waits", f"{live[0] / 1024:.1f}", f"{live[1] / 1024:.1f}"],
            ["Stepwell: one idle application", f"{ours[0] / 1024:.2f}", f"{ours[1] / 1024:.2f}"],
            ["apache-burr: one idle application", f"{theirs[0] / 1024:.2f}", f"{theirs[1] / 1024:.2f}"],
        ],
    )
    show_bars(
        [
            Bar("a session that waits on I/O", f"{live[1] / 1024:.1f} KB", "< 20 KB", live[1] < 20 * 1024),
            Bar("an idle application", f"{ours[0] / 1024:.2f} KB", "< 4 KB", ours[0] < 4 * 1024),
        ]
    )
