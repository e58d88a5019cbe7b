"""What a database has to do for group commit: write one wave, and say afterwards whether it did. SQL is in the two writers."""

from collections.abc import Sequence
from typing import Protocol

from app.engine.frozen import frozen
from app.persistence.store import StoreError
from app.persistence.waves import Wave

__all__ = ["LOCK_PATIENCE_S", "ConnectionLost", "DatabaseLocked", "Moved", "WaveRefused", "Writer", "Written"]


LOCK_PATIENCE_S = 20.0  # for another process to give up its lock: less than clients wait


class ConnectionLost(StoreError):
    """The database went away; `in_doubt` if that was while it may have been carrying out a wave."""

    def __init__(self, message: str, *, in_doubt: bool) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt


class DatabaseLocked(ConnectionLost):
    """Another process holds the lock without which nothing can be written. Nothing was stored."""

    def __init__(self, message: str) -> None:
        super().__init__(message, in_doubt=False)


class WaveRefused(StoreError):
    """The database works, but takes offence at something in this wave; nothing of it was stored."""


@frozen
class Moved:
    """A session whose row moved: `place` in the wave's groups, and what is needed to decide about a snapshot."""

    place: int
    key: int
    log_bytes: int
    snapshot_at: int


@frozen
class Written:
    """What of a wave is durable now: places of new sessions, and sessions that moved. What is not here was a conflict."""

    created: Sequence[int]
    moved: Sequence[Moved]


class Writer(Protocol):
    """The one connection that writes waves. Not concurrent: one call at a time.

    With a `claimant` only sessions that it has claimed are moved.
    """

    claimant: str | None

    async def connect(self) -> None:
        """Connect if not connected. Raises ConnectionLost."""
        ...

    async def close(self) -> None: ...

    async def write(self, wave: Wave) -> Written:
        """Write the wave in one transaction. Raises ConnectionLost, WaveRefused."""
        ...

    async def landed(self, wave: Wave) -> Written:
        """Return what of a wave is stored, whoever wrote it. Raises ConnectionLost."""
        ...
