"""One run of one session: a task of its own, so that neither a client that leaves nor one that waits has a hand in it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from app.engine.errors import InvalidInputs, UnknownAction, UnknownTag
from app.engine.quitting import quit_of
from app.executors.errors import ExecutorsClosed, PoolExhausted, RungUnavailable
from app.executors.ladder import Executors
from app.executors.owner import current_owner
from app.persistence.records import RunStatus, SessionStatus, StepCommit
from app.persistence.store import ClaimLost, RunEnded, RunNotFound, StepConflict, Store, StoreError, StoreUnavailable
from app.sessions.checks import refusal
from app.sessions.errors import ActionFailed, RunCancelled, RunHandedOver, RunUnsettled, SessionsError, ShuttingDown
from app.sessions.failures import Told, refused_end
from app.sessions.journal import Journal
from app.sessions.late_actions import LateActions
from app.sessions.leftovers import Resumption, UnclosedEnd
from app.sessions.live import LiveSession
from app.sessions.phases import Phase
from app.sessions.requests import RunOrder, RunOutcome
from app.sessions.rollback import Origin, way_back
from app.sessions.run_ports import HostPorts
from app.sessions.trials import Trials
from app.sessions.waiters import turn_in, wake
from app.system.clocks import current_time_s

__all__ = ["SHUTDOWN", "Run"]

SHUTDOWN = "shutdown"  # the reason of a run that the end of the service has ended
_LOST = "lost"
_UNWINDING_S = 0.4  # for an action that was cancelled to clean up; then the run ends without it

# what a request can be refused for before anything of it has happened
_REFUSALS = (InvalidInputs, UnknownAction, UnknownTag, SessionsError)
# the action did not run, for want of a place to run it
_UNAVAILABLE = (PoolExhausted, RungUnavailable, ExecutorsClosed)

logger = logging.getLogger(__name__)


class Run:
    """Owned by the host: `on_end` is called once, when nothing is left to do.

    The task of a run runs the user's code. When it is cancelled and does not end soon, the run ends in another task, and what is
    left of the first one is `late`: nothing that it does gets past the ports any more.
    """

    def __init__(
        self,
        order: RunOrder,
        live: LiveSession,
        store: Store,
        executors: Executors,
        late: LateActions,
        trials: Trials,
        on_end: "Callable[[Run], None]",
        resumption: Resumption | None = None,
    ) -> None:
        self.id = order.run_id
        self.order = order
        self.live = live
        self.journal = Journal(order, live, store)
        self.task: asyncio.Task[None] | None = None
        self.is_open = False  # left without an end: somebody goes on with it later
        self.unclosed: UnclosedEnd | None = None  # its end, which could not be stored: somebody stores it later
        self.refusal: dict[str, Any] | None = None  # why it could not begin, of which its session knows nothing
        self._request = order.request
        self._resumption = resumption
        self._store = store
        self._origin = Origin.of(live)
        self._rolls_back = False
        self._late = late
        self._trials = trials
        self._ports = HostPorts(
            live.id, live.machine.name, self.journal, executors, late, on_begun=self._step_begun, stops=lambda: self._stop_reason
        )
        self._on_end = on_end
        self._for_begin: list[asyncio.Future[None]] = []
        self._for_end: list[asyncio.Future[None]] = []
        self._stop_reason: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_entered = False
        self._is_ending = False  # nothing of it can be cancelled any more
        self._is_over = False
        self._ending: asyncio.Task[None] | None = None  # brings it to its end without the task that was cancelled
        self._error: BaseException | None = None
        self._outcome: RunOutcome | None = None

    @property
    def store_error(self) -> StoreError | None:
        """What the store has refused a step of it with."""
        return self._ports.store_error

    @property
    def is_left(self) -> bool:
        """Whether it is over here, and the store does not know an end of it."""
        return self.is_open or self.unclosed is not None

    @property
    def is_pausing(self) -> bool:
        """Whether it waits for something else than its action: nothing is lost if it is left now."""
        return self._ports.is_pausing

    def start(self) -> None:
        """Begin. Must be called in the same breath as the check that the session is idle."""
        loop = asyncio.get_running_loop()
        self.live.run = self
        resumption, timeout_s = self._resumption, self._request.timeout_s
        if resumption is not None and resumption.record.status is RunStatus.RUNNING:
            self.journal.resume(resumption.record, resumption.steps)
            if timeout_s is not None:
                timeout_s = max(0.0, resumption.record.started_at_s + timeout_s - current_time_s())
            if resumption.is_suspect:
                self._trials.enlist(self)
        self.task = loop.create_task(self._main())
        if timeout_s is not None:
            self._timer = loop.call_later(timeout_s, self.cancel, "timeout")

    def cancel(self, reason: str, *, rolls_back: bool = False) -> None:
        """End the run at once: its action is cancelled. A commit that is under way is awaited, and stands.

        With `rolls_back` the session returns to where the run began, by a step of its own kind.
        """
        self.stop_after_step(reason)
        self._rolls_back = self._rolls_back or rolls_back
        # a task that is cancelled before it is entered would never come to its own end
        is_in_action = self._is_entered and not (self._ports.is_writing or self._is_ending)
        if self.task is not None and is_in_action and not self._ports.has_been_cancelled:
            self._ports.has_been_cancelled = True
            self.task.cancel()
            asyncio.get_running_loop().call_later(_UNWINDING_S, self._end_without_task)

    def abandon(self) -> None:
        """Leave the session, which another replica may have taken over: nothing is written any more."""
        if self._ports.store_error is None:
            self._ports.store_error = ClaimLost(self.live.id)
        self.cancel(_LOST)

    def stop_after_step(self, reason: str) -> None:
        """End the run as soon as the step under way is committed. The first reason given is the one that is told."""
        if self._stop_reason is None:
            self._stop_reason = reason

    async def begun(self) -> None:
        """Return when the run has begun. Raises what kept it from beginning."""
        if not (self.journal.has_begun or self._is_over):
            await turn_in(self._for_begin)
        if not self.journal.has_begun and self._error is not None:
            raise self._error

    async def ended(self) -> None:
        """Return when the run is over, however it ended."""
        if not self._is_over:
            await turn_in(self._for_end)

    async def outcome(self) -> RunOutcome:
        """Wait for the end. Raises ActionFailed, RunCancelled, ShuttingDown, a StoreError, or what kept it from beginning.

        RunUnsettled says that the end is not known yet.
        """
        if not self._is_over:
            await turn_in(self._for_end)
        if self._outcome is None:
            raise self._error or ShuttingDown()
        return self._outcome

    def require_settled(self) -> None:
        """Raises RunUnsettled or ClaimLost if the run was left."""
        if self.is_left:
            raise self._error or ShuttingDown()

    async def secure(self) -> None:
        """Store the start of the run, if nothing of it is stored yet. A store that refuses is asked again with the first step."""
        try:
            if not self._is_over:
                await self.journal.secure_start()
        except StoreError as exc:
            logger.warning("the start of a run could not be stored", exc_info=exc, extra=self._names())

    # from the first step to the last word

    async def _main(self) -> None:
        self._is_entered = True
        current_owner.set(self._ports.owner(None))
        error: BaseException | None = None
        try:
            if self._resumption is not None:
                await self._take_up(self._resumption)
            if self._stop_reason is None:
                await self._drive()
        except BaseException as exc:  # the border to the user's code, and to whatever else can break a run
            error = exc
        if self._ending is None:
            await self._end(error)

    def _end_without_task(self) -> None:
        """End the run although its action, which was cancelled, does not."""
        if not (self._is_ending or self._is_over) and self.task is not None:
            self._ports.leave_behind(self.task)
            self._ending = asyncio.get_running_loop().create_task(self._end(asyncio.CancelledError()))

    async def _end(self, error: BaseException | None) -> None:
        """Bring the run to its end, after its task has ended with `error` or was left behind."""
        self._is_ending = True
        # whatever the code has made of a cancel, the run was cancelled
        is_stopped = error is None or isinstance(error, asyncio.CancelledError) or self._ports.has_been_cancelled
        try:
            if self._stop_reason is not None and is_stopped and self.journal.end is None:
                await self._end_cancelled(self._stop_reason)
            elif self._stop_reason is not None and is_stopped:
                self.live.forget_application()  # a hook after the last step was cancelled
            elif error is not None:
                await self._end_failed(error if isinstance(error, Exception) else quit_of(error))
        except Exception as exc:  # the border: whatever else can break a run
            self._error = exc
            logger.exception("a run could not be brought to its end", extra=self._names())
        finally:
            self._leave()

    async def _take_up(self, resumption: Resumption) -> None:
        """Store that the run is taken up, before its action is called: that may be the last that this process does.

        A run that may have killed processes waits here until no other one of these is under way, and others until there is none.
        """
        is_queued = resumption.record.status is RunStatus.QUEUED
        if (resumption.is_counted or is_queued) and self._stop_reason is None:
            self._ports.is_pausing = True
            try:
                await (self._trials.admit(self) if resumption.is_suspect else self._trials.over())
            finally:
                self._ports.is_pausing = False
        if self._stop_reason is not None:
            return
        self._ports.is_writing = True
        try:
            if resumption.is_counted:
                await self._store.begin_attempt(self.id, resumption.steps)
            elif is_queued:
                self.journal.begin()
                await self.journal.secure_start()
        except (StepConflict, RunNotFound) as exc:
            self._ports.store_error = ClaimLost(self.live.id)
            raise self._ports.store_error from exc
        except StoreError as exc:
            self._ports.store_error = exc
            raise
        finally:
            self._ports.is_writing = False

    def _step_begun(self) -> None:
        if self.journal.steps_here:
            self._trials.discharge(self)
        if self._for_begin:
            wake(self._for_begin)

    async def _drive(self) -> None:
        request, journal = self._request, self.journal
        taken = journal.steps
        if request.max_steps is not None and taken >= request.max_steps:
            await self._close(RunStatus.FINISHED, self._resting_status(), "max_steps")
            return
        result = await self.live.application().drive(
            self._ports,
            inputs=None if taken else request.inputs,
            halt_before=request.halt_before,
            halt_after=request.halt_after,
            max_steps=None if request.max_steps is None else request.max_steps - taken,
            run_id=self.id,
        )
        if journal.end is None and self._stop_reason is None:  # nothing was left to do from the beginning
            if not journal.has_begun:
                journal.begin()
            await self._close(RunStatus.FINISHED, self._resting_status(), result.halt.value)

    async def _end_cancelled(self, reason: str) -> None:
        live, journal = self.live, self.journal
        live.forget_application()
        if not await self._settled():
            await self._end_refused()
            return
        if self._is_to_be_told and journal.end is None:
            if reason == SHUTDOWN:
                await self._leave_open()
            else:
                if not journal.has_begun:
                    journal.begin()
                journal.broken_off(Told("cancelled", f"the run was cancelled: {reason}", ""))
                try:
                    back = await way_back(self._store, live, self._origin, self._resumption) if self._rolls_back else None
                except StoreUnavailable as exc:
                    live.move(Phase.STALE)
                    self._leave_unsettled(exc)
                    return
                await self._close(RunStatus.CANCELLED, self._resting_status(), reason, back=back)
        if self._error is None:
            cancelled = RunCancelled(live.id, self.id, reason, live.seq, journal.steps)
            gone = RunHandedOver(live.id, self.id) if self.is_open else ShuttingDown()
            self._error = gone if reason == SHUTDOWN else cancelled

    async def _leave_open(self) -> None:
        """Leave the run as a crash would leave it, with its start stored: whoever reads the session next goes on with it."""
        self.is_open = True
        try:
            await self.journal.secure_start()
            if self.journal.has_begun:  # the process has not died with it
                await self._store.uncount_attempts([(self.id, self.journal.steps)])
        except StoreError as exc:
            logger.warning("a run is left to others, but for what could not be stored", exc_info=exc, extra=self._names())

    async def _end_failed(self, exc: Exception) -> None:
        journal = self.journal
        self._error = exc
        self.live.forget_application()
        if journal.end is not None:
            logger.warning("a hook failed after the end of a run", exc_info=exc, extra=self._names())
        elif not await self._settled():
            await self._end_refused()
        elif self._is_to_be_told or not isinstance(exc, _REFUSALS):
            is_refused = isinstance(exc, _REFUSALS) and not journal.steps and self._ports.action is None
            await (self._end_refused_request(exc) if is_refused else self._end_with_failure(exc))

    async def _end_refused_request(self, exc: Exception) -> None:
        """End a run that was accepted, and that the session as it is now cannot begin: nothing has happened to the session."""
        if not self.journal.has_begun:
            self.journal.begin()
        self.refusal = told = refusal(exc, self.live.state, self._request.inputs or {})
        logger.warning("a run cannot begin", extra={**self._names(), "error_type": told["error_type"], "error": told["message"]})
        await self._close(RunStatus.FAILED, self.live.status, None, told)

    async def _settled(self) -> bool:
        """Whether all that was handed in is stored; if not, `_store_error` says why."""
        self._ports.is_writing = True
        try:
            if self._ports.store_error is None:
                await self.journal.settle()
            else:
                await self.journal.let_finish()
        except StoreError as exc:
            self._ports.store_error = exc
        finally:
            self._ports.is_writing = False
        return self._ports.store_error is None

    async def _end_refused(self) -> None:
        """The store did not take a step, so that it may have something else than what we hold."""
        exc = self._ports.store_error
        self._error = exc
        self.live.move(Phase.STALE)
        if isinstance(exc, ClaimLost):
            self.is_open = True
            logger.warning("another replica has taken the session over", extra=self._names())
        elif isinstance(exc, StoreUnavailable) or self.journal.is_in_doubt:
            self._leave_unsettled(exc)
        else:
            logger.warning("the store refused a step", exc_info=exc, extra=self._names())
            await self._close(RunStatus.FAILED, self._resting_status(), None, refused_end(exc))

    def _leave_unsettled(self, exc: StoreError | None) -> None:
        """What the store has of the run is read when it can be: then the run goes on, or ends as it was told to."""
        reason = self._stop_reason
        self._error = RunUnsettled(self.live.id, self.id, exc)
        if reason is None or reason == SHUTDOWN:
            self.is_open = True
        else:
            self.unclosed = UnclosedEnd(RunStatus.CANCELLED, reason, None, rolls_back=self._rolls_back)
        fields = {**self._names(), "error": str(exc)}
        logger.warning("the store does not say what it has of a run; it is read again", extra=fields)

    @property
    def _is_to_be_told(self) -> bool:
        """Whether somebody has heard of the run: of one that nobody knows of, nothing needs to be left."""
        return self.journal.has_begun or self._resumption is not None

    async def _end_with_failure(self, exc: Exception) -> None:
        journal, live = self.journal, self.live
        error = journal.tell(exc)
        error_type, message = error.error_type, error.message
        if not journal.has_begun:
            journal.begin()
        if journal.failure is None:
            journal.broken_off(error)
        failure = journal.failure
        seq, action = (failure.seq, failure.action) if failure else (live.seq + 1, getattr(exc, "action", None))
        told = {"type": "step-failed", "seq": seq, "action": action, "error_type": error_type, "message": message}
        fields = {"seq": seq, "action": action, "error_type": error_type, "error": message, "traceback": error.traceback}
        logger.warning("a step failed", extra={**self._names(), **fields})
        failed = ActionFailed(live.id, self.id, seq, action, error_type, message, journal.steps)
        self._error = exc if isinstance(exc, _UNAVAILABLE) else failed
        await self._close(RunStatus.FAILED, SessionStatus.FAILED, None, told)

    async def _close(
        self,
        status: RunStatus,
        session_status: SessionStatus,
        reason: str | None,
        error: dict[str, Any] | None = None,
        back: StepCommit | None = None,
    ) -> None:
        self._ports.is_writing = True
        try:
            if back is not None:
                session_status = SessionStatus.ENDED if back.next_action is None else SessionStatus.IDLE
            await self.journal.close(status, session_status, reason, error, back)
        except StoreError as exc:
            self.live.move(Phase.STALE)
            self.unclosed = UnclosedEnd(status, reason, error, rolls_back=back is not None)
            self._error = exc if isinstance(exc, ClaimLost) else RunUnsettled(self.live.id, self.id, exc)
            if isinstance(exc, StoreUnavailable):
                logger.warning("the end of a run is stored when the database is back", extra={**self._names(), "error": str(exc)})
            elif isinstance(exc, ClaimLost):
                self._ports.store_error = exc
                logger.warning("another replica has taken the session over, and ends the run", extra=self._names())
            elif isinstance(exc, RunEnded):
                logger.warning("the run has another end, which stands", extra={**self._names(), "status": exc.run.status.value})
            else:
                logger.error("the end of a run could not be stored", exc_info=exc, extra=self._names())
        finally:
            self._ports.is_writing = False

    def _leave(self) -> None:
        journal, live = self.journal, self.live
        end, last = journal.end, journal.last
        if end is not None and end.status is RunStatus.FINISHED:
            self._outcome = RunOutcome(
                live.id,
                self.id,
                end.status,
                end.reason,
                journal.steps,
                live.seq,
                last.action if last else None,
                last.result if last else None,
                live.state,
                live.status,
                live.next_action,
            )
        if self._timer is not None:
            self._timer.cancel()
        self._trials.discharge(self)
        live.run = None
        self._is_over = True
        wake(self._for_begin)
        wake(self._for_end)
        self._on_end(self)

    def _resting_status(self) -> SessionStatus:
        return SessionStatus.ENDED if self.live.next_action is None else SessionStatus.IDLE

    def _names(self) -> dict[str, Any]:
        return {"machine": self.live.machine.name, "session_id": self.live.id, "run_id": self.id}
