"""What makes a store smaller: sessions that have expired go, and the beginnings of long histories."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.engine.machine import Machine
from app.persistence.records import History
from app.persistence.store import SessionNotFound, Store
from app.sessions.residents import Residents
from app.system.clocks import current_time_s

__all__ = ["Housekeeping", "Retention", "cut_of"]

_BATCH = 500
_MOST_BATCHES = 100  # in one go: the other chores wait
_PAGE = 1_000
_DAY_S = 86_400.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a history is kept: at least its last `steps`, and nothing that is older than `days`. None: everything."""

    steps: int | None = None
    days: float | None = None


class Housekeeping:
    """The chores of one host. `retention` is for machines that say nothing of it; keys are remembered for `key_ttl_s`."""

    def __init__(
        self, store: Store, residents: Residents, machines: Mapping[str, Machine], retention: Retention, key_ttl_s: float
    ) -> None:
        self._store = store
        self._residents = residents
        self._retention = retention
        self._retentions = {name: _of_machine(machine, retention) for name, machine in machines.items()}
        self._trims = any(each != Retention() for each in (retention, *self._retentions.values()))
        self._key_ttl_s = key_ttl_s
        self._position = 0

    async def forget_keys(self) -> None:
        """Delete the idempotency keys that are old enough."""
        await self._store.purge_keys(current_time_s() - self._key_ttl_s)

    async def purge(self) -> None:
        """Delete the sessions that have expired."""
        for _ in range(_MOST_BATCHES):
            now_s = current_time_s()
            found = await self._store.maybe_expired(now_s, _BATCH)
            if not found or (not await self._purge(found, now_s) and len(found) < _BATCH):
                return

    async def clear(self, session_id: str) -> bool:
        """Delete the session if it has expired; return whether it has gone."""
        return await self._purge([session_id], current_time_s())

    async def trim(self) -> None:
        """Look at the next of all sessions, and cut off what need not be kept of their histories."""
        if not self._trims:
            return
        page = await self._store.histories(self._position, _PAGE)
        self._position = page[-1].position if len(page) == _PAGE else 0
        now_s = current_time_s()
        for history in page:
            before_seq, before_s = cut_of(history, self._retentions.get(history.machine, self._retention), now_s)
            if before_seq or before_s:
                try:
                    await self._store.trim(history.session_id, before_seq=before_seq, before_s=before_s)
                except SessionNotFound:
                    continue

    async def _purge(self, session_ids: Sequence[str], now_s: float) -> bool:
        """Delete those that had expired at `now_s`: nothing can have begun to use them since."""
        idle = [each for each in session_ids if not self._residents.is_busy(each)]
        gone = await self._store.purge_expired(idle, now_s) if idle else ()
        for session_id in gone:
            self._residents.close_session(session_id)
        if gone:
            logger.info("sessions have expired", extra={"sessions": len(gone)})
        return bool(gone)


def cut_of(history: History, retention: Retention, now_s: float) -> tuple[int, float | None]:
    """Return below which seq, and before what time, a history is to be cut off; `(0, None)` if it is not.

    A cut costs a snapshot. So more is kept than has to be, by a quarter of the steps or a tenth of the time.
    """
    before_seq, before_s = 0, None
    steps, days = retention.steps, retention.days
    if steps is not None and history.seq - history.base_seq > steps + max(steps // 4, 16):
        before_seq = history.seq - steps + 1
    if days is not None and history.oldest_s is not None and history.oldest_s < now_s - 1.1 * days * _DAY_S:
        before_s = now_s - days * _DAY_S
    return before_seq, before_s


def _of_machine(machine: Machine, default: Retention) -> Retention:
    options = machine.options
    steps = default.steps if options.history_steps is None else options.history_steps
    return Retention(steps, default.days if options.history_days is None else options.history_days)
