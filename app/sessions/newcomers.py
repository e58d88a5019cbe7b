"""How a session that somebody has asked for comes into the store, once."""

from dataclasses import replace

from app.persistence.records import Key, LoadedSession, NewSession
from app.persistence.store import KeyTaken, SessionExists, Store
from app.persistence.transitions import created
from app.sessions.frozen_states import frozen_anywhere
from app.sessions.housekeeping import Housekeeping
from app.sessions.keyed import recalled, remembering
from app.sessions.registry import Registry

__all__ = ["Newcomers"]


class Newcomers:
    """Stores the new sessions of one host."""

    def __init__(self, store: Store, registry: Registry, housekeeping: Housekeeping) -> None:
        self._store = store
        self._registry = registry
        self._housekeeping = housekeeping

    async def add(self, new: NewSession, key: Key | None) -> LoadedSession:
        """Store a session, and return it; or the one that `key` has brought meanwhile. Raises SessionExists, KeyReused."""
        is_claimed = self._registry.claims.is_alone
        state = await frozen_anywhere(new.state) if is_claimed else {}  # before it is stored: then nothing can come between
        new = replace(remembering(new, key), is_claimed=is_claimed)
        try:
            await self._store_where_free(new)
        except (KeyTaken, SessionExists):
            known = await recalled(self._store, key)  # the same request, at the same time
            if known is None:
                raise
            return known
        loaded = LoadedSession(created(new), dict(new.state))
        if is_claimed:
            self._registry.take_in(loaded, state)
        return loaded

    async def _store_where_free(self, new: NewSession) -> None:
        try:
            await self._store.create_session(new)
        except SessionExists:
            if not await self._housekeeping.clear(new.id):  # it has not expired: the id is taken indeed
                raise
            await self._store.create_session(new)
