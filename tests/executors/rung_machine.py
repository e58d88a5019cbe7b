"""A machine whose actions do what actions do, well and badly. Loaded by path in worker processes and on Dask's workers."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.engine.actions import Action
from app.engine.context import ApplicationContext
from app.engine.function_actions import action, create_action, streaming_action
from app.engine.state import State


class Refused(Exception):
    """An error of the user's own, with state of its own."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason, code)
        self.code = code


class Stubborn(Exception):
    """An error that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("will not travel")
        self.lock = threading.Lock()


@action(reads=["n"], writes=["n"])
def double(state: State[Any]) -> tuple[dict[str, Any], State[Any]]:
    return {"was": state["n"]}, state.update(n=state["n"] * 2)


@action(reads=[], writes=["log", "n"])
def note(state: State[Any], line: str) -> State[Any]:
    return state.append(log=line).increment(n=1)


@action(reads=[], writes=["pid"])
def whereabouts(state: State[Any]) -> State[Any]:
    return state.update(pid=os.getpid())


@action(reads=[], writes=[])
def tell_context(state: State[Any]) -> tuple[dict[str, Any], State[Any]]:
    context = ApplicationContext.get()
    assert context is not None
    return {"token": context.idempotency_token, "run_id": context.run_id, "action": context.action_name}, state


@action(reads=["lock"], writes=[])
def look_at_lock(state: State[Any]) -> tuple[dict[str, Any], State[Any]]:
    return {"is_lock": hasattr(state["lock"], "acquire")}, state


@action(reads=[], writes=["made"])
def make_lock(state: State[Any]) -> State[Any]:
    return state.update(made=threading.Lock())


@action(reads=[], writes=[])
def give_lock(state: State[Any]) -> tuple[dict[str, Any], State[Any]]:
    return {"fine": 1, "lock": threading.Lock()}, state


@action(reads=["n"], writes=[])
def refuse(state: State[Any]) -> State[Any]:
    raise Refused("no", state["n"])


@action(reads=[], writes=[])
def refuse_stubbornly(state: State[Any]) -> State[Any]:
    raise Stubborn


@action(reads=[], writes=[])
def quit_everything(state: State[Any]) -> State[Any]:
    sys.exit(3)


@action(reads=[], writes=[])
def crash(state: State[Any], entered: str = "") -> State[Any]:
    if entered:
        Path(entered).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return state


@action(reads=[], writes=["pid"])
def linger(state: State[Any], entered: str, leave: str) -> State[Any]:
    """Say in the file `entered` who is at it, and stay until the file `leave` is there."""
    Path(entered).with_suffix(".new").write_text(str(os.getpid()))
    Path(entered).with_suffix(".new").rename(entered)
    while not Path(leave).exists():
        time.sleep(0.005)
    return state.update(pid=os.getpid())


@action(reads=[], writes=["began_s"])
def tell_the_time(state: State[Any]) -> State[Any]:
    return state.update(began_s=time.monotonic())  # of the whole machine, not of this process


@action(reads=[], writes=["total"])
def compute(state: State[Any], cpu_s: float) -> State[Any]:
    end_s, total = time.thread_time() + cpu_s, 0
    while time.thread_time() < end_s:
        total += sum(range(100))
    return state.update(total=total)


@action(reads=["lock"], writes=["total"])
def compute_with_lock(state: State[Any], cpu_s: float) -> State[Any]:
    end_s = time.thread_time() + cpu_s
    while time.thread_time() < end_s:
        sum(range(100))
    return state.update(total=1)


@streaming_action(reads=[], writes=[])
def compute_in_steps(state: State[Any], cpu_s: float) -> Iterator[Any]:
    for index in range(2):
        end_s = time.thread_time() + cpu_s
        while time.thread_time() < end_s:
            sum(range(100))
        yield {"item": index}, None
    yield {}, state


@action(reads=[], writes=[])
async def block_the_loop(state: State[Any], over: threading.Event) -> State[Any]:
    over.wait(20)  # the mistake that the watchdog is there for
    return state


@streaming_action(reads=["n"], writes=["n"])
def count(state: State[Any], items: int) -> Iterator[Any]:
    for index in range(items):
        yield {"item": index}, None
    yield {"items": items}, state.update(n=state["n"] + items)


@streaming_action(reads=[], writes=[])
def break_off(state: State[Any]) -> Iterator[Any]:
    yield {"item": 0}, None
    raise Refused("broken off", 7)


@streaming_action(reads=[], writes=[])
def send_lock(state: State[Any]) -> Iterator[Any]:
    yield {"item": 0}, None
    yield {"lock": threading.Lock()}, None
    yield {}, state


@streaming_action(reads=[], writes=[])
def trickle(state: State[Any], entered: str, leave: str) -> Iterator[Any]:
    yield {"pid": os.getpid()}, None
    Path(entered).touch()
    while not Path(leave).exists():
        time.sleep(0.005)
    yield {}, state


ACTIONS: dict[str, Action] = {
    name: create_action(value, name) for name, value in list(globals().items()) if hasattr(value, "action_function")
}


@action(reads=[], writes=[], executor="process")
async def in_process(state: State[Any]) -> State[Any]:
    return state


def load(spec: str) -> Any:
    """What a loader of machines gives: something with a blueprint."""
    if spec != "rung":
        raise LookupError(f"no machine {spec!r}")
    return SimpleNamespace(blueprint=SimpleNamespace(graph=SimpleNamespace(actions=list(ACTIONS.values()))))
