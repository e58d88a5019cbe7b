"""What a client asks of a session, and what it gets, as values."""

from collections.abc import Mapping
from dataclasses import field
from enum import Enum, StrEnum
from typing import Any, Final

from app.engine.frozen import frozen
from app.persistence.records import Key, RunStatus, SessionStatus

__all__ = [
    "UNCHANGED",
    "Durability",
    "ForkRequest",
    "NewSessionRequest",
    "OnBusy",
    "RunOrder",
    "RunOutcome",
    "RunRequest",
    "SessionEdit",
    "Unchanged",
]


class Unchanged(Enum):
    """What is not to be changed, where None means something."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


class OnBusy(StrEnum):
    """What becomes of a request for a session that already runs."""

    REJECT = "reject"
    ENQUEUE = "enqueue"  # wait, behind those that wait already
    INTERRUPT = "interrupt"  # cancel the other run; what it has committed stays
    ROLLBACK = "rollback"  # cancel the other run, and return to where it began


class Durability(StrEnum):
    """When the steps of a run are committed."""

    SYNC = "sync"  # before the next action starts
    ASYNC = "async"  # while the next action runs
    EXIT = "exit"  # when the run ends


@frozen
class NewSessionRequest:
    """A session to create; None leaves the choice to the host. A `ttl_s` of infinity is that of a session that never expires."""

    machine: str
    id: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    partition_key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    ttl_s: float | None = None


@frozen
class ForkRequest:
    """A session that begins where another stood after step `seq` (None: where it stands now)."""

    seq: int | None = None
    id: str | None = None
    partition_key: str | None = None
    metadata: Mapping[str, Any] | None = None
    ttl_s: float | None = None


@frozen
class RunRequest:
    """How far a session is to go. Without halts and limits it goes on until no transition leads on.

    `is_background` says that nobody waits for it.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    halt_before: tuple[str, ...] = ()
    halt_after: tuple[str, ...] = ()
    max_steps: int | None = None
    timeout_s: float | None = None
    durability: Durability = Durability.SYNC
    on_busy: OnBusy = OnBusy.REJECT
    is_background: bool = False

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
        if self.durability is not Durability.SYNC:
            asked["durability"] = self.durability.value
        if self.on_busy is not OnBusy.REJECT:
            asked["on_busy"] = self.on_busy.value
        if self.is_background:
            asked["respond_async"] = True
        return asked

    @classmethod
    def from_parameters(cls, asked: Mapping[str, Any]) -> "RunRequest":
        """Return the request that has these `parameters`."""
        return cls(
            inputs=asked.get("inputs", {}),
            halt_before=tuple(asked.get("halt_before", ())),
            halt_after=tuple(asked.get("halt_after", ())),
            max_steps=asked.get("max_steps"),
            timeout_s=asked.get("timeout_s"),
            durability=Durability(asked.get("durability", Durability.SYNC)),
            on_busy=OnBusy(asked.get("on_busy", OnBusy.REJECT)),
            is_background=asked.get("respond_async", False),
        )


@frozen
class RunOrder:
    """A request that has become a run with an id.

    `key` makes it the same one when it comes again; `webhook` is told of its end; `is_resumed` says that it was stored before;
    `is_forwarded` that another replica waits for it, and will look for it elsewhere if this one goes. `kept_inputs` are the
    request's inputs as they were accepted: actions get the request's own, and may change them.
    """

    run_id: str
    request: RunRequest
    key: Key | None = None
    webhook: Mapping[str, Any] | None = field(default=None, repr=False)
    is_resumed: bool = False
    is_forwarded: bool = False
    kept_inputs: Mapping[str, Any] | None = field(default=None, repr=False)

    def parameters(self) -> dict[str, Any]:
        """What is stored and shown of the request."""
        asked = self.request.parameters()
        if self.kept_inputs:
            asked["inputs"] = dict(self.kept_inputs)
        return asked

    @property
    def is_promised(self) -> bool:
        """Whether somebody will ask for the run later: a shutdown or a database that is away does not end it then."""
        return self.request.is_background or self.key is not None or self.webhook is not None or self.is_resumed


@frozen
class SessionEdit:
    """A change that a person makes: keys of the state to set and to remove, and what else a session has.

    `metadata` is merged as RFC 7396 says. A `ttl_s` of infinity is that of a session that never expires.
    """

    set: Mapping[str, Any] = field(default_factory=dict)
    delete: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    partition_key: str | Unchanged | None = UNCHANGED
    ttl_s: float | Unchanged = UNCHANGED


@frozen
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
