"""How a session is deleted while others ask for it: whoever arrives meanwhile waits, and learns what came of the deletion."""

from collections.abc import Callable, Collection

from app.persistence.store import SessionNotFound, Store, StoreError
from app.sessions.errors import SeqMismatch
from app.sessions.live import LiveSession
from app.sessions.phases import Phase
from app.sessions.registry import Registry
from app.sessions.turns import Turns

__all__ = ["DELETED", "Deletions"]

DELETED = "deleted"  # the reason of a run whose session is deleted


class Deletions:
    """Deletes the sessions of one host, each by one caller at a time. `let_next_begin` is told when a session is free again."""

    def __init__(self, store: Store, registry: Registry, turns: Turns, let_next_begin: Callable[[LiveSession], None]) -> None:
        self._store = store
        self._registry = registry
        self._turns = turns
        self._let_next_begin = let_next_begin

    async def delete(self, session_id: str, expected: Collection[int] | None) -> None:
        """Remove a session and all that belongs to it; a run of it is cancelled.

        Raises SessionNotFound, SeqMismatch, ClaimedElsewhere, StoreUnavailable. Runs that wait begin if it raises.
        """
        while not await self._try(session_id, expected):
            pass

    async def _try(self, session_id: str, expected: Collection[int] | None) -> bool:
        """Return whether the session is deleted; if not, it has to be read again."""
        residents = self._registry.residents
        async with self._registry.holding(session_id) as record:
            if expected is not None and record.seq not in expected:
                raise SeqMismatch(session_id, record.seq)
            live = residents.get(session_id)
            if live is None:
                await self._store.delete_session(session_id)
                residents.close_session(session_id)
                return True
            if live.phase is not Phase.OPEN:  # an edit is under way, or a run after which the session is read again
                await live.settled()
                if live.is_stale and live.run is not None:
                    await live.run.ended()
                return False
            live.move(Phase.DELETING)
            try:
                return await self._delete_live(live)
            except StoreError:
                residents.remove(live)  # it may have been deleted all the same
                raise
            finally:
                if not live.is_stale:
                    live.move(Phase.OPEN)
                self._let_next_begin(live)

    async def _delete_live(self, live: LiveSession) -> bool:
        if live.run is not None:
            live.run.cancel(DELETED)
            await live.run.ended()
        if live.is_stale:
            return False
        await self._store.delete_session(live.id)
        self._registry.residents.close_session(live.id)
        self._turns.fail(live, lambda: SessionNotFound(live.id))
        return True
