"""What it costs to make an application, beside apache-burr: build it, and take one up again that was stored."""

import asyncio
import importlib
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engine_step import Engine, async_machine, burr, stepwell, sync_machine
from benchmarks.measuring import alternate
from benchmarks.tables import Bar, show, show_bars

ROUNDS = 5
BUILDS = 300
VISITS = 150
KEYS = {f"key_{index}": index for index in range(9)}


def time_build(engine: Engine) -> float:
    """Return microseconds per `build()`, the builder made anew each time as an application does it."""
    began = time.perf_counter()
    for _ in range(BUILDS):
        sync_machine(engine, KEYS, 1).build()
    return (time.perf_counter() - began) / BUILDS * 1e6


def time_abuild(engine: Engine) -> float:
    """Return microseconds per `abuild()`."""

    async def measure() -> float:
        began = time.perf_counter()
        for _ in range(BUILDS):
            await async_machine(engine, KEYS, 1).abuild()
        return (time.perf_counter() - began) / BUILDS * 1e6

    return asyncio.run(measure())


def time_visit(engine: Engine, persistence: str, folder: Path) -> float:
    """Return microseconds to load an application from an SQLite persister, step it once and store it, the build included."""
    persister = importlib.import_module(persistence).SQLitePersister.from_values(str(folder / f"{engine.name}-{uuid.uuid4()}.db"))
    persister.initialize()

    def visit() -> None:
        application: Any = (
            sync_machine(engine, {}, 1_000_000, is_begun=False)
            .with_identifiers(app_id="one", partition_key="benchmark")
            .initialize_from(
                persister, resume_at_next_action=True, default_state={"count": 0, **KEYS}, default_entrypoint="count"
            )
            .with_state_persister(persister)
            .build()
        )
        application.step()

    visit()
    began = time.perf_counter()
    for _ in range(VISITS):
        visit()
    took = time.perf_counter() - began
    persister.cleanup()
    return took / VISITS * 1e6


def main() -> None:
    ours, theirs = stepwell(), burr()
    with tempfile.TemporaryDirectory(prefix="stepwell-bench-") as name:
        folder = Path(name)
        cases: dict[str, dict[str, Callable[[], float]]] = {
            "build()": {"ours": lambda: time_build(ours), "burr": lambda: time_build(theirs)},
            "abuild()": {"ours": lambda: time_abuild(ours), "burr": lambda: time_abuild(theirs)},
            "load, step, store (SQLitePersister)": {
                "ours": lambda: time_visit(ours, "app.engine", folder),
                "burr": lambda: time_visit(theirs, "burr.core.persistence", folder),
            },
        }
        medians = {
            case: {who: statistics.median(figures) for who, figures in alternate(ROUNDS, subjects).items()}
            for case, subjects in cases.items()
        }
    show(
        f"Engine: µs per application, its actions and graph made anew each time (median of {ROUNDS}, in turns)",
        ["what", "Stepwell", "apache-burr", "Burr / ours"],
        [
            [case, f"{figures['ours']:.0f}", f"{figures['burr']:.0f}", f"{figures['burr'] / figures['ours']:.1f}x"]
            for case, figures in medians.items()
        ],
    )
    show_bars(
        Bar(case, f"{figures['burr'] / figures['ours']:.1f}x", ">= 1x", figures["burr"] >= figures["ours"])
        for case, figures in medians.items()
    )
