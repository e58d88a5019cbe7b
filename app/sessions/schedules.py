"""Schedules: runs that begin at their time, of a session that is there or of a new one each time.

For each time that is due there is one run, whichever replica sees it first and whenever it dies: the schedule moves on in the
transaction that stores the run, and a session that is made for it has an id that says what it is for. What was missed while
nobody was there is made up for by one run.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from app.engine.errors import InvalidInputs, UnknownAction, UnknownTag
from app.engine.machine import Machine
from app.engine.serde import UnserializableValue
from app.persistence.records import Key, LoadedSession, RunStart
from app.persistence.schedules import Fired, ScheduleRecord
from app.persistence.store import KeyTaken, SessionExists, SessionNotFound, Store, StoreUnavailable, TextUnstorable
from app.persistence.transitions import check_new
from app.sessions.branching import made
from app.sessions.checks import check_request, check_waiting, refusal
from app.sessions.errors import KeyReused, MachineUnknown, ScheduleInvalid, SessionsError, ShuttingDown
from app.sessions.failures import type_of
from app.sessions.ids import check_id, new_id
from app.sessions.requests import NewSessionRequest, OnBusy, RunRequest
from app.sessions.rhythm import Rhythm
from app.sessions.scheduled_runs import session_for
from app.sessions.webhooks import Webhooks
from app.system.clocks import current_time_s

__all__ = ["ScheduleRequest", "Scheduler"]

_PAGE = 100
_REFUSALS = (InvalidInputs, UnknownAction, UnknownTag)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScheduleRequest:
    """What is to run when: on the session `session_id`, or on a new `session` each time."""

    rhythm: Rhythm
    run: RunRequest
    session_id: str | None = None
    session: NewSessionRequest | None = None
    webhook: Mapping[str, Any] | None = field(default=None, repr=False)
    is_paused: bool = False


class Scheduler:
    """The schedules of a store. `create_session` creates a session of a machine that is hosted here."""

    def __init__(
        self,
        store: Store,
        machines: Mapping[str, Machine],
        webhooks: Webhooks,
        create_session: Callable[[NewSessionRequest], Awaitable[LoadedSession]],
    ) -> None:
        self._store = store
        self._machines = machines
        self._webhooks = webhooks
        self._create_session = create_session

    async def create(self, request: ScheduleRequest, key: Key | None = None) -> ScheduleRecord:
        """Store a schedule, or return the one that was stored under `key`.

        Raises ScheduleInvalid, SessionNotFound, MachineUnknown, IdInvalid, WebhookInvalid, KeyReused, and for a run that could
        not begin UnknownAction, UnknownTag, InvalidInputs.
        """
        known = await self._known(key)
        if known is not None:
            return known
        now_s = current_time_s()
        plan = await self._plan_of(request)
        next_at_s = request.rhythm.next_after(now_s, now_s)
        if next_at_s is None:
            raise ScheduleInvalid("at", "must lie in the future")
        machine = None if request.session is None else request.session.machine
        next_at_s = None if request.is_paused else next_at_s
        schedule = ScheduleRecord(new_id(), request.session_id, machine, plan, request.is_paused, now_s, next_at_s)
        try:
            await self._store.schedules.add(schedule, _remembering(key, schedule))
        except KeyTaken:
            known = await self._known(key)  # the same request, at the same time
            if known is None:
                raise
            return known
        return schedule

    async def get(self, schedule_id: str) -> ScheduleRecord:
        """Raises ScheduleNotFound."""
        return await self._store.schedules.get(schedule_id)

    async def page(self, limit: int, before_id: str | None) -> Sequence[ScheduleRecord]:
        """Return schedules, newest first; with `before_id` those that come after that one."""
        return await self._store.schedules.page(limit, before_id)

    async def pause(self, schedule_id: str, is_paused: bool) -> ScheduleRecord:
        """Stop a schedule, or let it go on; what falls into a pause is left out. Raises ScheduleNotFound."""
        schedule = await self.get(schedule_id)
        if schedule.is_paused is is_paused:
            return schedule
        next_at_s = None if is_paused else Rhythm.from_plan(schedule.plan).next_after(current_time_s(), schedule.created_at_s)
        return await self._store.schedules.pause(schedule_id, is_paused, next_at_s)

    async def delete(self, schedule_id: str) -> None:
        """Remove a schedule; runs that it has begun go on. Raises ScheduleNotFound."""
        await self._store.schedules.delete(schedule_id)

    async def fire_due(self) -> None:
        """Begin what is due. Raises StoreUnavailable."""
        for schedule in await self._store.schedules.due(current_time_s(), list(self._machines), _PAGE):
            try:
                await self._fire(schedule)
            except (StoreUnavailable, ShuttingDown):
                raise
            except Exception:  # the border: one schedule that cannot be must not keep the others from their times
                logger.exception("a schedule failed", extra={"schedule_id": schedule.id})

    async def _fire(self, schedule: ScheduleRecord) -> None:
        now_s = current_time_s()
        next_at_s = Rhythm.from_plan(schedule.plan).next_after(now_s, schedule.created_at_s)
        request = RunRequest.from_parameters(schedule.plan["run"])
        try:
            await self._check(schedule, request)
            session_id = await self._session_of(schedule)
        except _REFUSALS as exc:
            await self._skip(schedule, next_at_s, refusal(exc, {}))
            return
        except ShuttingDown:
            raise  # it is still due, for whoever comes next
        except (SessionsError, UnserializableValue, TextUnstorable) as exc:
            await self._skip(schedule, next_at_s, {"type": "session-refused", "error_type": type_of(exc)})
            return
        if request.on_busy is OnBusy.REJECT:
            for run in await self._store.unfinished_runs_of(session_id):
                await self._skip(schedule, next_at_s, {"type": "session-busy", "run_id": run.id})
                return
        start = RunStart(new_id(), 0, now_s, request.parameters(), webhook=schedule.plan["webhook"])
        try:
            if await self._store.schedules.fire(schedule, Fired(next_at_s, session_id, start)):
                self._store.queue.put(start.run_id)
        except SessionNotFound:  # and it will not come back
            await self._skip(schedule, None, {"type": "session-not-found", "session_id": session_id})

    async def _check(self, schedule: ScheduleRecord, request: RunRequest) -> None:
        """Raise what the run that is due would be refused for, as far as it is known here."""
        if schedule.session_id is None:
            machine = self._machines[schedule.machine or ""]
            check_request(machine, request, machine.blueprint.entrypoint)
            return
        try:
            session = await self._store.get_session(schedule.session_id)
        except SessionNotFound:
            return  # as will be found when it is to be stored
        hosted = self._machines.get(session.machine)
        if hosted is not None and await self._store.unfinished_runs_of(session.id):
            check_waiting(hosted, request)
        elif hosted is not None:
            check_request(hosted, request, session.next_action)

    async def note_refusal(self, run_id: str, error: Mapping[str, Any]) -> None:
        """Let the schedule that has begun this run, if one has, say that it could not begin."""
        try:
            await self._store.schedules.note_error(run_id, error)
        except StoreUnavailable as exc:
            logger.warning("the error of a schedule could not be stored", extra={"run_id": run_id, "error": str(exc)})

    async def _session_of(self, schedule: ScheduleRecord) -> str:
        """Return the session of the run that is due; a new one is created, unless somebody has done so for this time."""
        if schedule.session_id is not None:
            return schedule.session_id
        plan = schedule.plan["session"]
        due = datetime.fromtimestamp(schedule.next_at_s or 0.0, UTC)
        session_id = session_for(schedule.id, f"{due:%Y%m%dT%H%M%S.%fZ}")
        wanted = NewSessionRequest(schedule.machine or "", session_id, plan["state"], plan["partition_key"], plan["metadata"])
        try:
            await self._create_session(wanted)
        except SessionExists:
            logger.info("a session of a schedule is there already", extra={"session_id": session_id})
        return session_id

    async def _skip(self, schedule: ScheduleRecord, next_at_s: float | None, error: Mapping[str, Any]) -> None:
        if await self._store.schedules.fire(schedule, Fired(next_at_s, error=error)):
            logger.warning("a schedule began no run", extra={"schedule_id": schedule.id, "error": error["type"]})

    async def _plan_of(self, request: ScheduleRequest) -> dict[str, Any]:
        """Return what is stored of a request, after a look at whether it can be."""
        if (request.session_id is None) is (request.session is None):
            raise ScheduleInvalid("session_id", "either session_id or session is needed, and only one of them")
        session = request.session
        if request.session_id is not None:
            known = await self._store.get_session(check_id(request.session_id, "session_id"))
            if known.machine in self._machines:
                check_waiting(self._machines[known.machine], request.run)
        if session is not None:
            machine = self._machines.get(session.machine)
            if machine is None:
                raise MachineUnknown(session.machine, sorted(self._machines))
            check_new(made(session, machine))
            check_request(machine, request.run, machine.blueprint.entrypoint)
        return {
            **request.rhythm.plan(),
            "run": replace(request.run, is_background=True).parameters(),
            "webhook": self._webhooks.accept(request.webhook),
            "session": None
            if session is None
            else {
                "state": dict(session.state),
                "partition_key": session.partition_key,
                "metadata": dict(session.metadata),
            },
        }

    async def _known(self, key: Key | None) -> ScheduleRecord | None:
        known = None if key is None else await self._store.find_key(key.digest)
        if key is None or known is None or known.answer is None:
            return None
        if known.request != key.request:
            raise KeyReused
        return ScheduleRecord(**known.answer["schedule"])


def _remembering(key: Key | None, schedule: ScheduleRecord) -> Key | None:
    """Return the key with the schedule as it is answered: without the secret of its webhook."""
    if key is None:
        return None
    kept = {each.name: getattr(schedule, each.name) for each in fields(schedule)}
    webhook = schedule.plan["webhook"]
    kept["plan"] = {**schedule.plan, "webhook": None if webhook is None else {"url": webhook["url"]}}
    return replace(key, answer={"schedule": kept})
