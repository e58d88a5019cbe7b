"""Taking a run back: the step that leads a session to where the run began. The log only ever grows: docs/adr/0022."""

import logging
from collections.abc import Mapping
from typing import Any

from app.engine.difference import difference
from app.engine.frozen import frozen
from app.engine.operations import Patch, Set, StoredOperation
from app.engine.serde import UnserializableValue
from app.engine.state import values_of
from app.persistence.handing_in import with_values_encoded
from app.persistence.records import StepCommit, StepKind
from app.persistence.store import Store, StoreError, StoreUnavailable
from app.sessions.branching import next_action, prior_action_at
from app.sessions.errors import MachineChanged
from app.sessions.frozen_states import frozen_anywhere
from app.sessions.leftovers import Resumption
from app.sessions.live import LiveSession
from app.system.clocks import current_time_s

__all__ = ["Origin", "rollback_step", "way_back"]

logger = logging.getLogger(__name__)


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
    state = await frozen_anywhere(await store.state_at(live.id, seq))
    return Origin(state, seq, await prior_action_at(store, live.record(), seq))


async def way_back(store: Store, live: LiveSession, origin: Origin, resumption: Resumption | None) -> StepCommit | None:
    """Return the step that takes a run back that began at `origin`, or was taken up as `resumption` says.

    None if there is no way back: what the run has committed stays then. Raises StoreUnavailable.
    """
    try:
        if resumption is not None and resumption.origin_seq is not None:
            origin = await origin_at(store, live, resumption.origin_seq)
        back = rollback_step(live, origin)
        return None if back is None else await with_values_encoded(back)
    except StoreUnavailable:
        raise
    except (StoreError, MachineChanged, UnserializableValue) as exc:
        names = {"session_id": live.id, "machine": live.machine.name}
        logger.warning("a run cannot be taken back; what it has committed stays", exc_info=exc, extra=names)
        return None


def rollback_step(live: LiveSession, origin: Origin) -> StepCommit | None:
    """Return the step that brings `live` back to `origin`, without ids of events; None if it stands there.

    Raises MachineChanged.
    """
    if live.seq == origin.seq:
        return None
    now_s = current_time_s()
    return StepCommit(
        seq=live.seq + 1,
        action=origin.prior_action or "",
        operations=_operations(values_of(live.state), values_of(origin.state)),
        result=None,
        state=origin.state,
        next_action=next_action(live.machine, live.id, origin.state, origin.prior_action),
        started_at_s=now_s,
        finished_at_s=now_s,
        first_event_id=0,
        event_id=0,
        kind=StepKind.ROLLBACK,
    )


def _operations(now: Mapping[str, Any], then: Mapping[str, Any]) -> tuple[StoredOperation, ...]:
    """Return what leads back from `now` to `then`; a value that changed in parts is set whole, as in other steps by hand."""
    changes = difference(now, then)
    return tuple([Set(change.key, then[change.key]) if isinstance(change, Patch) else change for change in changes])
