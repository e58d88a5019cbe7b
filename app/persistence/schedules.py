"""Schedules as a store keeps them: when each is due next, and what came of the last time. What a plan says is not known here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from app.persistence.records import Key, RunStart

__all__ = ["Fired", "ScheduleRecord", "Schedules"]


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule. Its runs are for the session `session_id`, or each for a new one of `machine`.

    `next_at_s` is None while it is paused, and when nothing is to come any more. `last_error` says why there was no run the
    last time, why it could not begin, or why the schedule was paused.
    """

    id: str
    session_id: str | None
    machine: str | None
    plan: Mapping[str, Any]
    is_paused: bool
    created_at_s: float
    next_at_s: float | None
    last_at_s: float | None = None
    last_run_id: str | None = None
    last_error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Fired:
    """What came of a schedule at its time: the start of a run of a session, or why there is none; and when it is due next."""

    next_at_s: float | None
    session_id: str | None = None
    start: "RunStart | None" = None
    error: Mapping[str, Any] | None = None


class Schedules(Protocol):
    """Methods raise StoreUnavailable."""

    async def add(self, schedule: ScheduleRecord, key: "Key | None" = None) -> None:
        """Raises KeyTaken."""
        ...

    async def get(self, schedule_id: str) -> ScheduleRecord:
        """Raises ScheduleNotFound."""
        ...

    async def page(self, limit: int, before_id: str | None = None) -> Sequence[ScheduleRecord]:
        """Return schedules with ids below `before_id`, newest first."""
        ...

    async def pause(self, schedule_id: str, is_paused: bool, next_at_s: float | None) -> ScheduleRecord:
        """Stop a schedule, or let it go on at `next_at_s`; return it as it is then. Raises ScheduleNotFound."""
        ...

    async def delete(self, schedule_id: str) -> None:
        """Raises ScheduleNotFound."""
        ...

    async def due(self, now_s: float, machines: Collection[str], limit: int = 100) -> Sequence[ScheduleRecord]:
        """Return schedules of which the time has come, oldest first; of those that make sessions only these `machines`'."""
        ...

    async def fire(self, schedule: ScheduleRecord, fired: Fired) -> bool:
        """Store what came of a schedule at the time that it names, and the run with it, if nobody has done so: whether it was so.

        Raises SessionNotFound.
        """
        ...

    async def that_may_have_begun(self, run_id: str, session_id: str, schedule_id: str | None = None) -> Sequence[ScheduleRecord]:
        """Return the schedules whose last run is `run_id`, those of the session, and the one with this id, if there is one."""
        ...

    async def give_up(self, schedule_id: str, error: Mapping[str, Any]) -> None:
        """Pause a schedule, and store why. Does nothing if it is gone."""
        ...

    async def note_error(self, run_id: str, error: Mapping[str, Any]) -> None:
        """Store why the run with this id could not begin with the schedule of which it is the last one, if there is one."""
        ...
