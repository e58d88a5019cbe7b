"""A session in memory: where it stands after its last commit, and who works on it."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from app.engine.application import Application
from app.engine.machine import Machine
from app.engine.serde import UnreadableValue
from app.persistence.records import LoadedSession, SessionRecord, SessionStatus
from app.sessions.errors import MachineChanged, SessionBusy
from app.sessions.phases import MOVES, IllegalMove, Phase
from app.sessions.stream import EventStream
from app.system.clocks import current_time_s

if TYPE_CHECKING:
    from app.sessions.run import Run
    from app.sessions.turns import Turn

__all__ = ["LiveSession"]

_OCCUPIED = (Phase.EDITING, Phase.DELETING)


@dataclass(slots=True, eq=False)
class LiveSession:
    """One session of this process. Only its run, or an edit while there is none, moves it.

    `loaded` is the record as it was read: what of it never changes is still true. `state` holds the user's keys only, its values
    frozen.
    """

    id: str
    loaded: SessionRecord
    machine: Machine
    stream: EventStream
    state: Mapping[str, Any]
    seq: int
    prior_action: str | None
    next_action: str | None
    status: SessionStatus
    updated_at_s: float
    touched_s: float = 0.0
    run: "Run | None" = None
    line: "deque[Turn]" = field(default_factory=deque)  # who waits until the session is free
    has_unread_line: bool = False  # a run has been stored that is to stand in the line
    phase: Phase = Phase.OPEN
    _waiters: "list[asyncio.Future[None]]" = field(default_factory=list)  # for the end of an edit or a deletion
    unreadable: Mapping[str, UnreadableValue] = field(default_factory=dict)  # keys of the state that no run can do without
    _application: "Application[Any] | None" = None

    @classmethod
    def of(cls, loaded: LoadedSession, state: Mapping[str, Any], machine: Machine, stream: EventStream) -> "LiveSession":
        """Return the session as the store has it; `state` is its state, frozen."""
        record = loaded.record
        return cls(
            record.id,
            record,
            machine,
            stream,
            state,
            record.seq,
            record.prior_action,
            record.next_action,
            record.status,
            record.updated_at_s,
            unreadable=loaded.unreadable,
        )

    @property
    def claim_no(self) -> int:
        """The number of the claim under which it was read: a later one is somebody else's."""
        return self.loaded.claim_no

    @property
    def is_occupied(self) -> bool:
        return self.run is not None or self.phase in _OCCUPIED

    @property
    def is_busy(self) -> bool:
        """Whether somebody has the session, or waits for it."""
        return self.run is not None or bool(self.line) or self.phase in _OCCUPIED

    @property
    def is_stale(self) -> bool:
        """Whether the store may have something else: nothing begins here any more."""
        return self.phase is Phase.STALE

    @property
    def has_expired(self) -> bool:
        """Whether nothing has happened in the session for as long as it was to live."""
        ttl_s = self.loaded.ttl_s
        return ttl_s is not None and not self.is_busy and self.updated_at_s + ttl_s <= current_time_s()

    def move(self, phase: Phase) -> None:
        """Change the phase. Raises IllegalMove."""
        if phase not in MOVES[self.phase]:
            raise IllegalMove(self.id, self.phase, phase)
        self.phase = phase
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def settled(self) -> None:
        """Return when no edit and no deletion of the session is under way."""
        while self.phase in _OCCUPIED:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def require_idle(self) -> None:
        """Raises SessionBusy."""
        if self.is_busy:
            raise SessionBusy(self.id, None if self.run is None else self.run.id)

    def application(self) -> "Application[Any]":
        """The engine's object, standing where the session stands. Raises MachineChanged."""
        application = self._application
        if application is None:
            blueprint = self.machine.blueprint
            if self.prior_action is not None and self.prior_action not in blueprint.graph.action_names:
                raise MachineChanged(self.id, self.machine.name, self.prior_action)
            application = self._application = blueprint.instantiate(
                app_id=self.id,
                partition_key=self.loaded.partition_key,
                state=self.state,
                seq=self.seq,
                prior_action=self.prior_action,
            )
        return application

    def forget_application(self) -> None:
        """The next run starts from what is committed: the engine's object may have gone further, or be broken."""
        self._application = None

    def record(self) -> SessionRecord:
        """The session without its state, as it is now."""
        return replace(
            self.loaded,
            status=SessionStatus.RUNNING if self.is_busy else self.status,
            seq=self.seq,
            prior_action=self.prior_action,
            next_action=self.next_action,
            updated_at_s=self.updated_at_s,
            last_event_id=self.stream.last_id,
        )
