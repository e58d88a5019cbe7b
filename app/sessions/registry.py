"""The sessions that this process has in memory: how they come in, and how they leave.

A session is read from the store once, however many ask for it at the same time; over a store that replicas share it is claimed
with the same statement. A run that a crash has left behind is taken up before anybody else gets at its session.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from app.engine.machine import Machine
from app.persistence.records import LoadedSession, SessionRecord
from app.persistence.replicas import ClaimedElsewhere
from app.persistence.store import Store, StoreUnavailable
from app.sessions.claims import Claims, ClaimSettings
from app.sessions.errors import MachineNotHosted
from app.sessions.frozen_states import frozen_anywhere
from app.sessions.live import LiveSession
from app.sessions.residents import Residents

__all__ = ["Registry"]

_MOST_READS = 3  # of a session that has left memory again each time


class Registry:
    """Residents of this process, and its claims to them. `on_drop` is told of each session that another replica may have now.

    `on_buried` is told when another replica was found dead.
    """

    def __init__(
        self,
        store: Store,
        machines: Mapping[str, Machine],
        *,
        limit: int,
        idle_ttl_s: float,
        event_capacity: int,
        claims: ClaimSettings,
        resume: Callable[[LiveSession], Awaitable[None]],
        on_drop: Callable[[LiveSession], None],
        on_buried: Callable[[], None],
    ) -> None:
        self._store = store
        self._machines = machines
        self._resume = resume
        self._on_drop = on_drop
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, asyncio.Future[None]] = {}  # sessions that only one may have, who deletes them
        self._times_lost = 0
        self.claims = Claims(store, claims, self._is_needed, self._drop_all, on_buried)
        self.residents = Residents(
            limit=limit,
            idle_ttl_s=idle_ttl_s,
            event_capacity=event_capacity,
            on_leave=self.claims.let_go,
            is_late=lambda: self.claims.is_late,
        )

    def hosted(self, record: SessionRecord) -> Machine:
        """Return the machine of a session. Raises MachineNotHosted."""
        try:
            return self._machines[record.machine]
        except KeyError:
            raise MachineNotHosted(record.id, record.machine) from None

    async def alive(self, session_id: str) -> LiveSession:
        """Return the session in memory, read from the store if need be.

        Raises SessionNotFound, ClaimedElsewhere, MachineNotHosted, StoreUnavailable.
        """
        if self._held:
            await self._until_free(session_id)
        return await self._alive(session_id)

    async def _alive(self, session_id: str) -> LiveSession:
        if self.claims.is_late:
            await self.claims.confirm()
        times_read = 0
        while (live := self.residents.get(session_id)) is None:
            if times_read == _MOST_READS:
                raise StoreUnavailable("what the session does is not stored, however often it is read again")
            times_read += 1
            loading = self._loading.get(session_id)
            if loading is None:
                loading = self._loading[session_id] = asyncio.create_task(self._load(session_id))
                loading.add_done_callback(_seen)
            await asyncio.shield(loading)  # and it may have left again by now
        return live

    async def own(self, session_id: str) -> SessionRecord:
        """Return the session after making sure that no other replica has it; its machine need not be hosted.

        Raises SessionNotFound, ClaimedElsewhere, StoreUnavailable.
        """
        if self._held:
            await self._until_free(session_id)
        return await self._own(session_id)

    @asynccontextmanager
    async def holding(self, session_id: str) -> AsyncIterator[SessionRecord]:
        """Own a session, and keep everybody else from reading it into memory, or owning it, until this ends. Raises as `own`."""
        await self._until_free(session_id)
        free = self._held[session_id] = asyncio.get_running_loop().create_future()
        try:
            yield await self._own(session_id)
        finally:
            del self._held[session_id]
            free.set_result(None)

    async def _until_free(self, session_id: str) -> None:
        while (held := self._held.get(session_id)) is not None:
            await asyncio.wait([held])

    async def _own(self, session_id: str) -> SessionRecord:
        if self.claims.is_late:
            await self.claims.confirm()
        live = self.residents.get(session_id)
        if live is not None:
            return live.record()
        record = await self._store.get_session(session_id)
        if record.machine in self._machines and (self.claims.is_shared or session_id in self._loading):
            return (await self._alive(session_id)).record()
        return (await self.claims.claim(session_id)).record if self.claims.is_shared else record

    def take_in(self, loaded: LoadedSession, state: Mapping[str, Any]) -> None:
        """Put a session into memory that is new, unless somebody has asked for it already. Raises MachineNotHosted.

        `state` is its state, frozen.
        """
        session_id = loaded.record.id
        if self.residents.get(session_id) is None and session_id not in self._loading:
            self.residents.add(self._made(loaded, state), asyncio.get_running_loop().time())

    async def expire(self) -> None:
        """Let every session go that has been idle for long."""
        self.residents.expire(asyncio.get_running_loop().time())

    def _made(self, loaded: LoadedSession, state: Mapping[str, Any]) -> LiveSession:
        record = loaded.record
        stream = self.residents.stream(record.id, record.last_event_id)
        stream.catch_up(record.last_event_id)
        return LiveSession.of(loaded, state, self.hosted(record), stream)

    async def _load(self, session_id: str) -> None:
        times_lost = self._times_lost
        try:
            loaded, state = await self._read(session_id)
            if self._times_lost != times_lost:  # it was claimed in the name of one who was taken for dead meanwhile
                self.claims.let_go(session_id)
                return
            live = self._made(loaded, state)
            self.residents.expect(live)
            if loaded.record.has_run:
                await self._resume(live)
            if self.residents.holds(live):
                self.residents.add(live, asyncio.get_running_loop().time())
            else:  # it was lost meanwhile, or its run has come to an end that has to be read
                self.claims.let_go(session_id)
        except ClaimedElsewhere:
            self.residents.close_session(session_id)  # whoever follows it here has to look for it there
            self.claims.let_go(session_id)
            raise
        except BaseException:
            self.claims.let_go(session_id)
            raise
        finally:
            self.residents.expect_no_more(session_id)
            del self._loading[session_id]

    async def _read(self, session_id: str) -> tuple[LoadedSession, Mapping[str, Any]]:
        """Claim and read a session, and freeze its state.

        Nothing of it is being stored meanwhile: what its followers are yet to be shown is in there.
        """
        while True:
            if (stream := self.residents.known_stream(session_id)) is not None:
                await stream.until_written()
            loaded = await self.claims.claim(session_id)
            state = await frozen_anywhere(loaded.state)
            stream = self.residents.known_stream(session_id)
            if stream is None or not stream.is_writing:
                return loaded, state

    def _is_needed(self, session_id: str) -> bool:
        residents = self.residents
        return residents.get(session_id) is not None or residents.is_followed(session_id) or session_id in self._loading

    def _drop_all(self) -> None:
        """Others may have our sessions: keep nothing of them."""
        self._times_lost += 1
        for live in self.residents.drop_all():
            self._on_drop(live)


def _seen(loading: asyncio.Task[None]) -> None:
    """Whoever waited for it may have been cancelled: then nobody else looks at what became of it."""
    if not loading.cancelled():
        loading.exception()
