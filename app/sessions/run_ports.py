"""What the engine asks of its host for one run: a fence between the run and the user's code.

Once the run is cancelled nothing gets through any more: code that goes on regardless meets a CancelledError with whatever it
asks for, and nothing that it does counts for the session.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from app.engine.hook_context import HookContext
from app.engine.ports import ActionOutcome, BlockingCall, Step, StepBegun, StepEvent, StepFailure
from app.executors.ladder import Executors
from app.executors.owner import CallOwner, current_owner
from app.persistence.store import StoreError
from app.sessions.journal import Journal
from app.sessions.late_actions import LateActions

__all__ = ["HostPorts"]


class HostPorts:
    """Implements RunPorts. `on_begun` is called with each step that begins, `stops` says why the run ends after this step."""

    __slots__ = (
        "_executors",
        "_hooks",
        "_journal",
        "_late",
        "_machine",
        "_on_begun",
        "_session_id",
        "_stops",
        "action",
        "has_been_cancelled",
        "is_pausing",
        "is_writing",
        "store_error",
    )

    def __init__(
        self,
        session_id: str,
        machine: str,
        journal: Journal,
        executors: Executors,
        late: LateActions,
        *,
        on_begun: Callable[[], None],
        stops: Callable[[], str | None],
    ) -> None:
        self._session_id = session_id
        self._machine = machine
        self._journal = journal
        self._executors = executors
        self._late = late
        self._on_begun = on_begun
        self._stops = stops
        self._hooks: HookContext | None = None
        self.action: str | None = None  # that was called last
        self.has_been_cancelled = False
        self.is_pausing = False  # nothing of the user's code runs, until a time or until others have ended
        self.is_writing = False  # a step is being stored: it cannot be cancelled
        self.store_error: StoreError | None = None

    def is_cancelled(self) -> bool:
        return self.has_been_cancelled

    async def call_action(self, call: BlockingCall) -> ActionOutcome:
        self._require_going_on()
        return await self._executors.call(call, owner=self.owner(call.action.name))

    async def stream_action(self, call: BlockingCall) -> AsyncGenerator[Any, None]:
        self._require_going_on()
        async with aclosing(self._executors.stream(call, owner=self.owner(call.action.name))) as items:
            async for item in items:
                yield item

    async def call_hook(self, call: Callable[[], Any]) -> Any:
        self._require_going_on()
        if self._hooks is None:
            self._hooks = HookContext()
        return await self._executors.call_plain(self._hooks.bind(call), owner=current_owner.get() or self.owner(None))

    async def pause(self, delay_s: float) -> None:
        self._require_going_on()
        if self._stops() is not None:  # there is no step under way that could be let to its end
            self.has_been_cancelled = True
            raise asyncio.CancelledError
        self.is_pausing = True
        try:
            await asyncio.sleep(delay_s)
        finally:
            self.is_pausing = False

    def emit(self, event: StepEvent) -> None:
        self._require_going_on()
        if isinstance(event, StepBegun):
            self.action = event.action
            current_owner.set(self.owner(event.action))
            self._journal.step_begun(event)
            self._on_begun()
        else:
            self._journal.item(event)

    async def commit(self, step: Step) -> None:
        self._require_going_on()
        self.is_writing = True
        try:
            await self._journal.step(step)
        except StoreError as exc:
            self.store_error = exc
            raise
        finally:
            self.is_writing = False
        reason = self._stops()
        if reason is not None and step.halt is None:
            raise asyncio.CancelledError(reason)

    async def record_failure(self, failure: StepFailure) -> None:
        self._require_going_on()
        if self.store_error is None:
            try:
                await self._journal.failed(failure)
            except StoreError as exc:
                self.store_error = exc

    def leave_behind(self, task: "asyncio.Task[Any]") -> None:
        self._late.add(task, self._machine, self.action)

    def owner(self, action: str | None) -> CallOwner:
        return CallOwner(self._session_id, self._machine, action)

    def _require_going_on(self) -> None:
        if self.has_been_cancelled:
            raise asyncio.CancelledError
