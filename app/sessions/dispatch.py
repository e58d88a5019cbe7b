"""What becomes of a run that the queue hands out: it begins here, waits for its session, or goes back into the queue."""

import logging

from app.persistence.replicas import ClaimedElsewhere
from app.persistence.run_queue import Back
from app.persistence.store import RunNotFound, SessionNotFound, Store, StoreError
from app.sessions.errors import MachineNotHosted, ShuttingDown
from app.sessions.recovery import Recovery
from app.sessions.run import Run
from app.sessions.run_desk import RunDesk

__all__ = ["Dispatcher"]

_PAUSE_S = 1.0  # until what did not work is tried again

logger = logging.getLogger(__name__)


class Dispatcher:
    """Takes runs from the queue of a store. One that is handed out twice is one run all the same."""

    def __init__(self, store: Store, desk: RunDesk, recovery: Recovery) -> None:
        self._store = store
        self._desk = desk
        self._recovery = recovery

    async def take(self, run_id: str) -> Back | None:
        """Return None when the run has ended, or waits for its session here; or how it goes back into the queue.

        A run in front of a busy session needs the queue no more: should this replica die, others find it by its status.
        """
        try:
            record = await self._store.get_run(run_id)
            try:
                found = await self._desk.take_up(record)
            except MachineNotHosted as exc:
                return None if await self._recovery.gave_up(record, exc) else Back(_PAUSE_S)
            if isinstance(found, Run):
                await found.ended()
                if found.is_left:
                    return Back(_PAUSE_S)
        except (RunNotFound, SessionNotFound):
            return None
        except ClaimedElsewhere as exc:
            return Back(to=exc.replica_id)
        except (StoreError, ShuttingDown):
            return Back(_PAUSE_S)
        except Exception:  # the border: one run that cannot begin must not keep the others from it
            logger.exception("a run could not be taken from the queue", extra={"run_id": run_id})
        return None
