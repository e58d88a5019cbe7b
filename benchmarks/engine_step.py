"""What one step of the engine costs beside apache-burr's and beside a loop written by hand, sync and async.

The machine counts to N: one action that reads and writes one key, one transition back to itself, one that ends the run.
It is run in one call, or by a call of `step` or `astep` for each step. Nothing is stored, and nothing waits: CPU time is what it
takes, and other work of the computer leaves that alone. The hand-written loop does what a step cannot do without: a new state,
a condition, the action's call.
"""

import asyncio
import importlib
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.measuring import alternate
from benchmarks.tables import Bar, show, show_bars

STEPS = 500
ROUNDS = 21


@dataclass(frozen=True)
class Engine:
    """The names that an application needs, from one of the two packages that offer them."""

    name: str
    State: Any
    action: Any
    ApplicationBuilder: Any
    when: Any
    expr: Any
    PostRunStepHook: Any
    PostRunStepHookAsync: Any


def stepwell() -> Engine:
    core = importlib.import_module("app.engine")
    return _engine("Stepwell", core, core)


def burr() -> Engine:
    return _engine("apache-burr", importlib.import_module("burr.core"), importlib.import_module("burr.lifecycle"))


def _engine(name: str, core: Any, lifecycle: Any) -> Engine:
    return Engine(
        name=name,
        State=core.State,
        action=core.action,
        ApplicationBuilder=core.ApplicationBuilder,
        when=core.when,
        expr=core.expr,
        PostRunStepHook=lifecycle.PostRunStepHook,
        PostRunStepHookAsync=lifecycle.PostRunStepHookAsync,
    )


def sync_machine(engine: Engine, state: Mapping[str, Any], steps: int, *, with_hook: bool = False, is_begun: bool = True) -> Any:
    """Return a builder of the counting machine with sync actions; `state` holds whatever else a session carries.

    Unless it `is_begun`, state and entrypoint are left to `initialize_from`.
    """

    @engine.action(reads=["count"], writes=["count"])
    def count(state: Any) -> Any:
        return state.update(count=state["count"] + 1)

    class Hook(engine.PostRunStepHook):  # type: ignore[misc, name-defined]  # the base comes from either package
        def post_run_step(self, **_: Any) -> None:
            pass

    return _machine(engine, count, state, steps, Hook() if with_hook else None, is_begun=is_begun)


def async_machine(engine: Engine, state: Mapping[str, Any], steps: int, *, with_hook: bool = False) -> Any:
    """Return a builder of the same machine with an async action."""

    @engine.action(reads=["count"], writes=["count"])
    async def count(state: Any) -> Any:
        return state.update(count=state["count"] + 1)

    class Hook(engine.PostRunStepHookAsync):  # type: ignore[misc, name-defined]  # the base comes from either package
        async def post_run_step(self, **_: Any) -> None:
            pass

    return _machine(engine, count, state, steps, Hook() if with_hook else None)


def _machine(engine: Engine, count: Any, state: Mapping[str, Any], steps: int, hook: Any, *, is_begun: bool = True) -> Any:
    @engine.action(reads=["count"], writes=["done"])
    def finish(state: Any) -> Any:
        return state.update(done=True)

    builder = (
        engine.ApplicationBuilder()
        .with_actions(count=count, finish=finish)
        .with_transitions(("count", "count", engine.expr(f"count < {steps}")), ("count", "finish"))
    )
    if is_begun:
        builder = builder.with_state(count=0, **state).with_entrypoint("count")
    return builder.with_hooks(hook) if hook is not None else builder


def time_sync(engine: Engine, *, keys: int = 0, with_hook: bool = False, in_one_call: bool = True) -> float:
    """Return microseconds per sync step."""
    builder = sync_machine(engine, _ballast(keys), STEPS, with_hook=with_hook)
    application = builder.build()
    began = time.process_time()
    if in_one_call:
        application.run(halt_before=["finish"])
    else:
        for _ in range(STEPS):
            application.step()
    return _per_step(began)


def time_async(engine: Engine, *, keys: int = 0, with_hook: bool = False, in_one_call: bool = True) -> float:
    """Return microseconds per async step, the start of the event loop left out."""

    async def measure() -> float:
        builder = async_machine(engine, _ballast(keys), STEPS, with_hook=with_hook)
        application = await builder.abuild() if with_hook else builder.build()
        began = time.process_time()
        if in_one_call:
            await application.arun(halt_before=["finish"])
        else:
            for _ in range(STEPS):
                await application.astep()
        return _per_step(began)

    return asyncio.run(measure())


def time_sync_by_hand() -> float:
    """Return microseconds per turn of a plain loop over immutable states."""

    def count(state: Mapping[str, Any]) -> dict[str, Any]:
        return {**state, "count": state["count"] + 1}

    conditions: list[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], dict[str, Any]]]]
    conditions = [(lambda state: bool(state["count"] < STEPS), count)]
    began = time.process_time()
    state: Mapping[str, Any] = count({"count": 0})
    while (following := next((action for holds, action in conditions if holds(state)), None)) is not None:
        state = following(state)
    return _per_step(began)


def time_async_by_hand() -> float:
    """Return microseconds per turn of the same loop over an async action."""

    async def count(state: Mapping[str, Any]) -> dict[str, Any]:
        return {**state, "count": state["count"] + 1}

    conditions: list[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]]
    conditions = [(lambda state: bool(state["count"] < STEPS), count)]

    async def measure() -> float:
        began = time.process_time()
        state: Mapping[str, Any] = await count({"count": 0})
        while (following := next((action for holds, action in conditions if holds(state)), None)) is not None:
            state = await following(state)
        return _per_step(began)

    return asyncio.run(measure())


def _ballast(keys: int) -> dict[str, Any]:
    return {f"key_{index}": index for index in range(keys)}


def _per_step(began: float) -> float:
    return (time.process_time() - began) / STEPS * 1e6


def main() -> None:
    cases: dict[str, dict[str, Callable[[], float]]] = {
        "sync": {**_both(time_sync), "hand": time_sync_by_hand},
        "async": {**_both(time_async), "hand": time_async_by_hand},
        "sync, one hook": _both(time_sync, with_hook=True),
        "async, one hook": _both(time_async, with_hook=True),
        "step() by step": _both(time_sync, in_one_call=False),
        "astep() by step": _both(time_async, in_one_call=False),
        "step() by step, one hook": _both(time_sync, with_hook=True, in_one_call=False),
        "astep() by step, one hook": _both(time_async, with_hook=True, in_one_call=False),
        "sync, 10 keys": _both(time_sync, keys=10),
        "sync, 200 keys": _both(time_sync, keys=200),
    }
    figures = {case: alternate(ROUNDS, subjects) for case, subjects in cases.items()}
    medians = {case: {name: statistics.median(values) for name, values in measured.items()} for case, measured in figures.items()}
    times = {case: _median_ratio(measured["burr"], measured["ours"]) for case, measured in figures.items()}
    show(
        f"Engine: CPU µs per step (median of {ROUNDS} turns of {STEPS} steps)",
        ["step", "Stepwell", "apache-burr", "by hand", "Burr / ours", "ours / by hand"],
        [_row(case, measured, times[case]) for case, measured in medians.items()],
    )
    growth = medians["sync, 200 keys"]["ours"] / medians["sync, 10 keys"]["ours"]
    slowest = min(times, key=lambda case: times[case])
    sync_us = max(medians["sync"]["ours"], medians["step() by step"]["ours"])
    async_us = max(medians["async"]["ours"], medians["astep() by step"]["ours"])
    show_bars(
        [
            Bar("sync step", f"{sync_us:.1f} µs", "< 8 µs", sync_us < 8),
            Bar("async step", f"{async_us:.1f} µs", "< 10 µs", async_us < 10),
            Bar(f"faster than Burr, every row (least: {slowest})", f"{times[slowest]:.1f}x", ">= 10x", times[slowest] >= 10),
            Bar("200 keys against 10", f"{growth:.2f}x", "<= 2x", growth <= 2),
        ]
    )


def _both(measure: Callable[..., float], **how: Any) -> dict[str, Callable[[], float]]:
    return {"ours": partial(measure, stepwell(), **how), "burr": partial(measure, burr(), **how)}


def _median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """Return the median over the turns: what slows the machine in one of them slows both."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def _row(case: str, figures: Mapping[str, float], times: float) -> list[str]:
    by_hand = figures.get("hand")
    return [
        case,
        f"{figures['ours']:.2f}",
        f"{figures['burr']:.1f}",
        f"{by_hand:.2f}" if by_hand else "",
        f"{times:.1f}x",
        f"{figures['ours'] / by_hand:.1f}x" if by_hand else "",
    ]
