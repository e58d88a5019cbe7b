"""Errors of a user's code that are no Exception, as one that a run can treat like any other failure.

Extension modules raise them (a panic in Rust), and so do code that cancels itself, a generator that raises GeneratorExit, and
groups of such errors. The core never sees them: whoever calls a user's code turns them into an ActionQuit.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from app.engine.error_texts import said_by
from app.engine.errors import ActionQuit

__all__ = ["ENDS_A_SCRIPT", "asked", "failure_of", "is_one_of", "original_of", "quit_of"]

T = TypeVar("T")

ENDS_A_SCRIPT = (KeyboardInterrupt, SystemExit)
"""What leaves the engine at once where there is no host: somebody wants the whole script to end."""


def quit_of(error: BaseException) -> ActionQuit:
    """Return what to raise in place of `error`, which is its cause. Never fails."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    replacement = ActionQuit(name, said_by(error))
    replacement.__cause__ = error
    replacement.__suppress_context__ = True
    return replacement


def asked(function: Callable[..., T], *arguments: Any) -> T:
    """Return what a function of the user returns that the core itself calls: a reducer, or a condition."""
    try:
        return function(*arguments)
    except BaseException as error:
        raise failure_of(error)  # noqa: B904 - often the same error: its cause stays


def failure_of(error: BaseException) -> BaseException:
    """Return `error` if it is an Exception or ends a script, and an ActionQuit in place of anything else."""
    return error if isinstance(error, (Exception, *ENDS_A_SCRIPT)) else quit_of(error)


def is_one_of(error: Exception, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether `error`, or what it stands for, is of one of these classes."""
    return isinstance(error, kinds) or (isinstance(error, ActionQuit) and isinstance(original_of(error), kinds))


def original_of(error: ActionQuit) -> BaseException:
    """Return the error that `error` stands for, or `error` itself if it was raised in another process."""
    cause = error.__cause__
    return error if cause is None or isinstance(cause, Exception) else cause
