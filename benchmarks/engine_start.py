"""What it costs to make an application, beside apache-burr: build it, and take one up again that was stored.

Built with its actions made anew, as when a program starts, and of actions that are there already, as with every request.
"""

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
    """Return CPU microseconds per `build()`, the builder made anew each time as an application does it."""
    began = time.process_time()
    for _ in range(BUILDS):
        sync_machine(engine, KEYS, 1).build()
    return (time.process_time() - began) / BUILDS * 1e6


def time_abuild(engine: Engine) -> float:
    """Return CPU microseconds per `abuild()`."""

    async def measure() -> float:
        began = time.process_time()
        for _ in range(BUILDS):
            await async_machine(engine, KEYS, 1).abuild()
        return (time.process_time() - began) / BUILDS * 1e6

    return asyncio.run(measure())


def time_build_again(engine: Engine) -> float:
    """Return CPU microseconds for a builder of one action that is there already, and its `build()`."""
    count = _one_action(engine)
    began = time.process_time()
    for _ in range(BUILDS):
        _of_one_action(engine, count).build()
    return (time.process_time() - began) / BUILDS * 1e6


def time_abuild_again(engine: Engine) -> float:
    """Return CPU microseconds for the same and its `abuild()`."""
    count = _one_action(engine)

    async def measure() -> float:
        began = time.process_time()
        for _ in range(BUILDS):
            await _of_one_action(engine, count).abuild()
        return (time.process_time() - began) / BUILDS * 1e6

    return asyncio.run(measure())


def _one_action(engine: Engine) -> Any:
    @engine.action(reads=["count"], writes=["count"])
    def count(state: Any) -> Any:
        return state.update(count=state["count"] + 1)

    return count


def _of_one_action(engine: Engine, count: Any) -> Any:
    return engine.ApplicationBuilder().with_actions(count=count).with_state(count=0, **KEYS).with_entrypoint("count")


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
            "build(), one action that is there": {
                "ours": lambda: time_build_again(ours),
                "burr": lambda: time_build_again(theirs),
            },
            "abuild(), one action that is there": {
                "ours": lambda: time_abuild_again(ours),
                "burr": lambda: time_abuild_again(theirs),
            },
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
        f"Engine: µs per application (median of {ROUNDS}, in turns)",
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
