"""Small machines for tests of sessions and routes."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

from app.engine import ApplicationBuilder, Condition, State, action, expr, streaming_action, when
from app.engine.machine import Machine

__all__ = ["Gate", "counter", "failing", "gated", "greeter", "mixed", "streamer", "turns"]


class Gate:
    """Something that an action waits at until a test opens it, from any thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._lock = threading.Lock()
        self._is_open = False
        self.reached = threading.Event()

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._is_open:
                return
            self._waiting.append((loop, future))
            self.reached.set()
        await future

    def open(self) -> None:
        with self._lock:
            self._is_open = True
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            loop.call_soon_threadsafe(lambda future=future: future.done() or future.set_result(None))

    async def until_reached(self) -> None:
        """Return when an action waits here."""
        assert await asyncio.to_thread(self.reached.wait, 60.0), "no action came to the gate"


def counter(name: str = "counter", limit: int = 10**9) -> Machine:
    """Counts up by one, for ever or to `limit`: `count`, then `count` again."""

    @action(reads=["n"], writes=["n"], tags=["counting"])
    async def count(state: State, by: int = 1) -> tuple[dict[str, Any], State]:
        return {"n": state["n"] + by}, state.increment(n=by)

    return Machine(
        name,
        lambda: (
            ApplicationBuilder()
            .with_actions(count)
            .with_transitions(("count", "count", expr(f"n < {limit}")))
            .with_state(n=0)
            .with_entrypoint("count")
        ),
        "Counts.",
    )


def mixed() -> Machine:
    """An async action and a sync one, in turns."""

    @action(reads=["n"], writes=["n"])
    async def first(state: State) -> State:
        return state.increment(n=1)

    @action(reads=["n"], writes=["n"])
    def second(state: State) -> State:
        return state.increment(n=10)

    return Machine(
        "mixed",
        lambda: (
            ApplicationBuilder()
            .with_actions(first, second)
            .with_transitions(("first", "second"), ("second", "first"))
            .with_state(n=0)
            .with_entrypoint("first")
        ),
    )


def gated(gate: Gate, name: str = "gated") -> Machine:
    """`prepare`, then `hold`, which waits at the gate, then `prepare` again."""

    @action(reads=[], writes=["prepared"])
    async def prepare(state: State) -> State:
        return state.update(prepared=True)

    @action(reads=[], writes=["held"])
    async def hold(state: State) -> State:
        await gate.wait()
        return state.increment(held=1)

    return Machine(
        name,
        lambda: (
            ApplicationBuilder()
            .with_actions(prepare, hold)
            .with_transitions(("prepare", "hold"), ("hold", "prepare"))
            .with_state(held=0)
            .with_entrypoint("prepare")
        ),
    )


def streamer(items: int = 3, *gates: Gate) -> Machine:
    """`tell` gives `items` items and then its result; it waits at the first gate after the first item, and so on."""

    @streaming_action(reads=["told"], writes=["told"])
    async def tell(state: State) -> AsyncGenerator[tuple[dict[str, Any], State | None], None]:
        for number in range(items):
            yield {"number": number}, None
            if number < len(gates):
                await gates[number].wait()
        yield {"items": items}, state.increment(told=1)

    return Machine(
        "streamer",
        lambda: (
            ApplicationBuilder().with_actions(tell).with_transitions(("tell", "tell")).with_state(told=0).with_entrypoint("tell")
        ),
    )


def failing() -> Machine:
    """`work` raises as long as the state says so; `secret` must never show."""

    @action(reads=["broken", "secret"], writes=["done"])
    async def work(state: State) -> State:
        if state["broken"]:
            raise ValueError("the wheel is broken")
        return state.update(done=True)

    @action(reads=[], writes=["begun"])
    async def begin(state: State) -> State:
        return state.update(begun=True)

    return Machine(
        "failing",
        lambda: (
            ApplicationBuilder()
            .with_actions(begin, work)
            .with_transitions(("begin", "work"))
            .with_state(broken=True, secret="s3cr3t-value")
            .with_entrypoint("begin")
        ),
    )


def greeter() -> Machine:
    """`ask` needs an input, `reply` none; the end comes with the name `bye`."""

    @action(reads=[], writes=["name"])
    async def ask(state: State, name: str, title: str = "") -> State:
        return state.update(name=f"{title}{name}")

    @action(reads=["name"], writes=["greeting"])
    async def reply(state: State) -> tuple[dict[str, Any], State]:
        greeting = f"hello {state['name']}"
        return {"greeting": greeting}, state.update(greeting=greeting)

    return Machine(
        "greeter",
        lambda: (
            ApplicationBuilder()
            .with_actions(ask, reply)
            .with_transitions(("ask", "reply"), ("reply", "ask", ~when(name="bye")))
            .with_entrypoint("ask")
        ),
    )


def turns(name: str = "turns", pause_s: float = 0.0) -> Machine:
    """Three actions in a circle, each of which sleeps for a moment and leaves a word."""

    def leaving(word: str) -> Any:
        @action(reads=[], writes=["words"])
        async def leave(state: State) -> State:
            await asyncio.sleep(pause_s)
            return state.append(words=word)

        return leave

    return Machine(
        name,
        lambda: (
            ApplicationBuilder()
            .with_actions(a=leaving("a"), b=leaving("b"), c=leaving("c"))
            .with_transitions(("a", "b"), ("b", "c"), ("c", "a", Condition.default))
            .with_state(words=[])
            .with_entrypoint("a")
        ),
    )
