"""What a client asks of a session, and what it gets, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.persistence.records import RunStatus, SessionStatus

__all__ = ["ForkRequest", "NewSessionRequest", "RunOutcome", "RunRequest", "StateEdit"]


@dataclass(frozen=True, slots=True)
class NewSessionRequest:
    """A session to create; None leaves the choice to the host."""

    machine: str
    id: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    partition_key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """A session that begins where another stood after step `seq` (None: where it stands now)."""

    seq: int | None = None
    id: str | None = None
    partition_key: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """How far a session is to go. Without halts and limits it goes on until no transition leads on."""

    inputs: Mapping[str, Any] = field(default_factory=dict)
    halt_before: tuple[str, ...] = ()
    halt_after: tuple[str, ...] = ()
    max_steps: int | None = None
    timeout_s: float | None = None

    def parameters(self) -> dict[str, Any]:
        """What was asked for, without what was left open."""
        asked: dict[str, Any] = {}
        if self.inputs:
            asked["inputs"] = dict(self.inputs)
        if self.halt_before:
            asked["halt_before"] = list(self.halt_before)
        if self.halt_after:
            asked["halt_after"] = list(self.halt_after)
        if self.max_steps is not None:
            asked["max_steps"] = self.max_steps
        if self.timeout_s is not None:
            asked["timeout_s"] = self.timeout_s
        return asked


@dataclass(frozen=True, slots=True)
class StateEdit:
    """A change that a person makes to a state: keys to set, and keys to remove."""

    set: Mapping[str, Any] = field(default_factory=dict)
    delete: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run that went well ended. `action` and `result` are those of its last step; `state` is that after it."""

    session_id: str
    run_id: str
    status: RunStatus
    reason: str | None
    steps: int
    seq: int
    action: str | None
    result: Any
    state: Mapping[str, Any]
    session_status: SessionStatus
    next_action: str | None
