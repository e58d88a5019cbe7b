"""When something is due: by the clock of a place, every so often, or once. Performs no I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from app.sessions.errors import ScheduleInvalid
from app.sessions.times import rfc3339

__all__ = ["Rhythm"]

_FIELDS = 5
_SHORTEST_S = 1.0
_LONGEST_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """One of `cron` (five fields, read in `time_zone`), `every_s` seconds from when it was made, or once at the time `at`."""

    cron: str | None = None
    time_zone: str | None = None
    every_s: float | None = None
    at: str | None = None

    def __post_init__(self) -> None:
        """Raises ScheduleInvalid, which names the part that is wrong."""
        given = [name for name in ("cron", "every_s", "at") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ScheduleInvalid("cron", f"one of cron, every_s and at is needed, and only one; found {given or 'none'}")
        if self.time_zone is not None and self.cron is None:
            raise ScheduleInvalid("time_zone", "belongs to cron: `at` brings its own")
        if self.every_s is not None and not _SHORTEST_S <= self.every_s <= _LONGEST_S:
            raise ScheduleInvalid("every_s", f"must be {_SHORTEST_S:g} to {_LONGEST_S:g} seconds")
        if self.at is not None:
            _moment(self.at)
        if self.cron is not None:
            self._zone()
            self.next_after(0.0, 0.0)

    def next_after(self, after_s: float, made_at_s: float) -> float | None:
        """Return the first time after `after_s` at which it is due, None if there is none; it was made at `made_at_s`."""
        if self.every_s is not None:
            periods = max(0, math.floor((after_s - made_at_s) / self.every_s))
            due_s = made_at_s + periods * self.every_s
            while due_s <= after_s or due_s <= made_at_s:  # not computed at once: the sum may be rounded down
                periods += 1
                due_s = made_at_s + periods * self.every_s
            return due_s
        if self.at is not None:
            at_s = _moment(self.at)
            return at_s if at_s > after_s else None
        try:
            return next(self._ticks(after_s)).timestamp()
        except StopIteration:
            raise ScheduleInvalid("cron", "is never due") from None

    def _ticks(self, after_s: float) -> CronSim:
        expression = self.cron or ""
        if len(expression.split()) != _FIELDS:
            raise ScheduleInvalid("cron", "has five fields: minute, hour, day of the month, month, day of the week")
        try:
            return CronSim(expression, datetime.fromtimestamp(after_s, self._zone()))
        except CronSimError as exc:
            raise ScheduleInvalid("cron", f"{expression[:60]!r} cannot be read: {str(exc).lower()}") from None

    def _zone(self) -> ZoneInfo:
        name = self.time_zone or "UTC"
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ScheduleInvalid("time_zone", f"{name[:60]!r} is unknown; it is a name like 'Europe/Berlin'") from None

    def plan(self) -> dict[str, Any]:
        """What is stored of it."""
        return {"cron": self.cron, "time_zone": self.time_zone, "every_s": self.every_s, "at": self.at}

    @classmethod
    def from_plan(cls, plan: Mapping[str, Any]) -> "Rhythm":
        return cls(plan["cron"], plan["time_zone"], plan["every_s"], plan["at"])


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        example = rfc3339(0.0)
        raise ScheduleInvalid("at", f"must be a time with an offset (RFC 3339), like {example}") from None
