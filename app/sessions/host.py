"""The host: every session of this process, and everything that a client can ask of one. No HTTP in here.

A cold session is read from the store and comes alive when it is to run; a look at one leaves it where it is.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from app.engine.machine import Machine
from app.executors.ladder import Executors, ExecutorSettings
from app.executors.notices import Notice
from app.executors.travel import MachineSource
from app.persistence.records import (
    LoadedSession,
    NewSession,
    RunRecord,
    SessionFilter,
    SessionPage,
    SessionRecord,
    SessionStatus,
    StepRecord,
)
from app.persistence.store import Store
from app.persistence.texts import require_storable
from app.persistence.transitions import created
from app.sessions.active_runs import ActiveRuns
from app.sessions.branching import forked, made
from app.sessions.caretaker import Caretaker
from app.sessions.editing import write_edit
from app.sessions.errors import MachineNotHosted, MachineUnknown, SeqMismatch, SessionEnded, ShuttingDown
from app.sessions.events import Event, EventType, WarningGiven
from app.sessions.followers import follow_session
from app.sessions.listing import running_page, with_running
from app.sessions.live import LiveSession
from app.sessions.recovery import close_interrupted_runs
from app.sessions.requests import ForkRequest, NewSessionRequest, RunOutcome, RunRequest, StateEdit
from app.sessions.residents import Residents
from app.sessions.run import Run

__all__ = ["HostSettings", "SessionHost"]

_LOADER = "app.sessions.loading:load_machine"  # what a worker process calls to find a machine by its origin
_CARE_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a host treats its sessions. Times in seconds.

    `event_buffer` is the number of events that a session keeps in memory for its followers.
    """

    idle_ttl_s: float = 300.0
    max_live_sessions: int = 10_000
    event_buffer: int = 512
    ping_s: float = 15.0
    shutdown_grace_s: float = 10.0
    executors: ExecutorSettings = field(default_factory=ExecutorSettings)


class SessionHost:
    """Sessions of the given machines, kept in `store`. `async with` opens the store, and drains and closes at the end."""

    def __init__(self, machines: Sequence[Machine], store: Store, settings: HostSettings | None = None) -> None:
        self.settings = settings or HostSettings()
        self.machines: Mapping[str, Machine] = {machine.name: machine for machine in machines}
        self.store = store
        self.is_draining = False
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
        self.runs = ActiveRuns(store, self.executors, self._run_ended)
        self.residents = Residents(
            limit=self.settings.max_live_sessions,
            idle_ttl_s=self.settings.idle_ttl_s,
            event_capacity=self.settings.event_buffer,
        )
        self._loading: dict[str, asyncio.Task[LiveSession]] = {}
        self._draining: asyncio.Task[None] | None = None
        self._resources = AsyncExitStack()

    # from the start of the service to its end

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self.store.open()
            stack.push_async_callback(self.store.close)
            await close_interrupted_runs(self.store)
            await stack.enter_async_context(self.executors)
            caretaker = Caretaker(_CARE_INTERVAL_S, [self.runs.secure_starts, self._let_idle_sessions_go])
            caretaker.start()
            stack.push_async_callback(caretaker.stop)
            stack.push_async_callback(self.drain)
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self._resources.aclose()

    def begin_drain(self) -> None:
        """Take no new work from now on, and bring everything to its end. Returns at once; may be called again."""
        self.is_draining = True
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

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

    async def create(self, request: NewSessionRequest) -> LoadedSession:
        """Create a session. Raises MachineUnknown, IdInvalid, SessionExists, ShuttingDown."""
        self._require_open()
        return await self._store_new(made(request, self.machine(request.machine)))

    async def fork(self, session_id: str, request: ForkRequest) -> LoadedSession:
        """Create a session that begins at a step of another. Raises as `create`, and SessionNotFound, StepNotFound."""
        self._require_open()
        parent = await self.record(session_id)
        return await self._store_new(await forked(self.store, parent, request, self._hosted(parent)))

    async def get(self, session_id: str) -> LoadedSession:
        """Return a session with its state. Raises SessionNotFound."""
        live = self.residents.get(session_id)
        return await self.store.load_session(session_id) if live is None else LoadedSession(live.record(), dict(live.state))

    async def record(self, session_id: str) -> SessionRecord:
        """Return a session without its state. Raises SessionNotFound."""
        live = self.residents.get(session_id)
        return await self.store.get_session(session_id) if live is None else live.record()

    async def list_sessions(self, which: SessionFilter, limit: int, cursor: str | None) -> SessionPage:
        """Return a page of sessions, newest first. Raises CursorInvalid, TextUnstorable."""
        require_storable("a filter", [which.machine, which.partition_key, which.metadata])
        if which.status is SessionStatus.RUNNING:
            return running_page(self.residents, which, limit, cursor)
        return with_running(await self.store.list_sessions(which, limit, cursor), self.residents, which)

    async def delete(self, session_id: str, expected: Collection[int] | None = None) -> None:
        """Remove a session and all that belongs to it; a run of it is cancelled. Raises SessionNotFound, SeqMismatch."""
        self._require_open()
        live = self.residents.get(session_id)
        seq = (await self.store.get_session(session_id)).seq if live is None else live.seq
        _require_seq(session_id, seq, expected)
        if live is not None:
            live.is_closing = True
            if live.run is not None:
                live.run.cancel("deleted")
                await live.run.ended()
        await self.store.delete_session(session_id)
        self.residents.close_session(session_id)

    async def edit(self, session_id: str, edit: StateEdit, expected: Collection[int] | None = None) -> LoadedSession:
        """Change the state by hand, as a step of its own kind. Raises SessionNotFound, SessionBusy, SeqMismatch."""
        self._require_open()
        live = await self._alive(session_id)
        live.require_idle()
        _require_seq(session_id, live.seq, expected)
        await write_edit(self.store, live, edit)
        return LoadedSession(live.record(), dict(live.state))

    # runs

    async def start(self, session_id: str, request: RunRequest, expected: Collection[int] | None = None) -> Run:
        """Start a run. Raises SessionNotFound, SessionBusy, SeqMismatch, MachineNotHosted, ShuttingDown.

        What is wrong with the request itself is raised by the run's `begun` and `outcome`.
        """
        self._require_open()
        live = self.residents.get(session_id) or await self._alive(session_id)
        live.require_idle()
        _require_seq(session_id, live.seq, expected)
        self.residents.touch(live, asyncio.get_running_loop().time())
        return self.runs.start(live, request)

    async def step(self, session_id: str, inputs: Mapping[str, Any], expected: Collection[int] | None = None) -> RunOutcome:
        """Run one action and return what came of it. Raises as `start` and the run's `outcome`, and SessionEnded."""
        run = await self.start(session_id, RunRequest(inputs=inputs, max_steps=1), expected)
        outcome = await run.outcome()
        if not outcome.steps:
            raise SessionEnded(session_id, outcome.seq)
        return outcome

    async def get_run(self, run_id: str) -> RunRecord:
        """Return a run as it is now. Raises RunNotFound."""
        run = self.runs.get(run_id)
        record = None if run is None else run.journal.record()
        return record or await self.store.get_run(run_id)

    async def list_runs(self, session_id: str, *, after_event_id: int, limit: int) -> Sequence[RunRecord]:
        """Return runs of a session of which an event has an id above `after_event_id`, oldest first. Raises SessionNotFound."""
        await self.record(session_id)
        stored = await self.store.list_runs(session_id, after_event_id=after_event_id, limit=limit)
        live = self.residents.get(session_id)
        current = live.run.journal.record() if live is not None and live.run is not None else None
        if current is None:
            return stored
        finished = [run for run in stored if run.id != current.id]
        return [*finished, current][:limit]

    async def cancel_run(self, run_id: str) -> RunRecord:
        """End a run, and return it as it is then; one that has ended already stays as it is. Raises RunNotFound."""
        run = self.runs.get(run_id)
        if run is not None:
            run.cancel("requested")
            await run.ended()
            if record := run.journal.record():
                return record
        return await self.store.get_run(run_id)

    # history

    async def steps(self, session_id: str, *, after_seq: int, limit: int) -> Sequence[StepRecord]:
        """Return steps above `after_seq`, oldest first. Raises SessionNotFound."""
        steps = await self.store.list_steps(session_id, after_seq=after_seq, limit=limit)
        if not steps:
            await self.record(session_id)
        return steps

    async def step_with_state(self, session_id: str, seq: int) -> tuple[StepRecord, dict[str, Any]]:
        """Return a committed step, and the state after it. Raises SessionNotFound, StepNotFound."""
        await self.record(session_id)
        return await self.store.get_step(session_id, seq), await self.store.state_at(session_id, seq)

    # events

    async def position(self, session_id: str) -> int:
        """Return the id of the last event of a session: what comes after it is new. Raises SessionNotFound."""
        return (await self.record(session_id)).last_event_id

    def follow(self, session_id: str, *, after: int, run_id: str | None = None) -> AsyncGenerator[Event | None, None]:
        """Yield events of a session, or of one run of it, above `after`; None after each `ping_s` seconds of silence.

        Ends after the last event of the run, with the session, or with the service. Raises SessionNotFound.
        """
        return follow_session(self.residents, self.store, session_id, after=after, run_id=run_id, ping_s=self.settings.ping_s)

    # within

    def _require_open(self) -> None:
        if self.is_draining:
            raise ShuttingDown

    def _hosted(self, record: SessionRecord) -> Machine:
        try:
            return self.machines[record.machine]
        except KeyError:
            raise MachineNotHosted(record.id, record.machine) from None

    async def _store_new(self, new: NewSession) -> LoadedSession:
        await self.store.create_session(new)
        loaded = LoadedSession(created(new), dict(new.state))
        self._take_in(loaded)
        return loaded

    async def _alive(self, session_id: str) -> LiveSession:
        """The session in memory, read from the store if need be, once however many ask for it at the same time."""
        live = self.residents.get(session_id)
        if live is not None:
            return live
        loading = self._loading.get(session_id)
        if loading is None:
            loading = self._loading[session_id] = asyncio.create_task(self._load(session_id))
        return await asyncio.shield(loading)

    async def _load(self, session_id: str) -> LiveSession:
        try:
            return self._take_in(await self.store.load_session(session_id))
        finally:
            del self._loading[session_id]

    def _take_in(self, loaded: LoadedSession) -> LiveSession:
        record = loaded.record
        live = LiveSession.of(loaded, self._hosted(record), self.residents.stream(record.id, record.last_event_id))
        self.residents.add(live, asyncio.get_running_loop().time())
        return live

    def _run_ended(self, run: Run) -> None:
        if run.live.is_stale:
            self.residents.remove(run.live)
        else:
            self.residents.touch(run.live, asyncio.get_running_loop().time())

    def _take_notice(self, notice: Notice) -> None:
        live = None if notice.session_id is None else self.residents.get(notice.session_id)
        if live is not None:
            given = WarningGiven(notice.kind.value, notice.machine, notice.action, notice.message, notice.details)
            live.stream.emit(EventType.WARNING, None if live.run is None else live.run.id, given)

    async def _let_idle_sessions_go(self) -> None:
        self.residents.expire(asyncio.get_running_loop().time())

    async def _drain(self) -> None:
        await self.runs.drain(self.settings.shutdown_grace_s)
        self.residents.close_streams()


def _require_seq(session_id: str, seq: int, expected: Collection[int] | None) -> None:
    if expected is not None and seq not in expected:
        raise SeqMismatch(session_id, seq)
