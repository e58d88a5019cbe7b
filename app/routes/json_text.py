"""Values as JSON text for clients, in the plain form of `app.engine.serde_plain`.

The JSON library is given nothing but what that walk has made: it crashes on some objects.
"""

from typing import Any

import orjson

from app.engine.serde_plain import TooLarge, plain
from app.system.encoding_threads import run_aside

__all__ = ["MOST_ON_LOOP", "dump", "dump_anywhere"]

MOST_ON_LOOP = 4_000
"""Values that are converted on the event loop, which takes less than a millisecond; more are converted in a thread."""


def dump(value: Any, most: int | None = None) -> bytes:
    """Return `value` as JSON text. Never fails, but raises TooLarge if there are more than `most` values in it."""
    return orjson.dumps(plain(value, most))


async def dump_anywhere(value: Any) -> bytes:
    """Return `value` as JSON text, made in a thread if it is large: it must not change meanwhile."""
    try:
        return dump(value, MOST_ON_LOOP)
    except TooLarge:
        return await run_aside(lambda: dump(value))
