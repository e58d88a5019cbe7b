"""What one transaction writes: the waiting calls of many sessions, put together. Plain functions, no I/O.

A wave touches every session once, because one statement cannot update a row twice: the commits of one session that follow
one another become one *move* of its row, and whatever does not fit waits for the next wave.
None of these classes has a repr: it would show values.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.engine.state import values_of
from app.persistence.codec import deflate, encode_state, encode_step, with_run
from app.persistence.ended_runs import run_document, run_key
from app.persistence.records import Commit, NewSession, StepKind
from app.persistence.snapshots import ROW_BYTES
from app.persistence.transitions import check_commit, check_new, updated_at_s
from app.persistence.wave_rows import (
    Row,
    details_row,
    ended_run_row,
    failure_row,
    key_row,
    labels_of,
    new_session_row,
    run_end_row,
    run_start_row,
    step_row,
)

__all__ = ["Entry", "Group", "Rows", "SnapshotNote", "Wave", "assemble", "deflate_large", "entry_of_commit", "entry_of_new"]

_LARGE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class SnapshotNote:
    """What was decided about a snapshot: write `state` (the one at `seq`), or, if that is None, look again at `snapshot_at`.

    `covered_bytes` of log lie behind a snapshot that is written. `key` is the session's row: an id may be used again.
    """

    key: int
    seq: int
    state: bytes | None
    covered_bytes: int
    snapshot_at: int


@dataclass(slots=True, eq=False, repr=False)
class Entry:
    """One waiting call, with its rows made ready in the caller's task. Nobody waits for a SnapshotNote.

    `main` is the row of the new session or of the step; its last value is the state or the payload. `stepped_run` is the id of
    a run that is stored in the step, and needs the row no more that it may have.
    """

    session_id: str
    item: Commit | NewSession | SnapshotNote
    done: asyncio.Future[None] | None = None
    main: Row | None = None
    failure: Row | None = None
    run_start: Row | None = None
    run_end: Row | None = None
    stepped_run: str | None = None
    key: Row | None = None
    details: Row | None = None
    is_large: bool = False


@dataclass(slots=True, eq=False, repr=False)
class Group:
    """The entries of one session in one wave, in order.

    The session is to stand at `expected_seq` before it, and stands at `seq` behind it; None if nobody says.
    """

    session_id: str
    entries: list[Entry]
    claim_no: int | None = None
    expected_seq: int | None = None
    seq: int | None = None
    has_details: bool = False

    @classmethod
    def of(cls, entry: Entry) -> "Group":
        """Return the group that begins with `entry`, which is no new session."""
        group = cls(entry.session_id, [])
        group.takes(entry)
        return group

    def takes(self, entry: Entry) -> bool:
        """Take `entry` in if it follows the ones before it, else return False."""
        item = entry.item
        if isinstance(item, NewSession):
            return False
        if isinstance(item, Commit):
            is_first = all(isinstance(other.item, SnapshotNote) for other in self.entries)
            after_seq = item.after_seq if item.step is None else item.step.seq - 1
            if not is_first and self.claim_no != item.claim_no:
                return False
            if after_seq is not None and self.seq is not None and after_seq != self.seq:
                return False
            if item.details is not None and self.has_details:
                return False
            if item.run_end is not None and self._ends(item.run_end.run_id):
                return False
            self._follow(item, after_seq)
        self.entries.append(entry)
        return True

    def _ends(self, run_id: str) -> bool:
        commits = [entry.item for entry in self.entries if isinstance(entry.item, Commit)]
        return any(commit.run_end is not None and commit.run_end.run_id == run_id for commit in commits)

    def _follow(self, commit: Commit, after_seq: int | None) -> None:
        if self.seq is None:
            self.expected_seq = after_seq
        if after_seq is not None:
            self.seq = after_seq if commit.step is None else commit.step.seq
        self.claim_no = commit.claim_no
        self.has_details = self.has_details or commit.details is not None


@dataclass(slots=True, eq=False, repr=False)
class Rows:
    """Rows of one table, and beside each of them the place of its session in the wave."""

    places: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(self, place: int, row: Row) -> None:
        self.places.append(place)
        self.rows.append(row)

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclass(slots=True, eq=False, repr=False)
class Wave:
    """The rows of one transaction. A place is an index of `creates` for `new_*`, of `groups` for the others."""

    creates: list[Entry] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    new_sessions: Rows = field(default_factory=Rows)
    new_labels: Rows = field(default_factory=Rows)
    new_keys: Rows = field(default_factory=Rows)
    ends: Rows = field(default_factory=Rows)  # of runs that may have another one: then their sessions do not move
    moves: Rows = field(default_factory=Rows)
    steps: Rows = field(default_factory=Rows)
    snapshots: Rows = field(default_factory=Rows)
    failures: Rows = field(default_factory=Rows)
    run_starts: Rows = field(default_factory=Rows)
    run_ends: Rows = field(default_factory=Rows)
    stepped_runs: Rows = field(default_factory=Rows)
    keys: Rows = field(default_factory=Rows)
    details: Rows = field(default_factory=Rows)
    labels: Rows = field(default_factory=Rows)  # of the sessions in `details`, all that they have from now on


def entry_of_new(
    new: NewSession,
    done: asyncio.Future[None],
    claimant: str | None = None,
    state: bytes | None = None,
    key: Row | None = None,
) -> Entry:
    """Raises TextUnstorable, UnserializableValue.

    `state` is the blob of the new session's state, and `key` the row of its key, if they were made already.
    """
    check_new(new)
    state = encode_state(new.state) if state is None else state
    if key is None and new.key is not None:
        key = key_row(new.key, None)
    is_large = len(state) > _LARGE_BYTES
    row = new_session_row(new, state if is_large else deflate(state), claimant if new.is_claimed else None)
    return Entry(new.id, new, done, row, key=key, is_large=is_large)


def entry_of_commit(commit: Commit, done: asyncio.Future[None]) -> Entry:
    """Raises TextUnstorable, UnserializableValue."""
    check_commit(commit)
    step, start, end, failure, whole = commit.step, commit.run_start, commit.run_end, commit.failure, commit.finished
    entry = Entry(commit.session_id, commit, done)
    if step is not None:
        run = None if whole is None or end is None else run_document(whole, end, step)
        payload = with_run(step.encoded or encode_step(step.operations, step.result, values_of(step.state)), run)
        entry.is_large = len(payload) > _LARGE_BYTES
        entry.main = step_row(step, commit.run_id, payload if entry.is_large else deflate(payload), ends_run=run is not None)
        if commit.details is not None:
            entry.details = details_row(commit.details, step.finished_at_s)
    if whole is not None:
        entry.stepped_run = None if commit.is_whole_run else whole.run_id
    elif start is not None and end is not None and start.run_id == end.run_id:
        entry.run_start = run_start_row(start, end)
    else:
        entry.run_start = None if start is None else run_start_row(start, None)
        entry.run_end = None if end is None else run_end_row(end)
    if start is not None and start.key is not None:
        entry.key = key_row(start.key, start.run_id)
    if failure is not None:
        entry.failure = failure_row(failure, commit.run_id)
    return entry


def deflate_large(entry: Entry) -> None:
    """Deflate what was too large to be deflated on the event loop."""
    if entry.is_large and entry.main is not None:
        entry.main = (*entry.main[:-1], deflate(entry.main[-1]))
        entry.is_large = False


def assemble(entries: Iterable[Entry]) -> tuple[Wave, list[Entry]]:
    """Return the next wave, and the entries that have to wait for a later one, in order."""
    wave = Wave()
    groups: dict[str, Group | None] = {}  # None: nothing more of this session in this wave
    later: list[Entry] = []
    for entry in entries:
        session_id = entry.session_id
        if session_id in groups:
            group = groups[session_id]
            if group is None or not group.takes(entry):
                groups[session_id] = None
                later.append(entry)
        elif isinstance(entry.item, NewSession):
            groups[session_id] = None
            _create(wave, entry, entry.item)
        else:
            group = groups[session_id] = Group.of(entry)
            wave.groups.append(group)
    for place, group in enumerate(wave.groups):
        _move(wave, place, group)
    return wave, later


def _create(wave: Wave, entry: Entry, new: NewSession) -> None:
    place = len(wave.creates)
    wave.creates.append(entry)
    wave.new_sessions.add(place, entry.main or ())
    for label in labels_of(new.metadata):
        wave.new_labels.add(place, (label,))
    if entry.key is not None:
        wave.new_keys.add(place, entry.key)


def _move(wave: Wave, place: int, group: Group) -> None:
    """Add the rows of a group: one move, and what belongs to it."""
    key = seq = status = prior_action = next_action = snapshot_seq = snapshot_at = None
    updated_at = 0.0
    last_event_id = log_bytes = 0
    for entry in group.entries:
        item = entry.item
        if isinstance(item, SnapshotNote):
            key, snapshot_at = item.key, item.snapshot_at
            if item.state is not None:
                snapshot_seq = item.seq
                log_bytes -= item.covered_bytes
                wave.snapshots.add(place, (item.seq, item.state))
        elif isinstance(item, Commit):
            status = item.status._value_
            at_s, step = updated_at_s(item), item.step
            if at_s is not None and at_s > updated_at:
                updated_at = at_s
            if item.last_event_id > last_event_id:
                last_event_id = item.last_event_id
            if step is not None and entry.main is not None:
                log_bytes += len(entry.main[-1]) + ROW_BYTES
                seq, next_action = step.seq, step.next_action
                prior_action = prior_action if step.kind is StepKind.EDIT else step.action
    wave.moves.add(
        place,
        (
            group.session_id,
            group.expected_seq,
            seq,
            status,
            prior_action,
            next_action,
            updated_at,
            last_event_id,
            log_bytes,
            snapshot_seq,
            snapshot_at,
            key,
            group.claim_no,
        ),
    )
    _children(wave, place, group)


def _children(wave: Wave, place: int, group: Group) -> None:
    starts: dict[str, Row] = {}
    for entry in group.entries:
        if entry.main is not None:
            wave.steps.add(place, entry.main)
        if isinstance(entry.item, Commit) and (end := entry.item.run_end) is not None and not entry.item.is_whole_run:
            wave.ends.add(place, (end.run_id, run_key(end.run_id), end.event_id))
        if entry.failure is not None:
            wave.failures.add(place, entry.failure)
        if entry.key is not None:
            wave.keys.add(place, entry.key)
        if entry.details is not None and isinstance(entry.item, Commit) and entry.item.details is not None:
            wave.details.add(place, entry.details)
            for label in labels_of(entry.item.details.metadata):
                wave.labels.add(place, (label,))
        if entry.run_start is not None:
            starts[entry.run_start[0]] = entry.run_start
        if entry.run_end is not None:
            run_id = entry.run_end[0]
            if run_id in starts:  # one statement cannot update the row that it inserts
                starts[run_id] = ended_run_row(starts[run_id], entry.run_end)
            else:
                wave.run_ends.add(place, entry.run_end)
        if entry.stepped_run is not None:
            starts.pop(entry.stepped_run, None)  # nor can one delete it
            wave.stepped_runs.add(place, (entry.stepped_run,))
    for row in starts.values():
        wave.run_starts.add(place, row)
