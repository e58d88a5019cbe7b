"""Machines whose action does what a program says: it changes, aliases, nests and keeps what it reads and returns.

Loaded by path in worker processes and on Dask's workers. The programs are values, so that a test can play them on a model, too.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.engine import ApplicationBuilder, State, action, on_error, streaming_action
from app.engine.machine import Machine, MachineOptions

KEYS = ("a", "b")
KEPT: list[Any] = []
"""What earlier calls have had in their hands. The next call changes it, as a task in the background would."""


class Unwilling(Exception):
    """What a program raises."""


@dataclass
class Box:
    content: Any


def play(state: Any, program: list[list[Any]]) -> Iterator[Any]:
    """Yield the items of a program, and at its end a tuple of the result and the new state."""
    for kept in KEPT:
        spoil(kept)
    KEPT.clear()
    spoil(state["untouched"])
    values: list[Any] = []
    for number, (name, *arguments) in enumerate(program):
        at = [values[argument % len(values)] for argument in arguments if isinstance(argument, int)] if values else []
        match name, arguments:
            case "read", [str(key)]:
                values.append(state[key])
            case "new", [value]:
                values.append(value)
            case "write", [str(key), int()] if at:
                state = state.update(**{key: at[0]})
            case "append", [int()] if at:
                state = state.append(log=at[0])
            case "change", [int()] if at:
                spoil(at[0], number)
            case "descend", [int(), int(index)] if at:
                values.append(descend(at[0], index))
            case "put", [int(), int()] if at and not holds(at[1], at[0]):
                put(at[0], at[1], number)
            case "copy", [int()] if at and isinstance(at[0], list | dict):
                values.append([*at[0], number] if isinstance(at[0], list) else {**at[0], str(number): number})
            case "wrap", [int(), str(kind)] if at:
                values.append(wrap(at[0], kind))
            case "give", [int()] if at:
                yield {"item": at[0]}
            case "fail", []:
                KEPT.extend(values)
                raise Unwilling
    KEPT.extend(values)
    result = {"values": values[-3:]}
    yield result, state.update(turn=state["turn"] + 1)


def spoil(value: Any, mark: Any = "spoilt") -> None:
    """Change `value` in place, and what is right within it."""
    match value:
        case list() | deque():
            for item in list(value):
                if isinstance(item, list | dict | Box):
                    put(item, mark, mark)
            value.append(mark)
        case dict():
            for item in list(value.values()):
                if isinstance(item, list | dict | Box):
                    put(item, mark, mark)
            value[str(mark)] = mark
        case tuple():
            for item in value:
                put(item, mark, mark)
        case Box():
            value.content = [value.content, mark]
        case bytearray():
            value.append(1)


def put(container: Any, value: Any, mark: Any) -> None:
    match container:
        case list() | deque():
            container.append(value)
        case dict():
            container[str(mark)] = value
        case Box():
            container.content = value


def descend(value: Any, index: int) -> Any:
    match value:
        case [] | deque() | ():
            return value
        case list() | tuple():
            return value[index % len(value)]
        case dict() if value:
            return value[list(value)[index % len(value)]]
        case Box():
            return value.content
    return value


def holds(value: Any, target: Any) -> bool:
    """Whether `target` is somewhere within `value`: then `value` must not be put into it."""
    if value is target:
        return isinstance(value, list | dict | deque | Box)
    match value:
        case list() | tuple() | deque():
            return any(holds(item, target) for item in value)
        case dict():
            return any(holds(item, target) for item in value.values())
        case Box():
            return holds(value.content, target)
    return False


def wrap(value: Any, kind: str) -> Any:
    match kind:
        case "tuple":
            return (value, value)
        case "box":
            return Box(value)
        case "deque":
            return deque([value])
    return {"wrapped": [value]}


def _played(state: State) -> Any:
    *_, last = play(state, state["programs"][state["turn"]])
    return last


def _machine(name: str, executor: str | None, *, is_async: bool, is_streaming: bool) -> Machine:
    def act(state: State) -> Any:
        return _played(state)

    async def aact(state: State) -> Any:
        return _played(state)

    def speak(state: State) -> Iterator[Any]:
        for each in play(state, state["programs"][state["turn"]]):
            yield each if isinstance(each, tuple) else (each, None)

    async def aspeak(state: State) -> Any:
        for each in speak(state):
            yield each

    reads, writes = ["programs", "turn", "untouched", *KEYS], ["turn", "log", *KEYS]
    if is_streaming:
        acting: Any = streaming_action(reads=reads, writes=writes)(aspeak if is_async else speak)
    else:
        acting = action(reads=reads, writes=writes)(aact if is_async else act)

    def build() -> ApplicationBuilder[Any]:
        builder = ApplicationBuilder().with_actions(act=acting, mend=mend)
        builder = builder.with_transitions(("act", "mend", on_error(Unwilling)), ("act", "act"), ("mend", "act"))
        return builder.with_state(untouched=[["whole"]], turn=0, log=[]).with_entrypoint("act").with_validation("off")

    return Machine(name, build, options=MachineOptions(executor=executor), origin=f"{__file__}:{name}")


@action(reads=["turn", "untouched"], writes=["turn"])
async def mend(state: State) -> State:
    return state.update(turn=state["turn"] + 1)


loop = _machine("loop", None, is_async=True, is_streaming=False)
loop_stream = _machine("loop_stream", None, is_async=True, is_streaming=True)
thread = _machine("thread", "thread", is_async=False, is_streaming=False)
thread_stream = _machine("thread_stream", "thread", is_async=False, is_streaming=True)
process = _machine("process", "process", is_async=False, is_streaming=False)
process_stream = _machine("process_stream", "process", is_async=False, is_streaming=True)
dask = _machine("dask", "dask", is_async=False, is_streaming=False)
dask_stream = _machine("dask_stream", "dask", is_async=False, is_streaming=True)
