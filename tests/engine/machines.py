"""Small machines and hooks for tests of the engine."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from app.engine import (
    ApplicationBuilder,
    PostRunStepHook,
    PostRunStepHookAsync,
    PreRunStepHook,
    PreRunStepHookAsync,
    State,
    action,
    expr,
    streaming_action,
)

__all__ = ["AsyncNotes", "Boom", "Notes", "acount", "astream", "count", "counting", "fail", "stream"]


class Boom(Exception):
    """What failing actions raise."""


@action(reads=["n"], writes=["n"])
def count(state: State) -> tuple[dict[str, Any], State]:
    after = state.update(n=state["n"] + 1)
    return {"n": after["n"]}, after


@action(reads=["n"], writes=["n"])
async def acount(state: State) -> tuple[dict[str, Any], State]:
    after = state.update(n=state["n"] + 1)
    return {"n": after["n"]}, after


@streaming_action(reads=["n"], writes=["n"])
def stream(state: State) -> Iterator[Any]:
    for letter in "ab":
        yield {"letter": letter}
    yield {"letters": "ab"}, state.update(n=state["n"] + 1)


@streaming_action(reads=["n"], writes=["n"])
async def astream(state: State) -> AsyncIterator[Any]:
    for letter in "ab":
        yield {"letter": letter}
    yield {"letters": "ab"}, state.update(n=state["n"] + 1)


@action(reads=["n"], writes=["n"])
def fail(state: State) -> State:
    raise Boom("no")


def counting(of: Any = count, limit: int = 10**9) -> ApplicationBuilder[Any]:
    """One action, `count`, that counts `n` up from 0 to `limit`."""
    return (
        ApplicationBuilder()
        .with_actions(count=of)
        .with_transitions(("count", "count", expr(f"n < {limit}")))
        .with_state(n=0)
        .with_entrypoint("count")
        .with_identifiers(app_id="app", partition_key="part")
    )


class Notes(PreRunStepHook, PostRunStepHook):
    """Notes `n` before and after each step, in sync."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def pre_run_step(self, *, state: State, **_: Any) -> None:
        self.seen.append(("before", state["n"]))

    def post_run_step(self, *, state: State, **_: Any) -> None:
        self.seen.append(("after", state["n"]))


class AsyncNotes(PreRunStepHookAsync, PostRunStepHookAsync):
    """`Notes` in async."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    async def pre_run_step(self, *, state: State, **_: Any) -> None:
        self.seen.append(("before", state["n"]))

    async def post_run_step(self, *, state: State, **_: Any) -> None:
        self.seen.append(("after", state["n"]))
