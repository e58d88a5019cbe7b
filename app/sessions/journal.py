"""What one run leaves behind: its commits, and the events that tell of them. Decides nothing about the run itself.

What coincides is committed together: the start of a run with its first step, its end with its last. `step.finished` and all
that follows it is shown only once it is durable, unless the run asked for durability at its exit.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.engine.difference import refine
from app.engine.operations import StoredOperation
from app.engine.ports import ItemStreamed, Step, StepBegun, StepFailure
from app.engine.state import values_of
from app.persistence.handing_in import encoded_step
from app.persistence.records import (
    Commit,
    Delivery,
    EncodedStep,
    FailureRecord,
    RunEnd,
    RunRecord,
    RunStart,
    RunStatus,
    SessionStatus,
    StepCommit,
    StepKind,
)
from app.persistence.store import Store, StoreError
from app.sessions.events import Event, EventType, ItemGiven, StepDone, StepStarted, end_type
from app.sessions.failures import Told, tell
from app.sessions.items import shown_item
from app.sessions.live import LiveSession
from app.sessions.requests import RunOrder
from app.sessions.times import now_s
from app.sessions.writes import Entry, Writes

__all__ = ["Journal"]


class Journal:
    """The pen of one run. `steps` counts what it has committed, `last` is the last of it, `end` is set once the end is written.

    `failure` is a failed step that will be written with what follows it: another step, or the end of the run.
    """

    __slots__ = (
        "_begun",
        "_live",
        "_needs_no_row",
        "_order",
        "_run_id",
        "_start",
        "_steps_before",
        "_writes",
        "failure",
    )

    def __init__(self, order: RunOrder, live: LiveSession, store: Store) -> None:
        self._run_id = order.run_id
        self._order = order
        self._live = live
        self._writes = Writes(live, store, order.request.durability)
        self._start: RunStart | None = None
        self._steps_before = 0
        self._needs_no_row = order.webhook is None
        self._begun: tuple[int, StepStarted] | None = None  # the step under way
        self.failure: FailureRecord | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is anything of this run to tell."""
        return self._start is not None

    @property
    def is_in_doubt(self) -> bool:
        """Whether more of this run may be stored than is known of."""
        return self._writes.is_in_doubt

    @property
    def steps(self) -> int:
        return self._steps_before + self._writes.steps

    @property
    def steps_here(self) -> int:
        """The number of steps that this process has committed."""
        return self._writes.steps

    @property
    def last(self) -> Step | None:
        return self._writes.last

    @property
    def end(self) -> RunEnd | None:
        return self._writes.end

    def resume(self, record: RunRecord, steps: int) -> None:
        """Go on with a run of which the start and `steps` steps are stored."""
        self._start = RunStart(record.id, record.started_event_id, record.started_at_s, record.parameters)
        self._writes.has_stored_start = True
        self._needs_no_row = False  # of its attempts somebody may want to know
        self._steps_before = steps

    def begin(self) -> None:
        """Show that the run has started."""
        stream, order = self._live.stream, self._order
        start = RunStart(order.run_id, stream.next_id(), now_s(), order.parameters(), order.key, order.webhook)
        self._start = start
        stream.vanished.discard(self._run_id)
        stream.show_early(Event(start.event_id, EventType.RUN_STARTED, self._run_id, start))

    def step_begun(self, begun: StepBegun) -> None:
        """Show that a step has started, and before the first one that the run has."""
        if self._start is None:
            self.begin()
        stream, body = self._live.stream, StepStarted(begun.seq, begun.action)
        event_id = stream.next_id()
        self._begun = event_id, body
        stream.show_early(Event(event_id, EventType.STEP_STARTED, self._run_id, body))

    def item(self, item: ItemStreamed) -> None:
        """Show an item of a streaming action, as it is now. Raises UnserializableValue for one that no client can be shown."""
        body = ItemGiven(item.seq, item.action, item.index, shown_item(item.action, item.index, item.item))
        self._live.stream.emit(EventType.STEP_ITEM, self._run_id, body)

    async def step(self, step: Step) -> None:
        """Hand `step` in, and with it the end of the run if the run ends here.

        When this returns the step is as durable as the run wants it, the session has moved on, and the step is shown.
        Raises UnserializableValue before anything of it is handed in.
        """
        await self._writes.previous()  # it may move the state that this step changes
        state = values_of(step.state)
        operations = refine(values_of(self._writes.state), step.operations, state)
        encoded = await encoded_step(step.action, operations, step.result, state)
        status = SessionStatus.ENDED if step.next_action is None else SessionStatus.IDLE

        def entry() -> Entry:
            events: list[Event] = []
            failure = None if self.failure is None else self._numbered_failure(events)
            done = self._numbered_step(step, operations, encoded, events)
            end = whole = None
            if step.halt is not None:
                end = self._numbered_end(events, RunStatus.FINISHED, 1, step.halt.value, None)
                whole = self._start if self._needs_no_row else None
            is_whole = whole is not None and not (self._order.is_resumed or self._writes.may_have_start)
            parts = {"step": done, "failure": failure, "run_end": end, "finished": whole, "is_whole_run": is_whole}
            return Entry(self._commit(status, **parts), events, step, end)

        noted = self.failure
        try:
            await self._writes.hand_in(entry, is_last=step.halt is not None)
        except StoreError:
            self.failure = noted
            raise

    async def close(
        self,
        status: RunStatus,
        session_status: SessionStatus,
        reason: str | None,
        error: Mapping[str, Any] | None = None,
        back: StepCommit | None = None,
    ) -> None:
        """Make the end of the run durable, and show it then; with `back`, a step that takes the run back, before it."""

        def entry() -> Entry:
            events: list[Event] = []
            failure = self._numbered_failure(events)
            step = None if back is None else self._numbered_rollback(back, events)
            end = self._numbered_end(events, status, 0, reason, error)
            return Entry(self._commit(session_status, step=step, failure=failure, run_end=end), events, None, end)

        await self._writes.hand_in(entry, is_last=True)

    def show_end(self, status: RunStatus, reason: str | None, error: Mapping[str, Any] | None) -> None:
        """Show the end of a run that is not stored, and will not be."""
        end = RunEnd(self._run_id, status, 0, now_s(), self.steps, reason, error)
        self._live.stream.emit(end_type(status), self._run_id, end)

    async def failed(self, failure: StepFailure) -> None:
        """Note a failed step; one that was noted before it and led to no step is made durable first."""
        await self._writes.previous()
        if self.failure is not None:
            await self._writes.hand_in(self._entry_of_failure, is_last=False)
        times = failure.started_at_s, failure.finished_at_s
        self._note(failure.seq, failure.action, self.tell(failure.error), *times)

    def tell(self, error: BaseException) -> Told:
        """Return what may be told of an error, without the values of the session's state and of the run's inputs."""
        return tell(error, self._writes.state, self._live.state, self._order.request.inputs or {})

    async def settle(self) -> None:
        """Return when all that was handed in is durable. Raises what the store refused it with."""
        await self._writes.settle()

    def broken_off(self, told: Told) -> None:
        """Note that the step under way, if there is one, came to nothing through no doing of its action."""
        if self._begun is not None and self.failure is None:
            event_id, body = self._begun
            ended_s = now_s()
            self._note(body.seq, body.action, told, event_id / 1e6, ended_s)

    @property
    def needs_start(self) -> bool:
        """Whether the run has begun and its start is neither stored nor about to be."""
        return self._start is not None and self.end is None and self._writes.needs_start

    async def let_finish(self) -> None:
        """Return when nothing of this run is being stored, whatever becomes of it."""
        with contextlib.suppress(StoreError):
            await self._writes.previous()

    async def secure_start(self) -> None:
        """Make the start of the run durable by itself: for a run whose first step takes its time."""
        start = self._start
        if start is not None and self.needs_start:
            await self._writes.store_start(start, self._run_id)

    def record(self) -> RunRecord | None:
        """The run as it is now; None before it has begun."""
        start, end = self._start, self.end
        if start is None:
            return None
        return RunRecord(
            id=self._run_id,
            session_id=self._live.id,
            status=end.status if end else RunStatus.RUNNING,
            parameters=start.parameters,
            started_at_s=start.started_at_s,
            finished_at_s=end.finished_at_s if end else None,
            steps=self.steps,
            reason=end.reason if end else None,
            error=end.error if end else None,
            started_event_id=start.event_id,
            finished_event_id=end.event_id if end else None,
            webhook=None if self._order.webhook is None else Delivery(self._order.webhook["url"], start.started_at_s),
        )

    def _commit(self, status: SessionStatus, **parts: Any) -> Commit:
        live, seq = self._live, self._writes.seq
        parts["run_start"] = None if self._writes.has_start else self._start
        return Commit(live.id, status, live.stream.last_id, run_id=self._run_id, claim_no=live.claim_no, after_seq=seq, **parts)

    def _note(self, seq: int, action: str, told: Told, began_s: float, ended_s: float) -> None:
        first_event_id = self._begun_id(seq, action)
        self._begun = None
        unnumbered = 0  # its id is given out when it is written, or a warning shown before that would come too late
        self.failure = FailureRecord(
            seq,
            action,
            told.error_type,
            told.message,
            told.traceback,
            began_s,
            ended_s,
            first_event_id,
            unnumbered,
            self._run_id,
        )

    def _entry_of_failure(self) -> Entry:
        events: list[Event] = []
        failure = self._numbered_failure(events)
        return Entry(self._commit(self._live.status, failure=failure), events)

    def _numbered_failure(self, events: list[Event]) -> FailureRecord | None:
        if self.failure is None:
            return None
        failure = replace(self.failure, event_id=self._live.stream.reserve_id())
        events.append(Event(failure.event_id, EventType.STEP_FAILED, self._run_id, failure))
        self.failure = None
        return failure

    def _numbered_step(
        self, step: Step, operations: tuple[StoredOperation, ...], encoded: EncodedStep, events: list[Event]
    ) -> StepCommit:
        first_event_id = self._begun_id(step.seq, step.action)
        self._begun = None
        event_id = self._live.stream.reserve_id()
        times = step.started_at_s, step.finished_at_s
        body = StepDone(step.seq, StepKind.ACTION, step.action, operations, step.result, step.next_action, *times)
        events.append(Event(event_id, EventType.STEP_FINISHED, self._run_id, body))
        return StepCommit(
            step.seq,
            step.action,
            operations,
            step.result,
            step.state,
            step.next_action,
            *times,
            first_event_id,
            event_id,
            encoded=encoded,
        )

    def _numbered_rollback(self, back: StepCommit, events: list[Event]) -> StepCommit:
        event_id = self._live.stream.reserve_id()
        times = back.started_at_s, back.finished_at_s
        body = StepDone(back.seq, back.kind, back.action, back.operations, None, back.next_action, *times)
        events.append(Event(event_id, EventType.STEP_FINISHED, self._run_id, body))
        return replace(back, first_event_id=event_id, event_id=event_id)

    def _begun_id(self, seq: int, action: str) -> int:
        if self._begun is None:
            self.step_begun(StepBegun(seq, action))
        return self._begun[0] if self._begun else 0

    def _numbered_end(
        self, events: list[Event], status: RunStatus, more: int, reason: str | None, error: Mapping[str, Any] | None
    ) -> RunEnd:
        steps = self._steps_before + self._writes.handed_in + more
        end = RunEnd(self._run_id, status, self._live.stream.reserve_id(), now_s(), steps, reason, error)
        events.append(Event(end.event_id, end_type(status), self._run_id, end))
        return end
