"""A store that loses its database at a chosen moment, over any real one."""

from typing import Any, cast

from app.persistence.records import Commit
from app.persistence.store import Store, StoreUnavailable

__all__ = ["Unreliable"]

_WRITES = ("queue_run", "begin_attempt", "create_session", "delete_session")
_READS = ("claim_session", "load_session", "get_run", "unfinished_runs_of", "progress_of_run")


class Unreliable:
    """While `is_away` nothing is stored, and no session or run is read; followers still see what is there.

    The commit number `fails_at` begins that, and its answer is lost. With `carries_out` that commit was stored, and with
    `in_doubt` nobody can know. One that `takes_nothing` can still be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_away = False
        self.takes_nothing = False
        self.refused: tuple[str, ...] = _WRITES  # beside commits, while it takes nothing
        self.fails_at: int | None = None
        self.carries_out = False
        self.in_doubt = False
        self.commits = 0

    @property
    def port(self) -> Store:
        """This, for who wants a store."""
        return cast("Store", self)

    def go_away_at_next_commit(self, *, in_doubt: bool = False, carries_out: bool = False) -> None:
        self.fails_at, self.in_doubt, self.carries_out = self.commits + 1, in_doubt, carries_out

    async def commit(self, commit: Commit) -> None:
        self.commits += 1
        if self.commits == self.fails_at:
            if self.carries_out:
                await self._store.commit(commit)
            self.is_away = True
            raise StoreUnavailable("the connection was lost", in_doubt=self.in_doubt)
        self._require_there()
        if self.takes_nothing:
            raise StoreUnavailable("the database takes nothing")
        await self._store.commit(commit)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in _READS and name not in _WRITES:
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            self._require_there()
            if self.takes_nothing and name in self.refused:
                raise StoreUnavailable("the database takes nothing")
            return await found(*arguments, **named)

        return call

    def _require_there(self) -> None:
        if self.is_away:
            raise StoreUnavailable("the database is away")
