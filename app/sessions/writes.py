"""When what a run hands in becomes durable, and what happens then: the session moves on, and its followers are told.

Three ways, by the durability that the run asked for. `sync`: each entry is stored before the next action starts. `async`: it is
stored while the next action runs, one entry at a time. `exit`: entries are kept and stored together with the last one.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.engine.ports import Step
from app.persistence.records import Commit, RunEnd, RunStart, StepCommit
from app.persistence.store import StepConflict, Store, StoreError, StoreUnavailable
from app.sessions.events import Event
from app.sessions.failures import type_of
from app.sessions.live import LiveSession
from app.sessions.requests import Durability

__all__ = ["Entry", "Writes"]

_MOST_KEPT = 1_000  # entries of a run that is to be stored at its exit: more are stored before


@dataclass(slots=True, eq=False)
class Entry:
    """What is stored at one moment, and what is told of it then: `events`, in order."""

    commit: Commit
    events: list[Event]
    step: Step | None = None
    end: RunEnd | None = None


class Writes:
    """What one run has handed in. `steps` are stored, `last` is the last of them; `end` is set once the end is stored.

    `is_in_doubt` says that something may be stored that the store has not confirmed: nothing more is shown then before the
    session is read again.
    """

    __slots__ = (
        "_durability",
        "_has_tried_start",
        "_is_elsewhere",
        "_is_storing",
        "_kept",
        "_live",
        "_store",
        "_writing",
        "end",
        "has_stored_start",
        "is_in_doubt",
        "last",
        "steps",
    )

    def __init__(self, live: LiveSession, store: Store, durability: Durability) -> None:
        self._live = live
        self._store = store
        self._durability = durability
        self._kept: list[Entry] = []
        self._writing: asyncio.Task[None] | None = None
        self._is_storing = False
        self._has_tried_start = False
        self._is_elsewhere = False  # the session has moved on without this run
        self.is_in_doubt = False
        self.has_stored_start = False
        self.steps = 0
        self.last: Step | None = None
        self.end: RunEnd | None = None

    @property
    def may_have_start(self) -> bool:
        """Whether the start of the run may be stored, or will be with what is kept."""
        return self.has_start or self._has_tried_start

    @property
    def has_start(self) -> bool:
        """Whether the start of the run is stored, or will be with what is kept."""
        return self.has_stored_start or bool(self._kept)

    @property
    def needs_start(self) -> bool:
        """Whether the start of the run is neither stored nor about to be."""
        return not (self.has_stored_start or self._is_storing)

    @property
    def handed_in(self) -> int:
        """The number of steps that are stored or kept."""
        return self.steps + sum([entry.step is not None for entry in self._kept]) if self._kept else self.steps

    @property
    def seq(self) -> int | None:
        """Where the session stands when all is stored that was handed in; None if that is not known."""
        return None if self._is_elsewhere else self._live.seq + self.handed_in - self.steps

    @property
    def state(self) -> Mapping[str, Any]:
        """The state after the last step that was handed in."""
        steps = (entry.step for entry in reversed(self._kept))
        last = next((step for step in steps if step is not None), None)
        return self._live.state if last is None else last.state

    async def hand_in(self, entry: Callable[[], Entry], *, is_last: bool) -> None:
        """Take what `entry` makes, when its turn has come. Nothing of it is shown before it is stored."""
        if self._writing is not None:
            await self.previous()
        if self._durability is Durability.EXIT and not is_last:
            await self._keep(entry())
            return
        if self._live.stream.is_holding:  # somebody tells of a run that has waited
            await self._live.stream.until_released()
        self._live.stream.hold()
        try:
            made = entry()
        except BaseException:
            self._live.stream.release()
            raise
        if self._durability is Durability.ASYNC and not is_last:
            # owned by this object: whoever hands something in next awaits it, and the end of the run does
            self._writing = asyncio.get_running_loop().create_task(self._write([made]))
        else:
            kept, self._kept = self._kept, []
            await self._write([*kept, made])

    async def previous(self) -> None:
        """Return when nothing is being stored. Raises what the store refused it with."""
        writing = self._writing
        if writing is not None:
            try:
                await asyncio.shield(writing)  # whoever waits may be cancelled: what is handed in is stored
            finally:
                if writing.done():
                    self._writing = None

    async def settle(self) -> None:
        """Return when all that was handed in is durable. Raises what the store refused it with."""
        await self.previous()
        if self._kept:
            await self._live.stream.until_released()
            kept, self._kept = self._kept, []
            self._live.stream.hold()
            await self._write(kept)

    async def store_start(self, start: RunStart, run_id: str) -> None:
        """Store the start of the run by itself."""
        live = self._live
        self._has_tried_start = True
        commit = Commit(live.id, live.status, start.event_id, start, run_id=run_id, claim_no=live.claim_no, after_seq=live.seq)
        await self._store.commit(commit)
        self.has_stored_start = True

    async def _keep(self, entry: Entry) -> None:
        for event in entry.events:
            self._live.stream.show_early(event)
        self._kept.append(entry)
        if len(self._kept) >= _MOST_KEPT:
            await self.settle()

    async def _write(self, entries: list[Entry]) -> None:
        last = entries[-1]
        self._is_storing = True
        try:
            if len(entries) == 1:
                await self._store.commit(last.commit)
            else:
                await self._store_all(entries)
            self._move(entries)
            self._show(last)
        except Exception as exc:
            # after a conflict, too, the store may hold more of a run that it knows than is known here
            self._is_elsewhere = isinstance(exc, StepConflict)
            is_conflict = self._is_elsewhere and self.has_stored_start
            self.is_in_doubt = len(entries) > 1 or is_conflict or (isinstance(exc, StoreUnavailable) and exc.in_doubt)
            if isinstance(exc, StoreError):
                raise
            raise StoreError(f"the commit failed: {type_of(exc)}") from exc  # so that the run comes to an end, whatever it is
        finally:
            self._is_storing = False
            if self.is_in_doubt:
                self._live.stream.doubt()
            else:
                self._live.stream.release()

    async def _store_all(self, entries: list[Entry]) -> None:
        commits = [self._store.commit(entry.commit) for entry in entries]
        for answer in await asyncio.gather(*commits, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    def _move(self, entries: list[Entry]) -> None:
        live = self._live
        for entry in entries:
            step, commit = entry.step, entry.commit
            if step is not None:
                live.state, live.seq, live.prior_action = step.state, step.seq, step.action
                live.next_action, live.updated_at_s = step.next_action, step.finished_at_s
                self.last = step
                self.steps += 1
            elif commit.step is not None:
                self._go_back(commit.step)
            if entry.end is not None:
                live.updated_at_s = entry.end.finished_at_s
            live.status = commit.status
        self.has_stored_start = True

    def _go_back(self, step: StepCommit) -> None:
        live = self._live
        live.state, live.seq, live.prior_action = step.state, step.seq, step.action or None
        live.next_action = step.next_action
        live.forget_application()

    def _show(self, last: Entry) -> None:
        stream = self._live.stream
        was_shown = {event.id for event in stream.undurable} if self._durability is Durability.EXIT else ()
        stream.mark_durable(last.commit.run_id, last.events[-1].id)
        for event in last.events:
            if event.id not in was_shown:
                stream.append(event)
        self.end = last.end
