"""Taking a run back: the step that leads a session to where the run began. The log only ever grows: docs/adr/0022."""

import time
from collections.abc import Mapping
from typing import Any

from app.engine.difference import difference
from app.engine.freezing import freeze_all
from app.engine.frozen import frozen
from app.engine.state import values_of
from app.persistence.records import StepCommit, StepKind
from app.persistence.store import Store
from app.sessions.branching import next_action, prior_action_at
from app.sessions.live import LiveSession

__all__ = ["Origin", "origin_at", "rollback_step"]


@frozen
class Origin:
    """Where a session stood when a run of it began."""

    state: Mapping[str, Any]
    seq: int
    prior_action: str | None

    @classmethod
    def of(cls, live: LiveSession) -> "Origin":
        return cls(live.state, live.seq, live.prior_action)


async def origin_at(store: Store, live: LiveSession, seq: int) -> Origin:
    """Return where `live` stood after step `seq`. Raises StepNotFound if that is trimmed."""
    return Origin(freeze_all(await store.state_at(live.id, seq)), seq, await prior_action_at(store, live.record(), seq))


def rollback_step(live: LiveSession, origin: Origin) -> StepCommit | None:
    """Return the step that brings `live` back to `origin`, without ids of events; None if it stands there.

    Raises MachineChanged.
    """
    if live.seq == origin.seq:
        return None
    now_s = time.time()
    return StepCommit(
        seq=live.seq + 1,
        action=origin.prior_action or "",
        operations=difference(values_of(live.state), values_of(origin.state)),
        result=None,
        state=origin.state,
        next_action=next_action(live.machine, live.id, origin.state, origin.prior_action),
        started_at_s=now_s,
        finished_at_s=now_s,
        first_event_id=0,
        event_id=0,
        kind=StepKind.ROLLBACK,
    )
