"""Machines whose one action fails on a rung of its own; the module is imported by workers too."""

from typing import Any

from app.engine import ApplicationBuilder, State, action, machine

__all__ = ["Unspeakable", "on_dask", "on_loop", "on_process", "on_thread"]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Untravelling(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def look_up(secret: str) -> Any:
    try:
        return {}["missing"]
    except KeyError as error:
        raise LookupError(f"no account for {secret}") from error


def fail(kind: str, secret: str) -> None:
    if kind == "plain":
        raise KeyError("missing")
    if kind == "unspeakable":
        raise Unspeakable
    if kind == "endless":
        wide: list[Any] = [1]
        for _ in range(40):
            wide = [wide, wide]
        raise ValueError(wide) from KeyError(wide)
    if kind == "untravelling":
        raise Untravelling("first", "second")
    try:
        look_up(secret)
    except LookupError:
        if kind == "hidden":
            raise ValueError("alone") from None
        raise ValueError("at last")  # noqa: B904 - this is what the context of an error is for


@action(reads=["secret"], writes=["secret"])
async def on_the_loop(state: State, kind: str) -> State:
    fail(kind, state["secret"])
    return state


@action(reads=["secret"], writes=["secret"])
def elsewhere(state: State, kind: str) -> State:
    fail(kind, state["secret"])
    return state


def builder(step: Any) -> ApplicationBuilder:
    made = ApplicationBuilder().with_actions(step=step).with_transitions(("step", "step"))
    return made.with_state(secret="hunter2-and-more").with_entrypoint("step")


@machine(name="on-loop")
def on_loop() -> ApplicationBuilder:
    return builder(on_the_loop)


@machine(name="on-thread", executor="thread")
def on_thread() -> ApplicationBuilder:
    return builder(elsewhere)


@machine(name="on-process", executor="process")
def on_process() -> ApplicationBuilder:
    return builder(elsewhere)


@machine(name="on-dask", executor="dask")
def on_dask() -> ApplicationBuilder:
    return builder(elsewhere)
