"""The figures of a store: how its commits are grouped, and what of its connections is in use."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

__all__ = ["Connections", "StoreStats", "connections_of"]


@dataclass(frozen=True, slots=True)
class Connections:
    """A pool of connections: how many it may have, has open, and has given out."""

    size: int
    open: int
    in_use: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """A store as it is now. `commits` were stored in `flushes` transactions since it was opened; `waiting` ones are not yet.

    `pools` are by what they are for. `wal_bytes` is the size of SQLite's write-ahead log.
    """

    flushes: int = 0
    commits: int = 0
    waiting: int = 0
    pools: Mapping[str, Connections] = field(default_factory=dict)
    wal_bytes: int | None = None


def connections_of(engine: AsyncEngine) -> Connections:
    pool = engine.sync_engine.pool
    if not isinstance(pool, QueuePool):
        raise TypeError(f"an engine of {type(pool).__name__} has no size")
    return Connections(pool.size(), pool.checkedin() + pool.checkedout(), pool.checkedout())
