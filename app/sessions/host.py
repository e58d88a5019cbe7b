"""The host: every session of this process, and everything that a client can ask of one. No HTTP in here.

A cold session is read from the store and comes alive when it is to run; a look at one leaves it where it is.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from app.engine.machine import Machine
from app.engine.serde import refuse_classes_of_main
from app.engine.state import values_of
from app.executors.guarding import guard_stop, guard_tasks
from app.executors.ladder import Executors
from app.executors.notices import Notice
from app.executors.travel import MachineSource
from app.persistence.records import (
    Key,
    LoadedSession,
    RunRecord,
    SessionFilter,
    SessionPage,
    SessionRecord,
    SessionStatus,
)
from app.persistence.schedules import ScheduleRecord
from app.persistence.store import ClaimLost, Store, StoreError
from app.persistence.texts import require_storable
from app.sessions.active_runs import ActiveRuns
from app.sessions.branching import forked, made
from app.sessions.caretaker import Caretaker
from app.sessions.deleting import Deletions
from app.sessions.dispatch import Dispatcher
from app.sessions.editing import merged, write_edit
from app.sessions.errands import Errands
from app.sessions.errors import MachineUnknown, SeqMismatch, SessionEnded, ShuttingDown
from app.sessions.events import Event, EventType, WarningGiven
from app.sessions.followers import follow_past, follow_session
from app.sessions.history import History
from app.sessions.host_settings import HostSettings
from app.sessions.housekeeping import Housekeeping
from app.sessions.ids import new_id
from app.sessions.inputs import kept_inputs
from app.sessions.keyed import recalled
from app.sessions.listing import as_running, running_page, with_running
from app.sessions.live import LiveSession
from app.sessions.newcomers import Newcomers
from app.sessions.readable import require_readable
from app.sessions.recovery import Recovery
from app.sessions.registry import Registry
from app.sessions.requests import ForkRequest, NewSessionRequest, RunOrder, RunOutcome, RunRequest, SessionEdit
from app.sessions.run import Run
from app.sessions.run_desk import RunDesk, RunHandle, require_seq
from app.sessions.schedules import Scheduler, ScheduleRequest
from app.sessions.webhooks import Webhooks
from app.system.host_threads import HostThreads

__all__ = ["SessionHost"]

_LOADER = "app.sessions.loading:load_machine"  # what a worker process calls to find a machine by its origin
_CARE_INTERVAL_S = 0.25
_RECOVERY_INTERVAL_S = 1.0
_IDS_INTERVAL_S = 1.0
_LOST_INTERVAL_S = 10.0
_SCHEDULE_INTERVAL_S = 0.5
_KEYS_INTERVAL_S = 600.0
_DRAWING_THREADS = 2  # of their own: a drawing may take long, and nothing else waits behind it
REQUESTED = "requested"  # the reason of a run that a client has cancelled


class SessionHost:
    """Sessions of the given machines, kept in `store`. `async with` opens the store, and drains and closes at the end."""

    def __init__(self, machines: Sequence[Machine], store: Store, settings: HostSettings | None = None) -> None:
        self.settings = settings or HostSettings()
        self.machines: Mapping[str, Machine] = {machine.name: machine for machine in machines}
        self.store = store
        self.is_draining = False
        self.drawing_threads = HostThreads("draw", _DRAWING_THREADS)
        self.executors = Executors(self.settings.executors, notify=self._take_notice)
        for machine in machines:
            source = None if machine.origin is None else MachineSource(_LOADER, machine.origin)
            actions = machine.blueprint.graph.actions
            self.executors.register(
                machine.name,
                source=source,
                executor=machine.options.executor,
                actions=actions,
                redirect=machine.blueprint.redirect,
            )
        self._errands = Errands()
        self.runs = ActiveRuns(store, self.executors, self._errands, self._run_ended)
        self.desk = RunDesk(store, self.runs, self._alive)
        self.registry = Registry(
            store,
            self.machines,
            limit=self.settings.max_live_sessions,
            idle_ttl_s=self.settings.idle_ttl_s,
            event_capacity=self.settings.event_buffer,
            claims=self.settings.claims,
            resume=self.desk.resumer.resume_all,
            on_drop=self._dropped,
            on_buried=self._take_over,
        )
        self.residents = self.registry.residents
        self.claims = self.registry.claims
        self._recovery = Recovery(store, self.desk, self.registry.own)
        self.webhooks = Webhooks(store, self.settings.webhooks)
        self.schedules = Scheduler(store, self.machines, self.webhooks, self.create)
        self._dispatcher = Dispatcher(store, self.desk, self._recovery)
        self._housekeeping = Housekeeping(store, self.residents, self.machines, self.settings.retention, self.settings.key_ttl_s)
        self._deletions = Deletions(store, self.registry, self.desk.turns, self._let_next_begin)
        self._newcomers = Newcomers(store, self.registry, self._housekeeping)
        self.history = History(store, self.residents, self.runs, self.desk, self.record, self.machines, self._require_open)
        self.has_drained = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._resources = AsyncExitStack()

    # from the start of the service to its end

    async def __aenter__(self) -> Self:
        refuse_classes_of_main()
        async with AsyncExitStack() as stack:
            stack.callback(self.drawing_threads.close)
            await self.store.open()
            stack.push_async_callback(self.store.close)
            await stack.enter_async_context(self.executors)
            stack.callback(guard_tasks(asyncio.get_running_loop()))
            stack.callback(guard_stop(asyncio.get_running_loop()))
            await self.claims.join(self.settings.url)
            stack.push_async_callback(self.claims.leave)
            stack.push_async_callback(self.store.queue.end)
            stack.push_async_callback(self._errands.close)
            self.webhooks.start()
            stack.push_async_callback(self.webhooks.close)
            for interval_s, chores in (
                (_CARE_INTERVAL_S, [self.registry.expire, self.claims.release]),
                (_RECOVERY_INTERVAL_S, [self._recovery.now_and_then, self.store.queue.tend]),
                (_IDS_INTERVAL_S, [self.store.replicas.reserve_ids]),
                (_LOST_INTERVAL_S, [self._recovery.look_for_lost, self.store.tend]),
                (_SCHEDULE_INTERVAL_S, [self._fire_what_is_due]),
                (self.settings.housekeeping_s, [self._housekeeping.purge, self._housekeeping.trim]),
                (_KEYS_INTERVAL_S, [self._housekeeping.forget_keys]),
            ):
                caretaker = Caretaker(interval_s, chores)
                caretaker.start()
                stack.push_async_callback(caretaker.stop)
            stack.push_async_callback(self.drain)
            await self._recovery.after_start()
            await self.store.queue.open(self._dispatcher.take)
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self._resources.aclose()

    def begin_drain(self) -> None:
        """Take no new work from now on, and bring everything to its end. Returns at once; may be called again."""
        self.is_draining = True
        self.store.queue.close()
        self.desk.close()
        self._draining = self._draining or asyncio.get_running_loop().create_task(self._drain())

    async def drain(self) -> None:
        """Take no new work, and return when every run has ended and every follower has been told."""
        self.begin_drain()
        if self._draining is not None:
            await asyncio.shield(self._draining)

    # sessions

    def machine(self, name: str) -> Machine:
        """Return a machine by name. Raises MachineUnknown."""
        try:
            return self.machines[name]
        except KeyError:
            raise MachineUnknown(name, sorted(self.machines)) from None

    async def create(self, request: NewSessionRequest, key: Key | None = None) -> LoadedSession:
        """Create a session, or return the one that was created under `key`, as it was then.

        Raises MachineUnknown, IdInvalid, SessionExists, KeyReused, ShuttingDown.
        """
        self._require_open()
        known = await recalled(self.store, key)
        if known is not None:
            return require_readable(known, self.machines)
        self.settings.metadata.check(request.metadata)
        new = made(request, self.machine(request.machine), self.settings.session_ttl_s)
        return await self._newcomers.add(new, key)

    async def fork(self, session_id: str, request: ForkRequest, key: Key | None = None) -> LoadedSession:
        """Create a session that begins at a step of another.

        Raises as `create`, and SessionNotFound, StepNotFound, StateUnreadable.
        """
        self._require_open()
        known = await recalled(self.store, key)
        if known is not None:
            return require_readable(known, self.machines)
        self.settings.metadata.check(request.metadata or {})
        parent = await self.record(session_id)
        return await self._newcomers.add(await forked(self.store, parent, request, self.registry.hosted(parent)), key)

    async def get(self, session_id: str) -> LoadedSession:
        """Return a session with its state. Raises SessionNotFound, StateUnreadable, and MachineNotHosted if that is why."""
        await self._look_after(session_id)
        live = self.residents.get(session_id)
        if live is not None:
            return require_readable(LoadedSession(live.record(), dict(values_of(live.state)), live.unreadable), self.machines)
        loaded = require_readable(await self.store.load_session(session_id), self.machines)
        return LoadedSession(as_running(loaded.record), loaded.state)

    async def record(self, session_id: str) -> SessionRecord:
        """Return a session without its state. Raises SessionNotFound."""
        await self._look_after(session_id)
        live = self.residents.get(session_id)
        return as_running(await self.store.get_session(session_id)) if live is None else live.record()

    async def list_sessions(self, which: SessionFilter, limit: int, cursor: str | None) -> SessionPage:
        """Return a page of sessions, newest first. Raises CursorInvalid, TextUnstorable."""
        require_storable("a filter", [which.machine, which.partition_key, which.metadata])
        if which.status is SessionStatus.RUNNING and not self.claims.is_shared:
            return running_page(self.residents, which, limit, cursor)
        return with_running(await self.store.list_sessions(which, limit, cursor), self.residents, which)

    async def delete(self, session_id: str, expected: Collection[int] | None = None) -> None:
        """Remove a session and all that belongs to it; a run of it is cancelled. Raises SessionNotFound, SeqMismatch."""
        self._require_open()
        await self._deletions.delete(session_id, expected)

    async def edit(self, session_id: str, edit: SessionEdit, expected: Collection[int] | None = None) -> LoadedSession:
        """Change the state, or what else a session has, by hand, as a step of its own kind.

        Raises SessionNotFound, SessionBusy, SeqMismatch.
        """
        self._require_open()
        live = await self._alive(session_id)
        live.require_idle()
        require_seq(live, expected)
        if any(value is not None for value in edit.metadata.values()):
            self.settings.metadata.check(merged(live.loaded.metadata, edit.metadata))
        try:
            await write_edit(self.store, live, edit)
        except StoreError:
            self.residents.remove(live)  # what the store has may be something else than what we hold
            self.desk.resumer.left.add(session_id)
            raise
        finally:
            self._let_next_begin(live)
        return LoadedSession(live.record(), dict(values_of(live.state)), live.unreadable)

    # runs

    async def start(
        self,
        session_id: str,
        request: RunRequest,
        expected: Collection[int] | None = None,
        *,
        run_id: str | None = None,
        may_be_known: bool = False,
        key: Key | None = None,
        webhook: Mapping[str, Any] | None = None,
    ) -> RunHandle:
        """Start a run. With a `key` that was used, or a `run_id` that `may_be_known`, return what was started then.

        Raises SessionNotFound, SessionBusy, SeqMismatch, MachineNotHosted, StateUnreadable, KeyReused, ClaimedElsewhere,
        WebhookInvalid, ShuttingDown. What is wrong with the request itself is raised by the run's `begun` and `outcome`.
        """
        self._require_open()
        if self.claims.is_late or session_id in self.desk.resumer.left:
            await self._look_after(session_id)
        live = self.residents.get(session_id) or await self._alive(session_id)
        self.residents.touch(live, asyncio.get_running_loop().time())
        webhook = self.webhooks.accept(webhook)
        kept = kept_inputs(request.inputs)
        order = RunOrder(run_id or new_id(), request, key, webhook, is_forwarded=run_id is not None, kept_inputs=kept)
        return await self.desk.start(live, order, expected, may_be_known=may_be_known)

    async def step(self, session_id: str, inputs: Mapping[str, Any], expected: Collection[int] | None = None) -> RunOutcome:
        """Run one action and return what came of it. Raises as `start` and the run's `outcome`, and SessionEnded."""
        return await self.step_of(await self.start(session_id, RunRequest(inputs, max_steps=1), expected))

    async def step_of(self, run: RunHandle) -> RunOutcome:
        """Return what came of a run of one step. Raises as its `outcome`, and SessionEnded."""
        outcome = await run.outcome()
        if not outcome.steps:
            raise SessionEnded(outcome.session_id, outcome.seq)
        return outcome

    async def queue(
        self,
        session_id: str,
        request: RunRequest,
        expected: Collection[int] | None = None,
        *,
        key: Key | None = None,
        webhook: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """Accept a run that nobody waits for, and return it as it is stored. Raises as `start`."""
        self._require_open()
        record = await self.history.require_readable(session_id)
        machine = self.registry.hosted(record)
        if expected is not None and record.seq not in expected:
            raise SeqMismatch(session_id, record.seq)
        webhook = self.webhooks.accept(webhook)
        kept = kept_inputs(request.inputs)
        order = RunOrder(new_id(), replace(request, is_background=True), key, webhook, kept_inputs=kept)
        queued = await self.desk.queue(record, machine, order)
        if (live := self.residents.get(session_id)) is not None:
            live.has_unread_line = True  # whoever asks for a run of it from now on comes later
        self.store.queue.put(queued.id)
        return queued

    async def create_schedule(self, request: ScheduleRequest, key: Key | None = None) -> ScheduleRecord:
        """Let runs begin at given times. Raises as `Scheduler.create`, and ShuttingDown."""
        self._require_open()
        if request.session is not None:
            self.settings.metadata.check(request.session.metadata)
        return await self.schedules.create(request, key)

    async def cancel_run(self, run_id: str) -> RunRecord:
        """End a run, and return it as it is then; one that has ended already stays as it is. Raises RunNotFound."""
        run = self.runs.get(run_id)
        if run is not None:
            run.cancel(REQUESTED)
            await run.ended()
            run.require_settled()
            if record := run.journal.record():
                return record
        return await self.desk.cancel_waiting(run_id, REQUESTED)

    # events

    async def own(self, session_id: str) -> SessionRecord:
        """Make sure that what happens in a session happens here. Raises SessionNotFound, ClaimedElsewhere."""
        return await self.registry.own(session_id)

    def follow(
        self, session_id: str, *, after: int, run_id: str | None = None, ended: int | None = None
    ) -> AsyncGenerator[Event | None, None]:
        """Yield events of a session, or of one run of it, above `after`; None after each `ping_s` seconds of silence.

        Ends after the last event of the run, which is `ended` if it is known, with the session, or with the service. Raises
        SessionNotFound.
        """
        if run_id is not None and ended is not None:
            return follow_past(self.store, session_id, run_id, after=after, ended=ended)
        return follow_session(self.residents, self.store, session_id, after=after, run_id=run_id, ping_s=self.settings.ping_s)

    def _require_open(self) -> None:
        if self.is_draining:
            raise ShuttingDown

    async def _look_after(self, session_id: str) -> None:
        """Make sure that what is in memory is still ours, and that no run of the session is left behind."""
        if self.claims.is_late:
            await self.claims.confirm()
        if session_id in self.desk.resumer.left:
            await self._recovery.look_after(session_id)

    async def _alive(self, session_id: str) -> LiveSession:
        return await self.registry.alive(session_id)

    def _run_ended(self, run: Run) -> None:
        live = run.live
        self.desk.ended(run)
        if run.order.webhook is not None:
            self.webhooks.look()
        if run.refusal is not None and run.order.request.is_background:
            self._errands.start(self.schedules.note_refusal(run.id, run.refusal))
        if run.is_open and self.is_draining:
            self._give_up(live)
        elif not live.is_stale:
            live.stream.let_go()
            self.residents.touch(live, asyncio.get_running_loop().time())
        elif not self.residents.holds(live):
            pass  # it was read again meanwhile, or another replica has it
        elif isinstance(run.store_error, ClaimLost):
            self._dropped(live)
            self.residents.close_session(live.id)
        else:
            self.residents.remove(live)
        self._let_next_begin(live)

    def _give_up(self, live: LiveSession) -> None:
        """Let another replica have a session at once: its followers go, and look for it there."""
        self.residents.close_session(live.id)
        self.claims.let_go(live.id)

    def _let_next_begin(self, live: LiveSession) -> None:
        if not live.is_stale:
            self.desk.turns.next(live)
        elif live.line:
            self._errands.start(self._move_line(live))

    async def _move_line(self, live: LiveSession) -> None:
        """Let those who wait for a session that was dropped wait for the same one, read again."""
        try:
            self.desk.turns.move(live, await self._alive(live.id))
        except Exception as exc:  # the border to whoever waits: all of them are told
            error = exc
            self.desk.turns.fail(live, lambda: error)

    def _dropped(self, live: LiveSession) -> None:
        """Another replica may have the session now."""
        if live.run is not None:
            self.runs.abandon(live.run)
        self.desk.turns.fail(live, lambda: ClaimLost(live.id))

    def _take_over(self) -> None:
        """A replica is dead: what it had under way need not wait until somebody looks."""
        self._errands.start(self._recovery.now_and_then())

    def _take_notice(self, notice: Notice) -> None:
        live = None if notice.session_id is None else self.residents.get(notice.session_id)
        if live is not None:
            given = WarningGiven(notice.kind.value, notice.machine, notice.action, notice.message, notice.details)
            live.stream.emit(EventType.WARNING, None if live.run is None else live.run.id, given)

    async def _fire_what_is_due(self) -> None:
        with contextlib.suppress(ShuttingDown):
            self._require_open()
            await self.schedules.fire_due()

    async def _drain(self) -> None:
        if self.claims.is_shared:
            for live in self.residents:
                if not live.is_busy:
                    self._give_up(live)
        await self.runs.drain(self.settings.shutdown_grace_s)
        self.has_drained.set()
        self.residents.end()
