"""Which processes share a database, and which of them has a session in memory. `docs/adr/0020` says why it is done so.

A claim holds as long as the replica that made it is in the table of replicas. Each one says once a second that it lives;
one that has been silent for long is buried by another, which takes its row out: all of its claims have ended with that.
"""

import fcntl
import math
import os
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from io import TextIOWrapper
from pathlib import Path
from typing import Protocol

from app.engine.private_files import open_private
from app.persistence.records import RunRecord
from app.persistence.store import StoreError, StoreUnavailable
from app.system.clocks import current_time_s, event_time_us, keep_ids_ahead
from app.system.host_threads import run_in_own_thread

__all__ = ["Beat", "BeatSettings", "ClaimedElsewhere", "FileReplica", "LoneReplica", "ReplicaState", "Replicas"]


_RESERVED_US = 2_000_000  # event ids are microseconds, and are reserved every second
_MOST_READ = 10_000  # of the locked file


class ClaimedElsewhere(StoreError):
    """A replica that lives has the session; it answers at `url`, but not before its event loop turns if it `is_late`."""

    def __init__(self, session_id: str, replica_id: str, url: str, *, is_late: bool = False) -> None:
        super().__init__(f"session {session_id!r} belongs to the replica at {url}")
        self.session_id = session_id
        self.replica_id = replica_id
        self.url = url
        self.is_late = is_late


class ReplicaState(Enum):
    """What is known of a replica. LATE: it lives, and its event loop does not turn."""

    ALIVE = auto()
    LATE = auto()
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat found: whether this replica is still known to the others, and how many there are with it.

    `late` are the urls of those others whose event loop does not turn.
    """

    is_known: bool
    living: int
    late: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class BeatSettings:
    """How often a replica says that it lives; from when its loop is called late; and stuck, which is an error in the log."""

    beat_s: float = 1.0
    late_after_s: float = 3.0
    stuck_after_s: float = 60.0


class Replicas(Protocol):
    """This process among those that share the database. `id` is None where there can be only one."""

    @property
    def id(self) -> str | None: ...

    async def join(self, url: str) -> None:
        """Become a replica with a new id, which the others reach at `url`. Raises StoreUnavailable."""
        ...

    async def beat(self) -> Beat:
        """Say that this replica lives. Raises StoreUnavailable."""
        ...

    async def keep_beating(self, settings: BeatSettings) -> None:
        """Say regularly that this replica lives, also while its event loop does not turn, until it leaves."""
        ...

    @property
    def heard_s(self) -> float:
        """When the last beat began that found this replica known, by `since_boot_s`. Infinite where there can be only one."""
        ...

    async def state_of(self, replica_id: str) -> ReplicaState:
        """Return how a replica is; DEAD if it has left, or somebody has buried it. Raises StoreUnavailable."""
        ...

    async def reserve_ids(self) -> None:
        """Have a process that comes later, and whose clock is set back, begin above the event ids of this one.

        To be called every second.
        """
        ...

    async def bury(self, silent_s: float) -> Sequence[str]:
        """Take out the replicas that have been silent for `silent_s` seconds; return their ids. Raises StoreUnavailable."""
        ...

    async def bury_predecessors(self, silent_s: float) -> Sequence[str]:
        """Take out those that were here before, under this replica's address, and have been silent; return their ids.

        Of them nobody needs to wait for a sign: two processes cannot have one address. Raises StoreUnavailable.
        """
        ...

    async def leave(self) -> None:
        """Give up everything. Raises StoreUnavailable."""
        ...

    async def release(self, session_ids: Collection[str]) -> None:
        """Give up these sessions, if they are this replica's. Raises StoreUnavailable."""
        ...

    async def orphans(self, *, queued_before_s: float, limit: int) -> Sequence[RunRecord]:
        """Return unfinished runs that no living replica has; also queued ones, if they have been for long and are in no queue.

        The queued ones are looked through in parts, with every call the next one. Raises StoreUnavailable.
        """
        ...


class LoneReplica:
    """The only process of a store: everything is its own, and nothing needs to be said."""

    id: str | None = None
    heard_s: float = math.inf

    async def join(self, url: str) -> None:
        pass

    async def beat(self) -> Beat:
        self.heard_s = math.inf
        return Beat(is_known=True, living=1)

    async def keep_beating(self, settings: BeatSettings) -> None:
        pass

    async def reserve_ids(self) -> None:
        pass

    async def state_of(self, replica_id: str) -> ReplicaState:
        return ReplicaState.ALIVE if replica_id == self.id else ReplicaState.DEAD

    async def bury(self, silent_s: float) -> Sequence[str]:  # noqa: ARG002
        return ()

    async def bury_predecessors(self, silent_s: float) -> Sequence[str]:  # noqa: ARG002
        return ()

    async def leave(self) -> None:
        pass

    async def release(self, session_ids: Collection[str]) -> None:
        pass

    async def orphans(self, *, queued_before_s: float, limit: int) -> Sequence[RunRecord]:  # noqa: ARG002
        return ()


class FileReplica(LoneReplica):
    """The only service on an SQLite file: a second one is refused by a lock beside it, which ends with the process.

    The locked file holds two lines: the service's address, and an event id above those that it has given out.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.lock")
        self._file: TextIOWrapper | None = None
        self._url = ""
        self._writing = threading.Lock()

    async def join(self, url: str) -> None:
        await run_in_own_thread(self._lock, url)

    async def reserve_ids(self) -> None:
        await run_in_own_thread(self._write, _RESERVED_US)

    async def leave(self) -> None:
        await run_in_own_thread(self._close)

    def _lock(self, url: str) -> None:
        file = os.fdopen(open_private(str(self._path), os.O_RDWR | os.O_CREAT), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = file.readline(200).strip()
            file.close()
            there = f" ({other})" if other else ""
            raise StoreUnavailable(
                f"another service{there} has this SQLite file open; for more than one process use PostgreSQL"
            ) from None
        _, _, reserved = file.read(_MOST_READ).partition("\n")
        if reserved.isdecimal():
            keep_ids_ahead(int(reserved) / 1e6 - current_time_s())
        self._url = url
        self._file = file
        self._write(_RESERVED_US)

    def _write(self, ahead_us: int) -> None:
        with self._writing:
            if (file := self._file) is not None:
                file.seek(0)
                file.write(f"{self._url}\n{event_time_us() + ahead_us}")
                file.truncate()  # afterwards: a process that is killed in between must not leave an empty file

    def _close(self) -> None:
        self._write(0)
        with self._writing:
            file, self._file = self._file, None
            if file is not None:
                file.close()
