"""The one exception that neither a generator nor a future can carry.

Thrown into the core it would look like the end of a run; given to a future by a thread, it would leave whoever waits waiting
for good.
"""

from collections.abc import Callable
from typing import TypeVar

__all__ = ["carried", "sealed"]

T = TypeVar("T")


def carried(error: Exception, what: str) -> Exception:
    """Return `error`, or a RuntimeError in the place of a StopIteration that `what` let out."""
    if not isinstance(error, StopIteration):
        return error
    instead = RuntimeError(f"{what} raised StopIteration")
    instead.__cause__ = error
    return instead


def sealed(what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns. A StopIteration leaves it as a RuntimeError."""
    try:
        return call()
    except StopIteration as error:
        raise carried(error, what) from error
