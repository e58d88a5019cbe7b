"""Keeps Python's cyclic garbage collector from stopping the event loop.

The collector looks at every object that it tracks, and the loop waits meanwhile: 50 to 300 ms with some hundred thousand
objects. Its defaults count what requests under way have allocated as if it were there to stay, and so, under load, look
at everything many times a second. Reference counting frees what requests leave behind; cycles can wait.
"""

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["seldom_collecting"]

# Many requests under way hold less than the first. The second bounds how long the loop waits while a large value is read: the
# middle collection looks at about 100,000 objects. A full one comes after millions of objects that stayed.
_THRESHOLDS = (20_000, 4, 50)


@contextlib.contextmanager
def seldom_collecting() -> Iterator[None]:
    """While this lasts, what exists now is never looked at again, and what comes is looked at in few, larger portions."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
