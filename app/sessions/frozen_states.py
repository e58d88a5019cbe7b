"""Values from a store or a client are frozen before they become a session's state: large ones in a thread of the host."""

from collections.abc import Mapping
from typing import Any

from app.engine.freezing import freeze_all
from app.engine.serde_size import are_many
from app.system.encoding_threads import run_aside

__all__ = ["MOST_ON_LOOP", "frozen_anywhere"]

MOST_ON_LOOP = 2_000
"""Values that are frozen on the event loop, which takes a few milliseconds at most."""


async def frozen_anywhere(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new dict of the same keys with their values frozen. Nobody may change them meanwhile."""
    if are_many(values.values(), MOST_ON_LOOP):
        return await run_aside(lambda: freeze_all(values))
    return freeze_all(values)
