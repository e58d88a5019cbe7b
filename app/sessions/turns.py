"""Runs that wait for their session because another one has it: first come, first served, but for those that push to the front."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import assert_never

from app.persistence.records import RunRecord
from app.sessions.errors import RunCancelled, SessionBusy
from app.sessions.live import LiveSession
from app.sessions.requests import OnBusy, RunOrder
from app.sessions.run import Run
from app.system.clocks import current_time_s

__all__ = ["INTERRUPTED", "ROLLED_BACK", "Turn", "Turns"]

INTERRUPTED = "interrupted"
ROLLED_BACK = "rolled_back"
_LONGEST_LINE = 1_000


@dataclass(slots=True, eq=False)
class Turn:
    """A run that is to begin when its turn comes, at a `seq` that is `expected`. `stored` is its record if the store has it."""

    session_id: str
    order: RunOrder
    expected: Collection[int] | None = None
    stored: RunRecord | None = None
    asked_at_s: float = field(default_factory=current_time_s)
    began: asyncio.Future[Run] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fail(self, error: Exception) -> None:
        """Tell whoever waits for the run that it does not begin here."""
        if not self.began.done():
            self.began.set_exception(error)
            self.began.exception()  # seen: perhaps nobody waits for it


class Turns:
    """The lines in front of the sessions of one host. `begin` starts a run on a session that is idle, or raises."""

    def __init__(self, begin: Callable[[LiveSession, Turn], Run], return_stored: Callable[[str], None]) -> None:
        """`return_stored` is told the id of a stored run that cannot wait here any longer, and has not ended."""
        self._begin = begin
        self._return_stored = return_stored
        self._waiting: dict[str, tuple[LiveSession, Turn]] = {}

    def get(self, run_id: str) -> Turn | None:
        """Return the turn of a run that waits."""
        found = self._waiting.get(run_id)
        return found[1] if found else None

    def take(self, live: LiveSession, turn: Turn) -> None:
        """Put `turn` where its request wants it to stand in front of a busy session. Raises SessionBusy."""
        match turn.order.request.on_busy:
            case OnBusy.REJECT:
                raise SessionBusy(live.id, None if live.run is None else live.run.id)
            case OnBusy.ENQUEUE:
                self.wait(live, turn)
            case OnBusy.INTERRUPT:
                self.wait(live, turn, is_first=True)
                if live.run is not None:
                    live.run.cancel(INTERRUPTED)
            case OnBusy.ROLLBACK:
                self.wait(live, turn, is_first=True)
                if live.run is not None:
                    live.run.cancel(ROLLED_BACK, rolls_back=True)
            case _ as never:
                assert_never(never)

    def wait(self, live: LiveSession, turn: Turn, *, is_first: bool = False) -> None:
        """Let `turn` wait. Raises SessionBusy if too many do, but for a run that is stored: that one has been accepted."""
        if turn.stored is None and len(live.line) >= _LONGEST_LINE:
            raise SessionBusy(live.id, None if live.run is None else live.run.id)
        self._waiting[turn.order.run_id] = live, turn
        if is_first:
            live.line.appendleft(turn)
        else:
            live.line.append(turn)

    def next(self, live: LiveSession) -> None:
        """Let the next ones begin, for as long as the session is free."""
        while live.line and not live.is_occupied:
            turn = live.line.popleft()
            self._waiting.pop(turn.order.run_id, None)
            if turn.began.done():  # nobody waits for it any more
                continue
            try:
                run = self._begin(live, turn)
            except Exception as exc:  # the border to whoever waits for this turn
                self.send_away(turn, exc)
            else:
                turn.began.set_result(run)

    def withdraw(self, run_id: str) -> tuple[LiveSession, Turn] | None:
        """Take a run out of its line, of which somebody is to be told why; return its session and turn if it waits."""
        found = self._waiting.pop(run_id, None)
        if found is not None:
            live, turn = found
            live.line.remove(turn)
        return found

    def cancel(self, run_id: str, reason: str) -> None:
        """Take a run that is not stored out of its line."""
        if (found := self.withdraw(run_id)) is not None:
            live, turn = found
            turn.fail(RunCancelled(live.id, run_id, reason, live.seq, 0))

    def move(self, old: LiveSession, new: LiveSession) -> None:
        """Let all that wait for `old` wait for `new`, which is the same session, read again."""
        for turn in old.line:
            self._waiting[turn.order.run_id] = new, turn
        new.line.extend(old.line)
        old.line.clear()
        self.next(new)

    def fail(self, live: LiveSession, error: Callable[[], Exception]) -> None:
        """Send away all that wait for `live`."""
        while live.line:
            turn = live.line.popleft()
            self._waiting.pop(turn.order.run_id, None)
            self.send_away(turn, error())

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """Send everybody away."""
        for live, _ in list(self._waiting.values()):
            self.fail(live, error)

    def send_away(self, turn: Turn, error: Exception) -> None:
        """Tell whoever waits for `turn`, which has left its line, that it does not begin; a stored run waits elsewhere then."""
        turn.fail(error)
        if turn.stored is not None:
            self._return_stored(turn.order.run_id)
