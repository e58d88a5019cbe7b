"""The port that every store implements, and its errors. `tests/persistence` holds the contract as one suite over all stores."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from app.persistence.records import (
    Commit,
    FailureRecord,
    History,
    KeyRecord,
    LoadedSession,
    NewSession,
    RunRecord,
    RunStart,
    SessionFilter,
    SessionPage,
    SessionRecord,
    StepRecord,
)

if TYPE_CHECKING:
    from app.persistence.outbox import Outbox
    from app.persistence.replicas import Replicas
    from app.persistence.run_queue import RunQueue
    from app.persistence.schedules import Schedules
    from app.persistence.store_stats import StoreStats

__all__ = [
    "ClaimLost",
    "CursorInvalid",
    "KeyTaken",
    "RunEnded",
    "RunNotFound",
    "ScheduleNotFound",
    "SessionExists",
    "SessionNotFound",
    "StateUnreadable",
    "StepConflict",
    "StepNotFound",
    "StepTrimmed",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "TextUnstorable",
]


class StoreError(Exception):
    """Root of what a store raises on its own account."""


class SessionNotFound(StoreError):
    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session has the id {session_id!r}")
        self.session_id = session_id


class SessionExists(StoreError):
    def __init__(self, session_id: str) -> None:
        super().__init__(f"a session with the id {session_id!r} exists already")
        self.session_id = session_id


class StepNotFound(StoreError):
    def __init__(self, session_id: str, seq: int) -> None:
        super().__init__(f"session {session_id!r} has no step {seq}")
        self.session_id = session_id
        self.seq = seq


class StepTrimmed(StepNotFound):
    """The step was committed once, and is not kept any more."""

    def __init__(self, session_id: str, seq: int, first_seq: int) -> None:
        super().__init__(session_id, seq)
        self.args = (f"step {seq} of session {session_id!r} was trimmed: its history begins with step {first_seq}",)
        self.first_seq = first_seq


class StateUnreadable(StoreError):
    """A value of a session cannot be read back: the class that it is of is gone, or has changed. It is stored as it was.

    `key` is that of the state; `seq` the step as of which it was asked for, None for where the session stands.
    """

    def __init__(self, session_id: str, key: str, type_name: str, reason: str, seq: int | None = None) -> None:
        at = "" if seq is None else f" as of step {seq}"
        super().__init__(
            f"key {key!r} of session {session_id!r}{at} cannot be read, a {type_name}: {reason}. Bring the class back, or set or "
            "delete the key"
        )
        self.session_id = session_id
        self.key = key
        self.type_name = type_name
        self.reason = reason
        self.seq = seq


class RunNotFound(StoreError):
    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run has the id {run_id!r}")
        self.run_id = run_id


class ScheduleNotFound(StoreError):
    def __init__(self, schedule_id: str) -> None:
        super().__init__(f"no schedule has the id {schedule_id!r}")
        self.schedule_id = schedule_id


class StepConflict(StoreError):
    """Somebody else committed this step: the writer's picture of the session is stale, and nothing was stored.

    Raised for a commit without a step, `seq` is the step that would follow it.
    """

    def __init__(self, session_id: str, seq: int) -> None:
        super().__init__(f"step {seq} of session {session_id!r} does not follow the last committed one")
        self.session_id = session_id
        self.seq = seq


class RunEnded(StepConflict):
    """The run has another end already, which stands: `run` is how it is stored. Nothing was stored."""

    def __init__(self, session_id: str, seq: int, run: RunRecord) -> None:
        super().__init__(session_id, seq)
        self.args = (f"run {run.id!r} has ended already, as {run.status.value}",)
        self.run = run


class ClaimLost(StoreError):
    """The session was claimed again, most likely by another replica: nothing was stored, and nothing can be from here."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} has been taken over by another replica")
        self.session_id = session_id


class KeyTaken(StoreError):
    """Another request has used this idempotency key meanwhile; nothing was stored."""

    def __init__(self) -> None:
        super().__init__("the idempotency key is taken")


class TextUnstorable(StoreError, ValueError):
    """An id, a name or metadata is no text for a database column: it holds NUL or a lone surrogate, or is too long."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} {reason}")
        self.what = what


class CursorInvalid(StoreError):
    """A list was asked to go on from a cursor that no list gave out."""


class StoreUnavailable(StoreError):
    """The database cannot be reached or refuses to work; nothing was stored. `retry_after_s` is a hint.

    `in_doubt` says that the connection was lost in the middle: what was handed in may be stored after all.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0, *, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.in_doubt = in_doubt


class Store(Protocol):
    """Sessions, steps, failures and runs, durable when a method returns.

    Methods may be called from any number of tasks of one event loop. Ids that do not exist raise the errors above, and so do
    those of sessions that have expired.
    """

    @property
    def replicas(self) -> "Replicas":
        """This process among those that share the store."""
        ...

    @property
    def queue(self) -> "RunQueue":
        """Where runs that wait come from."""
        ...

    @property
    def outbox(self) -> "Outbox":
        """The webhooks of runs that have ended."""
        ...

    @property
    def schedules(self) -> "Schedules":
        """What is to run at its time."""
        ...

    def stats(self) -> "StoreStats":
        """The store's figures at this moment."""
        ...

    async def open(self) -> None:
        """Connect and bring the schema up to date (or refuse, when it is not ours to change)."""
        ...

    async def tend(self) -> None:
        """Do what has to be done from time to time. Raises StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Flush what waits, then disconnect."""
        ...

    async def ping(self) -> None:
        """Return when the database answers; raises StoreUnavailable."""
        ...

    async def create_session(self, new: NewSession) -> None:
        """Raises SessionExists, KeyTaken, TextUnstorable. Grouped with other sessions' commits."""
        ...

    async def get_session(self, session_id: str) -> SessionRecord: ...

    async def load_session(self, session_id: str) -> LoadedSession: ...

    async def claim_session(self, session_id: str) -> LoadedSession:
        """Load a session and, if this process has joined the replicas, make it this one's: it alone commits to it then.

        Raises ClaimedElsewhere.
        """
        ...

    async def list_sessions(self, which: SessionFilter, limit: int, cursor: str | None) -> SessionPage:
        """Raises CursorInvalid."""
        ...

    async def delete_session(self, session_id: str) -> None:
        """Remove the session and everything that belongs to it.

        Raises ClaimLost if this process has joined the replicas, and the session is not claimed by it.
        """
        ...

    async def commit(self, commit: Commit) -> None:
        """Store `commit` whole, in one transaction with those of other sessions that wait at the same time.

        Raises StepConflict if it does not follow the session's last step, SessionNotFound if the session is gone, ClaimLost
        if it has been claimed again since the claim of the commit, RunEnded if the run that it ends has another end.
        Two commits of one session are stored in the order of their calls. Once called it is carried out even if the
        caller is cancelled.
        """
        ...

    async def list_steps(
        self,
        session_id: str,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int = 100,
    ) -> Sequence[StepRecord]:
        """Steps with `after_seq < seq < before_seq`, oldest first, at most `limit`; empty for an unknown session."""
        ...

    async def get_step(self, session_id: str, seq: int) -> StepRecord: ...

    async def state_at(self, session_id: str, seq: int) -> dict[str, Any]:
        """The state after step `seq` (-1: as created). Raises SessionNotFound, StepNotFound, StepTrimmed, StateUnreadable."""
        ...

    async def list_failures(self, session_id: str, *, after_event_id: int = 0, limit: int = 100) -> Sequence[FailureRecord]: ...

    async def get_run(self, run_id: str) -> RunRecord: ...

    async def list_runs(self, session_id: str, *, after_event_id: int = 0, limit: int = 100) -> Sequence[RunRecord]:
        """Runs of which an event has an id above `after_event_id`, by their ends; those that have not ended come last."""
        ...

    async def steps_after_event(self, session_id: str, after_event_id: int, limit: int = 100) -> Sequence[StepRecord]:
        """Steps whose `event_id` is above `after_event_id`, oldest first: what a follower that comes back has missed."""
        ...

    async def progress_of_run(self, run: RunRecord) -> tuple[int, int | None]:
        """How many steps a run that has begun and not ended has taken, and the `seq` of the first of them; edits do not count."""
        ...

    async def unfinished_runs(self, limit: int = 100) -> Sequence[RunRecord]:
        """Runs stored as queued or running, oldest first: at start these are what a crash left behind."""
        ...

    async def running_runs(self, *, claimed_by: str | None, after: tuple[float, str], limit: int) -> Sequence[RunRecord]:
        """Runs stored as running, by their start and id, above `after`; in sessions that a replica has claimed, if one is named.

        Raises StoreUnavailable.
        """
        ...

    async def unfinished_runs_of(self, session_id: str) -> Sequence[RunRecord]:
        """The same for one session, in the order in which they were accepted: the ones that nobody had to queue come first."""
        ...

    async def queue_run(self, session_id: str, start: RunStart) -> None:
        """Store a run that is to begin later. Raises SessionNotFound, KeyTaken."""
        ...

    async def begin_attempt(self, run_id: str, steps: int) -> int:
        """Note that a run with so many steps is taken up again; return how often that was, since it last got on.

        Raises RunNotFound if it has ended.
        """
        ...

    async def uncount_attempts(self, runs: Sequence[tuple[str, int]]) -> None:
        """Take back one attempt at each of these runs, which have so many steps: it was ended in good order."""
        ...

    async def find_key(self, digest: bytes) -> KeyRecord | None:
        """What an idempotency key was used for."""
        ...

    async def maybe_expired(self, now_s: float, limit: int) -> Sequence[str]:
        """Ids of sessions that may have expired at `now_s` and that no other replica has, the longest overdue first."""
        ...

    async def purge_expired(self, session_ids: Collection[str], now_s: float) -> Sequence[str]:
        """Delete those of the sessions that had expired at `now_s` and that no other replica has; return which are gone.

        A session expires when nothing has happened in it for its `ttl_s` and no run of it is unfinished; from then on no other
        method finds it. Not all of them may go at once.
        """
        ...

    async def histories(self, after: int, limit: int) -> Sequence[History]:
        """How far back the sessions behind position `after` go, in the order of their positions; empty at the end of all."""
        ...

    async def trim(self, session_id: str, *, before_seq: int = 0, before_s: float | None = None) -> int:
        """Forget the steps below `before_seq` and those that ended before `before_s`; return the first `seq` that is kept.

        Runs and failures that belong to nothing later go with them. Steps of a run under way stay, and the one before them.
        Raises SessionNotFound.
        """
        ...

    async def purge_keys(self, before_s: float) -> int:
        """Forget the keys that were used before then; return how many."""
        ...
