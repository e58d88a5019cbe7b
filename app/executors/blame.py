"""Who holds the loop: reads the loop thread's stack and the running task's owner from outside. Judges; tells nobody."""

import asyncio
import contextvars
import gc
import linecache
import site
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, TypeAlias

import app
from app.executors.notices import Place
from app.executors.owner import CallOwner, current_owner

__all__ = ["Base", "Blame", "CodeOwner", "Spot", "Stack", "base_of_callback", "blame", "capture", "is_starved", "owner_of_task"]

CodeOwner: TypeAlias = Callable[[CodeType], tuple[str, str] | None]

OWN_FOLDER = str(Path(app.__file__).parent) + "/"
LIBRARY_FOLDERS = tuple(
    {f"{folder}/" for folder in (*sysconfig.get_paths().values(), *site.getsitepackages(), sys.base_prefix + "/lib")}
)


@dataclass(frozen=True, slots=True)
class Spot:
    """One frame as it stands: a function, a line, and the instruction in it."""

    code: CodeType
    line: int
    instruction: int


Stack: TypeAlias = tuple[Spot, ...]
"""Innermost frame first."""

Base: TypeAlias = tuple[CodeType, ...]
"""The functions below everything that a loop runs, the outermost first."""


@dataclass(frozen=True, slots=True)
class Blame:
    """The place that holds the loop and on whose account. `stack` is text, the outermost line first."""

    owner: CallOwner | None
    machine: str | None
    action: str | None
    place: Place
    function: str
    stack: str


def capture(thread_id: int) -> Stack:
    """Return where the thread is now; empty if it is in no Python code."""
    frame = sys._current_frames().get(thread_id)
    spots = []
    while frame is not None:
        spots.append(Spot(frame.f_code, frame.f_lineno or 0, frame.f_lasti))
        frame = frame.f_back
    return tuple(spots)


def owner_of_task(loop: asyncio.AbstractEventLoop) -> CallOwner | None:
    """Return on whose account the task runs that the loop is in now. May be called from any thread."""
    task = asyncio.current_task(loop)
    if task is None:
        return None
    context = _context_of(task)
    return None if context is None else context.get(current_owner)


def base_of_callback() -> Base:
    """Return the functions that every callback of the running loop is called from; to be called by one."""
    frame = sys._getframe(1).f_back
    codes = []
    while frame is not None:
        codes.append(frame.f_code)
        frame = frame.f_back
    return tuple(reversed(codes))


def blame(stack: Stack, base: Base, owner: CallOwner | None, owner_of_code: CodeOwner) -> Blame | None:
    """Return what to tell about a loop that is held at `stack`; None when it only waits for events.

    The place is the innermost line of the user's own code: what it calls in a library is its doing.
    """
    inside = _inside(stack, base)
    if not inside:
        return None
    depth, machine, action = _find_action(inside, owner_of_code)
    if owner is not None and action in (None, owner.action):
        machine, action = owner.machine, owner.action
    inner = inside if depth is None else inside[: depth + 1]
    fallback = inside[0] if depth is None else inside[depth]
    spot = next((spot for spot in inner if not _is_library(spot.code.co_filename)), fallback)
    return Blame(owner, machine, action, (spot.code.co_filename, spot.line), spot.code.co_name, _text(inner))


def is_starved(waited_s: float, loop_cpu_s: float, other_cpu_s: float) -> bool:
    """Whether the loop was late because other threads computed, and not because of what it was doing itself."""
    return other_cpu_s >= 0.5 * waited_s and loop_cpu_s < 0.5 * waited_s


def _inside(stack: Stack, base: Base) -> Stack:
    """The frames inside the loop's own: what it runs now. Empty when that is its selector."""
    depth = 0
    for spot, code in zip(reversed(stack), base, strict=False):
        if spot.code is not code:
            break
        depth += 1
    inside = stack[: len(stack) - depth]
    return () if all(spot.code.co_filename.endswith("selectors.py") for spot in inside) else inside


def _find_action(stack: Stack, owner_of_code: CodeOwner) -> tuple[int | None, str | None, str | None]:
    for depth, spot in enumerate(stack):
        names = owner_of_code(spot.code)
        if names is not None:
            return depth, *names
    return None, None, None


def _is_library(file: str) -> bool:
    return file.startswith(("<", OWN_FOLDER, *LIBRARY_FOLDERS))


def _text(stack: Stack) -> str:
    lines = []
    for spot in reversed(stack):
        file = spot.code.co_filename
        lines.append(f"{file}:{spot.line} in {spot.code.co_name}: {linecache.getline(file, spot.line).strip()}")
    return "\n".join(lines)


def _context_of(task: "asyncio.Task[Any]") -> contextvars.Context | None:
    get_context = getattr(task, "get_context", None)
    if get_context is not None:
        found: contextvars.Context = get_context()
        return found
    # Python 3.11 keeps a task's context to itself, but not from the garbage collector
    return next((each for each in gc.get_referents(task) if isinstance(each, contextvars.Context)), None)
