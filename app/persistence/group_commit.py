"""Group commit: one flush is under way, and whatever waits when it is done goes with the next one.

The committer owns the order (calls of one session are stored as they came), the retries while the database is away, and who
is told what. What a flush contains is decided in `waves`; the SQL is in the writers.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from app.engine.serde_size import are_many
from app.engine.state import values_of
from app.persistence.codec import deflate, encode_state
from app.persistence.handing_in import MOST_ON_LOOP
from app.persistence.records import Commit, StepCommit
from app.persistence.snapshots import pays_off, threshold_after
from app.persistence.store import SessionExists, SessionNotFound, StepConflict, StoreError, StoreUnavailable
from app.persistence.waves import Entry, Group, SnapshotNote, Wave, assemble, deflate_large
from app.persistence.writer import ConnectionLost, DatabaseLocked, Moved, WaveRefused, Writer, Written
from app.system.gil import in_short_turns
from app.system.host_threads import HostThreads

__all__ = ["Committer"]

_log = logging.getLogger(__name__)


_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_LARGE_LOG_BYTES = 64 * 1024
_DEFLATING_THREADS = 2


class Committer:
    """Writes the calls of many sessions in few transactions.

    What is large is deflated in threads before it waits for a flush: it holds up the calls of its own session, and no others.
    While the database is away a flush tries again for `patience_s`, and for `lock_patience_s` while another process has it
    locked; then all that waits fails with StoreUnavailable.
    """

    def __init__(self, writer: Writer, *, patience_s: float, lock_patience_s: float = 0.0) -> None:
        self._writer = writer
        self.most_entries = 1024  # of one flush
        self.flushes = 0
        self.commits = 0  # that went into them
        self._patience_s = patience_s
        self._lock_patience_s = lock_patience_s
        self._waiting: list[Entry] = []
        self._deflating: dict[str, deque[Entry]] = {}  # by session: what is large, and all that came behind it
        self._threads = HostThreads("deflate", _DEFLATING_THREADS)
        self._snapshot_threads = HostThreads("snapshot", 1)  # of their own: users' classes are encoded there
        self._snapshots: set[int] = set()  # keys of the sessions of which one is being made, or waits to be written
        self._tasks: set[asyncio.Task[None]] = set()
        self._notes: list[Entry] = []
        self._wake = asyncio.Event()
        self._is_closing = False
        self._was_lost = False
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many calls wait for a flush."""
        return len(self._waiting) + sum(map(len, self._deflating.values()))

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="group commit")

    async def close(self) -> None:
        """Flush what waits, then stop."""
        self._is_closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail(self._take_all(), lambda _: StoreUnavailable("the store is closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.close()
        self._snapshot_threads.close()

    def submit(self, entry: Entry) -> None:
        """Let `entry` go with the next flush; its future tells when it is durable."""
        if self._task is None or self._task.done() or self._is_closing:
            raise StoreUnavailable("the store is closed")
        line = self._deflating.get(entry.session_id)
        if line is not None:
            line.append(entry)
        elif entry.is_large:
            self._deflating[entry.session_id] = line = deque([entry])
            self._begin(self._deflate(entry.session_id, line))
        else:
            self._waiting.append(entry)
            self._wake.set()

    async def _deflate(self, session_id: str, line: deque[Entry]) -> None:
        """Let the calls of a session go with the next flush, one after the other, as they are deflated."""
        while line:
            entry = line[0]
            if entry.is_large:
                try:
                    await self._threads.run(deflate_large, entry)
                except Exception as exc:  # the border: whatever it is, nobody may wait for ever
                    _log.exception("a step could not be deflated")
                    self._fail_whole(line, exc)
                    line.clear()
                    break
            if self._deflating.get(session_id) is not line:
                return  # they have failed meanwhile, with all the others that waited
            self._waiting.append(line.popleft())
            self._wake.set()
        del self._deflating[session_id]
        self._wake.set()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_all(self) -> list[Entry]:
        """Return all that waits: nothing of it will be written."""
        taken = [*self._waiting, *(entry for line in self._deflating.values() for entry in line)]
        self._waiting = []
        self._deflating = {}
        return taken

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[: self.most_entries], self._waiting[self.most_entries :]
                notes, self._notes = self._notes, []
                self._snapshots.difference_update(note.item.key for note in notes if isinstance(note.item, SnapshotNote))
                self.commits += len(batch)
                await self._flush_or_fail(batch, notes)
            if self._is_closing and not self._deflating:
                return

    async def _flush_or_fail(self, batch: list[Entry], notes: list[Entry]) -> None:
        try:
            await self._flush(notes + batch)
        except asyncio.CancelledError:
            self._fail(batch + self._take_all(), lambda _: StoreUnavailable("the store was stopped while it was writing"))
            raise
        except StoreUnavailable as exc:
            message, in_doubt = str(exc), exc.in_doubt
            self._fail(batch, lambda _: StoreUnavailable(message, in_doubt=in_doubt))
            self._fail(self._take_all(), lambda _: StoreUnavailable(message))
        except Exception as exc:  # the border: whatever it is, nobody may wait for ever
            _log.exception("group commit failed")
            self._fail_whole(batch, exc)

    async def _flush(self, entries: list[Entry]) -> None:
        self.flushes += 1
        while entries:
            wave, entries = assemble(entries)
            for entry in await self._store(wave):
                single, _ = assemble([entry])
                await self._store(single)

    async def _store(self, wave: Wave) -> list[Entry]:
        """Write a wave and tell those who wait. Return the entries that have to be tried one by one."""
        try:
            written = await self._write(wave)
        except WaveRefused as exc:
            entries = [*wave.creates, *(entry for group in wave.groups for entry in group.entries)]
            if len(entries) > 1:
                return entries
            message = str(exc)
            self._fail(entries, lambda _: WaveRefused(message))
            return []
        created = set(written.created)
        for place, entry in enumerate(wave.creates):
            if place in created:
                self._tell([entry])
            else:
                self._fail([entry], lambda entry: SessionExists(entry.session_id))
        again: list[Entry] = []
        moved = {one.place for one in written.moved}
        for place, group in enumerate(wave.groups):
            if place in moved:
                self._tell(group.entries)
            elif len(group.entries) > 1:
                again += group.entries
            else:
                self._fail(group.entries, _refusal)
        for one in written.moved:
            if one.log_bytes >= one.snapshot_at:
                self._consider_snapshot(one, wave.groups[one.place])
        return again

    async def _write(self, wave: Wave) -> Written:
        loop = asyncio.get_running_loop()
        # after one failure, try just once at a time: a service without its database should say so at once
        began = loop.time()
        until = began + (0.0 if self._was_lost else self._patience_s)
        pause_s = _FIRST_PAUSE_S
        in_doubt = False
        while True:
            try:
                await self._writer.connect()
                written = await self._writer.write(wave)
                if in_doubt and (len(written.created) < len(wave.creates) or len(written.moved) < len(wave.groups)):
                    # refused, perhaps because the first attempt was carried out after all: seq lets a step in only once
                    written = _together(written, await self._writer.landed(wave))
            except ConnectionLost as exc:
                in_doubt = in_doubt or exc.in_doubt
                if isinstance(exc, DatabaseLocked) and not self._was_lost:
                    until = max(until, began + self._lock_patience_s)
                if loop.time() >= until:
                    self._was_lost = True
                    doubt = "; whether the last commits were stored is not known" if in_doubt else ""
                    raise StoreUnavailable(f"{exc}{doubt}", in_doubt=in_doubt) from None
                await asyncio.sleep(min(pause_s, max(0.0, until - loop.time())))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._was_lost = False
                return written

    def _consider_snapshot(self, moved: Moved, group: Group) -> None:
        step = _last_step(group)
        if step is None or moved.key in self._snapshots:
            return
        if moved.log_bytes > _LARGE_LOG_BYTES or are_many(values_of(step.state).values(), MOST_ON_LOOP):
            self._snapshots.add(moved.key)
            self._begin(self._snapshot_in_thread(moved, step, group.session_id))
        else:
            try:
                self._note(moved, step, group.session_id, _snapshot(step))
            except Exception as exc:  # a snapshot only saves time: the step is stored without it
                _tell_of_no_snapshot(step, group.session_id, exc)

    async def _snapshot_in_thread(self, moved: Moved, step: StepCommit, session_id: str) -> None:
        try:
            self._note(moved, step, session_id, await self._snapshot_threads.run(in_short_turns, partial(_snapshot, step)))
        except Exception as exc:  # as above
            self._snapshots.discard(moved.key)
            _tell_of_no_snapshot(step, session_id, exc)

    def _note(self, moved: Moved, step: StepCommit, session_id: str, state: bytes) -> None:
        """Have the next flush write the snapshot, if it is worth it."""
        note = SnapshotNote(
            key=moved.key,
            seq=step.seq,
            state=state if pays_off(moved.log_bytes, len(state)) else None,
            covered_bytes=moved.log_bytes,
            snapshot_at=threshold_after(len(state)),
        )
        self._notes.append(Entry(session_id, note))

    def _tell(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.done is not None and not entry.done.done():
                entry.done.set_result(None)

    def _fail_whole(self, entries: Iterable[Entry], cause: Exception) -> None:
        message = f"the commit failed: {type(cause).__name__}"
        self._fail(entries, lambda _: StoreError(message))

    def _fail(self, entries: Iterable[Entry], error: Callable[[Entry], StoreError]) -> None:
        for entry in entries:
            # done already: its caller was cancelled, or it was told before the flush came to its end
            if entry.done is not None and not entry.done.done():
                # one each: an exception that several tasks raise collects all their tracebacks
                entry.done.set_exception(error(entry))


def _tell_of_no_snapshot(step: StepCommit, session_id: str, exc: Exception) -> None:
    _log.warning("no snapshot of session %s at step %s: %s", session_id, step.seq, type(exc).__name__)


def _last_step(group: Group) -> StepCommit | None:
    steps = (entry.item.step for entry in reversed(group.entries) if isinstance(entry.item, Commit))
    return next((step for step in steps if step is not None), None)


def _snapshot(step: StepCommit) -> bytes:
    return deflate(encode_state(step.state))


def _refusal(entry: Entry) -> StoreError:
    if isinstance(entry.item, Commit):
        step, after_seq = entry.item.step, entry.item.after_seq
        if step is not None:
            return StepConflict(entry.session_id, step.seq)
        if after_seq is not None:
            return StepConflict(entry.session_id, after_seq + 1)
    return SessionNotFound(entry.session_id)


def _together(written: Written, landed: Written) -> Written:
    created = {*written.created, *landed.created}
    moved = {one.place: one for one in (*landed.moved, *written.moved)}
    return Written(list(created), list(moved.values()))
