"""What one run leaves behind: its commits, and the events that tell of them. Decides nothing about the run itself.

What coincides is committed together: the start of a run with its first step, its end with its last. `step.finished` and all
that follows it is shown only once it is durable.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.engine.ports import ItemStreamed, Step, StepBegun, StepFailure
from app.persistence.records import (
    Commit,
    FailureRecord,
    RunEnd,
    RunRecord,
    RunStart,
    RunStatus,
    SessionStatus,
    StepCommit,
    StepKind,
)
from app.persistence.store import Store
from app.sessions.events import Event, EventType, ItemGiven, StepDone, StepStarted, end_type
from app.sessions.failures import frames_of, message_of, type_of
from app.sessions.live import LiveSession

__all__ = ["Journal"]


class Journal:
    """The pen of one run. `steps` counts what it has committed, `last` is the last of it, `end` is set once the end is written.

    `failure` is a failed step that will be written with what follows it: another step, or the end of the run.
    """

    __slots__ = (
        "_begun",
        "_live",
        "_parameters",
        "_run_id",
        "_start",
        "_start_is_durable",
        "_store",
        "end",
        "failure",
        "last",
        "steps",
    )

    def __init__(self, run_id: str, live: LiveSession, store: Store, parameters: Mapping[str, Any]) -> None:
        self._run_id = run_id
        self._live = live
        self._store = store
        self._parameters = parameters
        self._start: RunStart | None = None
        self._start_is_durable = False
        self._begun: tuple[int, StepStarted] | None = None
        self.failure: FailureRecord | None = None
        self.end: RunEnd | None = None
        self.last: Step | None = None
        self.steps = 0

    @property
    def has_begun(self) -> bool:
        """Whether there is anything of this run to tell."""
        return self._start is not None

    def begin(self) -> None:
        """Show that the run has started."""
        stream = self._live.stream
        start = RunStart(self._run_id, stream.next_id(), time.time(), self._parameters)
        self._start = start
        stream.show_early(Event(start.event_id, EventType.RUN_STARTED, self._run_id, start))

    def step_begun(self, begun: StepBegun) -> None:
        """Show that a step has started, and before the first one that the run has."""
        if self._start is None:
            self.begin()
        stream = self._live.stream
        event_id = stream.next_id()
        body = StepStarted(begun.seq, begun.action)
        self._begun = event_id, body
        stream.show_early(Event(event_id, EventType.STEP_STARTED, self._run_id, body))

    def item(self, item: ItemStreamed) -> None:
        """Show an item of a streaming action."""
        body = ItemGiven(item.seq, item.action, item.index, item.item)
        self._live.stream.emit(EventType.STEP_ITEM, self._run_id, body)

    async def step(self, step: Step) -> None:
        """Make `step` durable, move the session on, and show it; with it the end of the run if the run ends here."""
        live, stream = self._live, self._live.stream
        status = SessionStatus.ENDED if step.next_action is None else SessionStatus.IDLE
        events: list[Event] = []
        stream.hold()  # ids are given out before the commit and shown after it: what comes meanwhile has to come after them
        try:
            failure = self._numbered_failure(events)
            done = self._numbered_step(step, events)
            end = None
            if step.halt is not None:
                end = self._numbered_end(events, RunStatus.FINISHED, self.steps + 1, step.halt.value, None)
            start = None if self._start_is_durable else self._start
            await self._store.commit(Commit(live.id, status, stream.last_id, start, done, failure, end, self._run_id))
            live.state, live.seq, live.prior_action, live.next_action = step.state, step.seq, step.action, step.next_action
            live.status, live.updated_at_s = status, step.finished_at_s
            self.last = step
            self.steps += 1
            self._show(events, end)
        finally:
            stream.release()

    async def close(
        self, status: RunStatus, session_status: SessionStatus, reason: str | None, error: Mapping[str, Any] | None = None
    ) -> None:
        """Make the end of the run durable and show it. What the store refuses is shown all the same, and its refusal raised."""
        live, stream = self._live, self._live.stream
        events: list[Event] = []
        stream.hold()
        try:
            failure = self._numbered_failure(events)
            end = self._numbered_end(events, status, self.steps, reason, error)
            start = None if self._start_is_durable else self._start
            try:
                await self._store.commit(Commit(live.id, session_status, stream.last_id, start, None, failure, end, self._run_id))
                live.status, live.updated_at_s = session_status, end.finished_at_s
            finally:
                self._show(events, end)
        finally:
            stream.release()

    async def failed(self, failure: StepFailure) -> None:
        """Note a failed step; one that was noted before it and led to no step is made durable first."""
        if self.failure is not None:
            await self._write_failure()
        error = failure.error
        message = message_of(error, self._live.state)
        times = failure.started_at_s, failure.finished_at_s
        self._note(failure.seq, failure.action, type_of(error), message, frames_of(error), *times)

    def broken_off(self, error_type: str, message: str, frames: str = "") -> None:
        """Note that the step under way, if there is one, came to nothing through no doing of its action."""
        if self._begun is not None and self.failure is None:
            event_id, body = self._begun
            self._note(body.seq, body.action, error_type, message, frames, event_id / 1e6, time.time())

    async def secure_start(self) -> None:
        """Make the start of the run durable by itself: for a run whose first step takes its time."""
        live, start = self._live, self._start
        if start is not None and not self._start_is_durable and self.end is None:
            await self._store.commit(Commit(live.id, live.status, start.event_id, run_start=start, run_id=self._run_id))
            self._start_is_durable = True

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
        )

    def _note(self, seq: int, action: str, error_type: str, message: str, frames: str, began_s: float, ended_s: float) -> None:
        first_event_id = self._begun_id(seq, action)
        self._begun = None
        unnumbered = 0  # its id is given out when it is written, or a warning shown before that would come too late
        self.failure = FailureRecord(
            seq, action, error_type, message, frames, began_s, ended_s, first_event_id, unnumbered, self._run_id
        )

    async def _write_failure(self) -> None:
        live, stream = self._live, self._live.stream
        events: list[Event] = []
        stream.hold()
        try:
            failure = self._numbered_failure(events)
            start = None if self._start_is_durable else self._start
            commit = Commit(live.id, live.status, stream.last_id, start, failure=failure, run_id=self._run_id)
            await self._store.commit(commit)
            self._show(events, None)
        finally:
            stream.release()

    def _numbered_failure(self, events: list[Event]) -> FailureRecord | None:
        if self.failure is None:
            return None
        failure = replace(self.failure, event_id=self._live.stream.next_id())
        events.append(Event(failure.event_id, EventType.STEP_FAILED, self._run_id, failure))
        return failure

    def _numbered_step(self, step: Step, events: list[Event]) -> StepCommit:
        first_event_id = self._begun_id(step.seq, step.action)
        event_id = self._live.stream.next_id()
        times = step.started_at_s, step.finished_at_s
        body = StepDone(step.seq, StepKind.ACTION, step.action, step.operations, step.result, step.next_action, *times)
        events.append(Event(event_id, EventType.STEP_FINISHED, self._run_id, body))
        return StepCommit(
            step.seq, step.action, step.operations, step.result, step.state, step.next_action, *times, first_event_id, event_id
        )

    def _begun_id(self, seq: int, action: str) -> int:
        if self._begun is None:
            self.step_begun(StepBegun(seq, action))
        return self._begun[0] if self._begun else 0

    def _numbered_end(
        self, events: list[Event], status: RunStatus, steps: int, reason: str | None, error: Mapping[str, Any] | None
    ) -> RunEnd:
        end = RunEnd(self._run_id, status, self._live.stream.next_id(), time.time(), steps, reason, error)
        events.append(Event(end.event_id, end_type(status), self._run_id, end))
        return end

    def _show(self, events: list[Event], end: RunEnd | None) -> None:
        stream = self._live.stream
        stream.undurable.clear()
        for event in events:
            stream.append(event)
        self._start_is_durable = True
        self._begun = self.failure = None
        self.end = end
