"""Schedules of the store without a database."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.persistence.records import Key, RunStart
from app.persistence.schedules import Fired, ScheduleRecord
from app.persistence.store import ScheduleNotFound

__all__ = ["MemorySchedules"]


class MemorySchedules:
    """Kept until the process ends. `keep_key` keeps an idempotency key, `queue_run` stores a run that waits."""

    def __init__(self, keep_key: Callable[[Key], None], queue_run: Callable[[str, RunStart], Awaitable[None]]) -> None:
        self._keep_key = keep_key
        self._queue_run = queue_run
        self._schedules: dict[str, ScheduleRecord] = {}

    async def add(self, schedule: ScheduleRecord, key: Key | None = None) -> None:
        if key is not None:
            self._keep_key(key)
        self._schedules[schedule.id] = schedule

    async def get(self, schedule_id: str) -> ScheduleRecord:
        try:
            return self._schedules[schedule_id]
        except KeyError:
            raise ScheduleNotFound(schedule_id) from None

    async def page(self, limit: int, before_id: str | None = None) -> Sequence[ScheduleRecord]:
        chosen = [each for each in self._schedules.values() if before_id is None or each.id < before_id]
        return sorted(chosen, key=lambda each: each.id, reverse=True)[:limit]

    async def pause(self, schedule_id: str, is_paused: bool, next_at_s: float | None) -> ScheduleRecord:
        schedule = replace(await self.get(schedule_id), is_paused=is_paused, next_at_s=next_at_s)
        self._schedules[schedule_id] = schedule
        return schedule

    async def delete(self, schedule_id: str) -> None:
        await self.get(schedule_id)
        del self._schedules[schedule_id]

    async def due(self, now_s: float, machines: Collection[str], limit: int = 100) -> Sequence[ScheduleRecord]:
        found = [
            (each.next_at_s, each.id, each)
            for each in self._schedules.values()
            if each.next_at_s is not None and each.next_at_s <= now_s and (each.machine is None or each.machine in machines)
        ]
        return [each for _, _, each in sorted(found, key=lambda one: one[:2])][:limit]

    async def that_may_have_begun(self, run_id: str, session_id: str, schedule_id: str | None = None) -> Sequence[ScheduleRecord]:
        every = self._schedules.values()
        return [each for each in every if each.last_run_id == run_id or each.session_id == session_id or each.id == schedule_id]

    async def give_up(self, schedule_id: str, error: Mapping[str, Any]) -> None:
        known = self._schedules.get(schedule_id)
        if known is not None:
            self._schedules[schedule_id] = replace(known, is_paused=True, next_at_s=None, last_error=error)

    async def note_error(self, run_id: str, error: Mapping[str, Any]) -> None:
        for known in self._schedules.values():
            if known.last_run_id == run_id:
                self._schedules[known.id] = replace(known, last_error=error)
                return

    async def fire(self, schedule: ScheduleRecord, fired: Fired) -> bool:
        known = self._schedules.get(schedule.id)
        if known is None or known.next_at_s is None or known.next_at_s != schedule.next_at_s:
            return False
        if fired.start is not None and fired.session_id is not None:
            await self._queue_run(fired.session_id, fired.start)
        self._schedules[schedule.id] = replace(
            known,
            next_at_s=fired.next_at_s,
            last_at_s=known.next_at_s,
            last_run_id=known.last_run_id if fired.start is None else fired.start.run_id,
            last_error=fired.error,
        )
        return True
