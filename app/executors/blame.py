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

__all__ = ["Base", "Blame", "CodeOwner", "Spot", "Stack", "base_of_callback", "blame", "capture", "inside", "owner_of_task"]

CodeOwner: TypeAlias = Callable[[CodeType], tuple[str, str] | None]

OWN_FOLDER = str(Path(app.__file__).parent) + "/"
LIBRARY_FOLDERS = tuple(
    {f"{folder}/" for folder in (*sysconfig.get_paths().values(), *site.getsitepackages(), sys.base_prefix + "/lib")}
)


@dataclass(frozen=True, slots=True)
class Spot:
    """One frame as it stands: a function and a line in it. `frame` tells its calls apart while they last."""

    code: CodeType
    line: int
    frame: int


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
        spots.append(Spot(frame.f_code, frame.f_lineno or 0, id(frame)))
        frame = frame.f_back
    return tuple(spots)


def owner_of_task(task: "asyncio.Task[Any] | None") -> CallOwner | None:
    """Return on whose account `task` runs. May be called from any thread."""
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


def inside(stack: Stack, base: Base) -> Stack:
    """Return the frames inside the loop's own: what it runs now. Empty when it only waits for events."""
    depth = 0
    for spot, code in zip(reversed(stack), base, strict=False):
        if spot.code is not code:
            break
        depth += 1
    frames = stack[: len(stack) - depth]
    return () if all(spot.code.co_filename.endswith("selectors.py") for spot in frames) else frames


def blame(frames: Stack, owner: CallOwner | None, owner_of_code: CodeOwner) -> Blame:
    """Return what to tell about a loop that is held in `frames`, of which there is at least one.

    The place is the innermost line of the user's own code: what it calls in a library is its doing.
    """
    depth, machine, action = _find_action(frames, owner_of_code)
    if owner is not None and action in (None, owner.action):
        machine, action = owner.machine, owner.action
    inner = frames if depth is None else frames[: depth + 1]
    fallback = frames[0] if depth is None else frames[depth]
    spot = next((spot for spot in inner if not _is_library(spot.code.co_filename)), fallback)
    return Blame(owner, machine, action, (spot.code.co_filename, spot.line), spot.code.co_name, _text(inner))


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
