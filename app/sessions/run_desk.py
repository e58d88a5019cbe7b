"""Where runs are asked for: they begin at once or wait for their turn, come again under the same key, and go on after a crash."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Protocol
from weakref import WeakValueDictionary

from app.engine.machine import Machine
from app.persistence.records import Delivery, Key, KeyRecord, RunRecord, RunStart, RunStatus, SessionRecord, SessionStatus
from app.persistence.store import ClaimLost, KeyTaken, RunNotFound, SessionNotFound, StepConflict, Store, StoreError
from app.sessions.active_runs import ActiveRuns
from app.sessions.checks import check_request, check_waiting
from app.sessions.endings import close_stored, fail_unreadable
from app.sessions.errors import AnswerTrimmed, KeyReused, MachineNotHosted, RunCancelled, SeqMismatch, SessionBusy, ShuttingDown
from app.sessions.leftovers import Resumption
from app.sessions.live import LiveSession
from app.sessions.outcomes import PastRun
from app.sessions.phases import Phase
from app.sessions.readable import require_readable_live
from app.sessions.requests import OnBusy, RunOrder, RunOutcome
from app.sessions.resuming import Resumer, resumption_of, stored_order
from app.sessions.run import Run
from app.sessions.turns import Turn, Turns
from app.system.clocks import current_time_s

__all__ = ["RunDesk", "RunHandle", "require_seq"]


class RunHandle(Protocol):
    """A run, under way or past."""

    id: str

    async def begun(self) -> None: ...

    async def outcome(self) -> RunOutcome: ...


class RunDesk:
    """The runs of one host. `alive` returns a session in memory."""

    def __init__(self, store: Store, runs: ActiveRuns, alive: Callable[[str], Awaitable[LiveSession]]) -> None:
        self._store = store
        self._runs = runs
        self.alive = alive
        self._by_key: dict[bytes, tuple[bytes, asyncio.Future[RunHandle]]] = {}
        self.turns = Turns(self._begin, store.queue.put)
        self.resumer = Resumer(store, self._run, self._require_open, runs.accuse)
        self._decisions: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.is_closed = False

    async def start(
        self, live: LiveSession, order: RunOrder, expected: Collection[int] | None = None, *, may_be_known: bool = False
    ) -> RunHandle:
        """Begin a run, now or when its turn comes. With `may_be_known` the run with this id is returned if there is one.

        Raises SessionBusy, SeqMismatch, KeyReused, AnswerTrimmed, and what ends a run that waits.
        """
        if order.key is not None:
            return await self._start_once(live, order, order.key, expected)
        if may_be_known:
            try:
                return await self.handle(order.run_id)
            except RunNotFound:
                live = await self.alive(live.id)
        return await self._start(live, order, expected)

    async def handle(self, run_id: str) -> RunHandle:
        """Return a run, under way or past; one that a crash has left behind goes on. Raises RunNotFound, ClaimedElsewhere."""
        found = self._in_memory(run_id)
        if found is None:
            record = await self._store.get_run(run_id)
            if record.finished_at_s is None:
                found = await self.take_up(record)
            if found is None:
                return PastRun(await self._store.get_run(run_id), self._store)
        return await asyncio.shield(found.began) if isinstance(found, Turn) else found

    async def _handle_again(self, run_id: str) -> RunHandle:
        """Return the run that a key stands for. Raises AnswerTrimmed."""
        try:
            return await self.handle(run_id)
        except RunNotFound:  # a run comes into the store with its key: it was there
            raise AnswerTrimmed(run_id) from None

    async def queue(self, session: SessionRecord, machine: Machine, order: RunOrder) -> RunRecord:
        """Store a run that begins later, whoever begins it.

        Raises SessionNotFound, SessionBusy, KeyReused, AnswerTrimmed, UnknownAction, UnknownTag, InvalidInputs.
        """
        session_id = session.id
        known = await self._queued_under(order.key)
        if known is not None:
            return known
        before = await self._store.unfinished_runs_of(session_id)
        if order.request.on_busy is OnBusy.REJECT and before:
            raise SessionBusy(session_id, before[0].id)
        if before or session.status is SessionStatus.RUNNING:
            check_waiting(machine, order.request)
        else:
            check_request(machine, order.request, session.next_action)
        start = RunStart(order.run_id, 0, current_time_s(), order.parameters(), order.key, order.webhook)
        try:
            await self._store.queue_run(session_id, start)
        except KeyTaken:
            known = await self._queued_under(order.key)  # the same request, at the same time
            if known is None:
                raise
            return known
        return _queued_record(order, session_id, start.started_at_s)

    async def _queued_under(self, key: Key | None) -> RunRecord | None:
        known = None if key is None else await self._store.find_key(key.digest)
        if key is None or known is None:
            return None
        run_id = _same_run(key, known)
        try:
            return _as_queued(await self._store.get_run(run_id))
        except RunNotFound:
            raise AnswerTrimmed(run_id) from None

    async def take_up(self, record: RunRecord) -> Run | Turn | None:
        """Go on with a stored run that nobody has, or begin it if it is queued; None if it has ended.

        Raises SessionNotFound, ClaimedElsewhere, MachineNotHosted, StoreUnavailable.
        """
        while True:
            async with self._deciding(record.session_id):
                live = await self.alive(record.session_id)  # a run that was under way there goes on with that
                if self._in_memory(record.id) is None:
                    await self._read_line(live)
                if (found := self._in_memory(record.id)) is not None:
                    return found
                record = await self._store.get_run(record.id)
                if record.finished_at_s is not None or (found := self._in_memory(record.id)) is not None:
                    return found
                self._require_open()
                live.move(Phase.STALE)  # nobody goes on with the run, although its session was read: it is read again
                in_the_way = live.run
            if in_the_way is not None:
                await in_the_way.ended()

    async def _read_line(self, live: LiveSession) -> bool:
        """Let all stored runs that wait for a session stand in its line, as they were accepted; False if it has to be read again.

        Whichever of them the queue hands out first, they begin in this order.
        """
        # what is here may come to its end while we read; nobody else begins a run of this session meanwhile
        here = {turn.order.run_id for turn in live.line} | ({live.run.id} if live.run else set())
        stored = await self._store.unfinished_runs_of(live.id)
        unfinished = [run for run in stored if run.id not in here and self._in_memory(run.id) is None]
        if not live.is_busy:
            # one that has begun comes before those that wait, and goes on when the session is read
            if any(run.status is RunStatus.RUNNING for run in unfinished):
                live.move(Phase.STALE)
            if live.is_stale:
                return False
        live.has_unread_line = False
        for record in unfinished:
            if record.status is RunStatus.QUEUED and live.unreadable:
                await fail_unreadable(self._store, live, record, 0)
            elif record.status is RunStatus.QUEUED:
                self._enter_line(live, record)
        self.turns.next(live)
        return True

    def _enter_line(self, live: LiveSession, record: RunRecord) -> None:
        turn = Turn(live.id, stored_order(record), stored=record)
        if turn.order.request.on_busy is OnBusy.REJECT:  # it was accepted when the session was free
            self.turns.wait(live, turn)
        else:
            self.turns.take(live, turn)

    async def stored(self, run_id: str) -> RunRecord:
        """Return a run that is not under way here. Raises RunNotFound, and ClaimedElsewhere if it is under way there."""
        turn = self.turns.get(run_id)
        if turn is not None and turn.stored is None:
            return _waiting_record(turn)
        record = await self._store.get_run(run_id)
        if record.status is not RunStatus.RUNNING:
            return record
        try:
            await self.alive(record.session_id)
        except (MachineNotHosted, SessionNotFound):
            return record
        run = self._runs.get(run_id)
        return (None if run is None else run.journal.record()) or await self._store.get_run(run_id)

    async def cancel_waiting(self, run_id: str, reason: str) -> RunRecord:
        """End a run that is not under way, and return it; one that has ended stays as it is. Raises as `stored`."""
        turn = self.turns.get(run_id)
        if turn is not None and turn.stored is None:
            self.turns.cancel(run_id, reason)
            now_s = current_time_s()
            return replace(_waiting_record(turn), status=RunStatus.CANCELLED, reason=reason, finished_at_s=now_s)
        record = await self._store.get_run(run_id)
        if record.finished_at_s is not None:
            return record
        run = None
        while run is None:
            async with self._deciding(record.session_id):
                live = await self.alive(record.session_id)
                async with self.resumer.deciding(live.id):  # or it may be taken up while its end is stored
                    run = self._runs.get(run_id)
                    if run is None and (live.is_busy or not live.is_stale):
                        with contextlib.suppress(ClaimLost, StepConflict):  # it has been read again meanwhile, here or elsewhere
                            return await self._end_waiting(live, run_id, reason)
        run.cancel(reason)
        await run.ended()
        run.require_settled()
        return run.journal.record() or record

    async def _end_waiting(self, live: LiveSession, run_id: str, reason: str) -> RunRecord:
        """End a run that nobody runs, nor begins meanwhile. Who waits for it is told when its end is stored."""
        withdrawn = self.turns.withdraw(run_id)
        try:
            record = await self._store.get_run(run_id)
            if record.finished_at_s is None:
                steps = 0 if record.status is RunStatus.QUEUED else (await resumption_of(self._store, live, record)).steps
                record = await close_stored(self._store, live, record, steps, RunStatus.CANCELLED, reason)
        except StoreError as exc:
            self.resumer.left.add(live.id)
            if withdrawn is not None:
                self.turns.send_away(withdrawn[1], exc)
            raise
        if withdrawn is not None:
            withdrawn[1].fail(RunCancelled(live.id, run_id, reason, live.seq, record.steps))
        return record

    def ended(self, run: Run) -> None:
        """A run has ended, one way or another."""
        self.resumer.ended(run)
        if run.is_left and run.order.is_resumed:  # one that has waited in a line is not in the queue any more
            self._store.queue.put(run.id)
        if run.order.key is not None:
            self._by_key.pop(run.order.key.digest, None)

    def close(self) -> None:
        """Take no new runs, and send away all that wait."""
        self.is_closed = True
        self.turns.fail_all(ShuttingDown)

    def _require_open(self) -> None:
        if self.is_closed:
            raise ShuttingDown

    def _run(self, live: LiveSession, order: RunOrder, resumption: Resumption | None = None) -> Run:
        """Start a run on a session that is free. Raises StateUnreadable, ShuttingDown: others may go on with its run."""
        self._require_open()
        require_readable_live(live)
        return self._runs.start(live, order, resumption)

    def _deciding(self, session_id: str) -> asyncio.Lock:
        """Return the lock for reading which runs of a session wait, and then beginning, ending or following them."""
        return self._decisions.setdefault(session_id, asyncio.Lock())

    def has(self, run_id: str) -> bool:
        """Whether the run is under way here, or waits."""
        return self._in_memory(run_id) is not None

    def _in_memory(self, run_id: str) -> Run | Turn | None:
        return self._runs.get(run_id) or self.turns.get(run_id)

    async def _start(self, live: LiveSession, order: RunOrder, expected: Collection[int] | None) -> Run:
        if order.request.on_busy is OnBusy.ENQUEUE or live.has_unread_line:
            turn = await self._stand_behind(live, order, expected)
        elif not live.is_busy:
            require_seq(live, expected)
            return self._run(live, order)
        else:
            self._require_open()
            check_waiting(live.machine, order.request)
            turn = Turn(live.id, order, expected)
            self.turns.take(live, turn)
        return await turn.began

    async def _stand_behind(self, live: LiveSession, order: RunOrder, expected: Collection[int] | None) -> Turn:
        """Put a run that somebody waits for behind those that were accepted before it, wherever that was. Raises as `start`."""
        async with self._deciding(live.id):
            live = await self.alive(live.id)
            while not await self._read_line(live):
                live = await self.alive(live.id)
            turn = Turn(live.id, order, expected)
            if live.is_busy:
                check_waiting(live.machine, order.request)
                self.turns.take(live, turn)
            else:
                self.turns.wait(live, turn)
                self.turns.next(live)
            return turn

    async def _start_once(self, live: LiveSession, order: RunOrder, key: Key, expected: Collection[int] | None) -> RunHandle:
        waiting = self._by_key.get(key.digest)
        if waiting is not None:
            _require_same(key, waiting[0])
            return await asyncio.shield(waiting[1])
        promise: asyncio.Future[RunHandle] = asyncio.get_running_loop().create_future()
        self._by_key[key.digest] = key.request, promise
        try:
            known = await self._store.find_key(key.digest)
            if known is not None:
                handle = await self._handle_again(_same_run(key, known))
            else:
                handle = await self._start(await self.alive(live.id), order, expected)
            promise.set_result(handle)
        except BaseException as exc:
            if not promise.done():
                promise.set_exception(exc if isinstance(exc, Exception) else ShuttingDown())
                promise.exception()  # seen: perhaps nobody else waits for it
            raise
        finally:
            # a run that is under way keeps its key here until it ends: the store knows it only from its first commit on
            if promise.exception() is not None or self._runs.get(promise.result().id) is None:
                self._by_key.pop(key.digest, None)
        return handle

    def _begin(self, live: LiveSession, turn: Turn) -> Run:
        require_seq(live, turn.expected)
        return self._run(live, turn.order, None if turn.stored is None else Resumption(turn.stored))


def require_seq(live: LiveSession, expected: Collection[int] | None) -> None:
    """Raises SeqMismatch if the session stands elsewhere."""
    if expected is not None and live.seq not in expected:
        raise SeqMismatch(live.id, live.seq)


def _require_same(key: Key, request: bytes) -> None:
    if key.request != request:
        raise KeyReused


def _same_run(key: Key, known: KeyRecord) -> str:
    """Return the id of the run that was made under `key`. Raises KeyReused."""
    _require_same(key, known.request)
    return known.run_id or ""


def _as_queued(run: RunRecord) -> RunRecord:
    """Return a run as it was when it was accepted."""
    return replace(
        run,
        status=RunStatus.QUEUED,
        finished_at_s=None,
        steps=0,
        reason=None,
        error=None,
        started_event_id=0,
        finished_event_id=None,
    )


def _waiting_record(turn: Turn) -> RunRecord:
    return _queued_record(turn.order, turn.session_id, turn.asked_at_s)


def _queued_record(order: RunOrder, session_id: str, asked_at_s: float) -> RunRecord:
    parameters = order.parameters()
    webhook = None if order.webhook is None else Delivery(order.webhook["url"], asked_at_s)
    return RunRecord(
        order.run_id, session_id, RunStatus.QUEUED, parameters, asked_at_s, None, 0, None, None, 0, None, webhook=webhook
    )
