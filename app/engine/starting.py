"""Where an application begins: afresh, after a saved step of its own, or after one of another application.

Decides from what a loader has returned; calls no loader itself.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

from app.engine.errors import BuildError
from app.engine.persistence_ports import AsyncBaseStateLoader, BaseStateLoader, PersistedStateData
from app.engine.pointers import ParentPointer
from app.engine.state import State

__all__ = ["Beginning", "Initializer"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first position of an application. `parent` is the application that it was forked from."""

    state: State[Any]
    entrypoint: str
    seq: int = -1
    prior_action: str | None = None
    parent: ParentPointer | None = None


@dataclass(frozen=True, slots=True)
class Initializer:
    """What `initialize_from` was told."""

    loader: BaseStateLoader | AsyncBaseStateLoader
    resumes_at_next_action: bool
    default_state: dict[str, Any]
    default_entrypoint: str
    fork: ParentPointer | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def source(self, app_id: str, partition_key: str | None, seq: int | None) -> tuple[str | None, str, int | None]:
        """Return what the loader is asked for: partition key, application, step. Raises BuildError for a fork of itself."""
        if self.fork is None:
            return partition_key, app_id, seq
        if self.fork.app_id == app_id:
            raise BuildError(f"application {app_id!r} cannot be a fork of itself; give it another app_id with with_identifiers")
        return self.fork.partition_key, self.fork.app_id, self.fork.sequence_id

    def begin(self, loaded: PersistedStateData | None) -> Beginning:
        """Return where to begin, given what was loaded. A failed step is taken again, under its own number."""
        if loaded is None:
            if self.fork is not None:
                logger.warning("nothing is saved to fork from; the application begins with its defaults", extra=vars(self.fork))
            return Beginning(State(dict(self.default_state)), self.default_entrypoint)
        state: State[Any] | None = loaded["state"]
        if state is None:
            raise BuildError(
                f"{type(self.loader).__name__} returned no state for step {loaded['sequence_id']} of {loaded['app_id']!r}"
            )
        if self.overrides:
            state = state.update(**self.overrides)
        position, seq = loaded["position"], loaded["sequence_id"]
        if not self.resumes_at_next_action:
            return Beginning(state, self.default_entrypoint, seq, None, self.fork)
        if loaded["status"] == "completed":
            return Beginning(state, self.default_entrypoint, seq, position, self.fork)
        return Beginning(state, position, seq - 1, None, self.fork)
