"""Which sessions are this replica's, as far as it can know. Over a store that only one process can have, all of them are.

A session is claimed when it is loaded to run or to be followed, and given up some time after it has left memory. Once a second
the replica says that it lives. When it could not do so for long, others may have taken it for dead: it then must
not answer from memory before it has asked.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from app.persistence.records import LoadedSession
from app.persistence.replicas import BeatSettings
from app.persistence.store import Store, StoreError, StoreUnavailable
from app.sessions.watch import Watch
from app.system.clocks import since_boot_s

__all__ = ["ClaimSettings", "Claims"]

_MOST_RELEASED = 1_000  # in one statement

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """How often a replica says that it lives, and how long another may be silent before it is taken for dead.

    One whose event loop has not turned for `late_after_s` is late: it keeps its sessions, and others do not wait for it. After
    `stuck_after_s` its log says that it is stuck.
    """

    beat_s: float = 1.0
    dead_after_s: float = 4.0
    late_after_s: float = 3.0
    stuck_after_s: float = 60.0


class Claims:
    """This replica among the others. `is_needed` says whether a session is in memory or followed; `on_lost` drops them all.

    `on_buried` is told when another replica was found dead.
    """

    def __init__(
        self,
        store: Store,
        settings: ClaimSettings,
        is_needed: Callable[[str], bool],
        on_lost: Callable[[], None],
        on_buried: Callable[[], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._is_needed = is_needed
        self._on_lost = on_lost
        self._on_buried = on_buried
        self._url = ""
        self._watch = Watch(beat_s=settings.beat_s, dead_after_s=settings.dead_after_s)
        self._living = 1
        self.late: Sequence[str] = ()
        """The urls of other replicas whose event loop does not turn."""
        self._beating = asyncio.Lock()
        self._unneeded: dict[str, None] = {}
        self._releasing: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_shared(self) -> bool:
        """Whether other processes may have sessions of this store."""
        return self._store.replicas.id is not None

    @property
    def is_alone(self) -> bool:
        """Whether no other replica lives now: then a new session is claimed at once, for who else would get its next request."""
        return self._living < 2

    @property
    def living(self) -> int:
        """How many replicas there are, with this one."""
        return self._living

    @property
    def is_late(self) -> bool:
        """Whether others may have taken this replica for dead."""
        return since_boot_s() > self._store.replicas.heard_s + self._settings.dead_after_s

    async def join(self, url: str) -> None:
        """Become a replica that the others reach at `url`. Raises StoreUnavailable."""
        self._url = url
        await self._join()
        if self.is_shared:
            settings = self._settings
            beats = BeatSettings(settings.beat_s, settings.late_after_s, settings.stuck_after_s)
            await self._store.replicas.keep_beating(beats)
            self._task = asyncio.get_running_loop().create_task(self._beat_for_ever())

    async def leave(self) -> None:
        """Give up everything: the others need not wait for this replica to be taken for dead."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self._store.replicas.leave()
        except StoreUnavailable as exc:
            logger.warning("the replica could not sign off", exc_info=exc)

    async def confirm(self) -> None:
        """Return when everything that was claimed, and is still in memory, is known to be ours. Raises StoreUnavailable."""
        async with self._beating:
            if self.is_late:
                await self._beat()

    async def beat(self) -> None:
        """Say that this replica lives, and learn how many others do. Raises StoreUnavailable."""
        async with self._beating:
            await self._beat()

    async def claim(self, session_id: str) -> LoadedSession:
        """Load a session and make it ours. Raises SessionNotFound, ClaimedElsewhere, StoreUnavailable."""
        self._unneeded.pop(session_id, None)
        while (releasing := self._releasing.get(session_id)) is not None:
            await asyncio.wait([releasing])
        return await self._store.claim_session(session_id)

    def let_go(self, session_id: str) -> None:
        """The session has left memory, or its last follower has gone: give it up soon, unless it is needed again."""
        if self.is_shared:
            self._unneeded[session_id] = None

    async def release(self) -> None:
        """Give up what is not needed."""
        batch = list(islice(self._unneeded, _MOST_RELEASED))
        for session_id in batch:
            del self._unneeded[session_id]
        going = [session_id for session_id in batch if not self._is_needed(session_id)]
        if going:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._releasing = dict.fromkeys(going, done)
            try:
                await self._store.replicas.release(going)
            except StoreUnavailable:
                self._unneeded.update(dict.fromkeys(going))
                raise
            finally:
                self._releasing = {}
                done.set_result(None)

    async def _join(self) -> None:
        began_s = since_boot_s()
        await self._store.replicas.join(self._url)
        if self.is_shared:
            self._watch.was_heard(began_s)

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.beat_s)
            try:
                await self.beat()
                await self._bury()
            except StoreError as exc:
                logger.warning("the replica could not say that it lives", extra={"error": str(exc)})

    async def _bury(self) -> None:
        replicas, settings = self._store.replicas, self._settings
        if self._watch.may_bury(since_boot_s()):
            dead = await replicas.bury(settings.dead_after_s)
        else:
            dead = await replicas.bury_predecessors(settings.dead_after_s / 2)
        for replica_id in dead:
            logger.warning("a replica is dead; its sessions are free", extra={"replica": replica_id})
        if dead:
            self._on_buried()

    async def _beat(self) -> None:
        began_s = since_boot_s()
        try:
            beat = await self._store.replicas.beat()
        except StoreError:
            self._watch.was_refused()
            raise
        if not beat.is_known:
            logger.warning("this replica was taken for dead; it drops what it has in memory and joins again")
            self._on_lost()
            await self._join()
            return
        self._watch.was_heard(began_s)
        self._living = beat.living
        self._tell_of_the_late(beat.late)

    def _tell_of_the_late(self, late: Sequence[str]) -> None:
        for url in set(late) - set(self.late):
            logger.warning("a replica lives, but its event loop does not turn; it keeps its sessions", extra={"replica": url})
        for url in set(self.late) - set(late):
            logger.warning("a replica is not late any more", extra={"replica": url})
        self.late = tuple(late)
