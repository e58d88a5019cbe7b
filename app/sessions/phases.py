"""Who may do something with a session in memory now: its phases, and the moves between them that are legal."""

from collections.abc import Mapping
from enum import Enum

__all__ = ["MOVES", "IllegalMove", "Phase"]


class Phase(Enum):
    """OPEN: runs begin, one at a time. EDITING, DELETING: runs that arrive wait in line. STALE: the session has to be read again.

    A session becomes stale when the store may hold something else than memory does: after a refused write, when another replica
    may have the session, and when the session is deleted. Nothing begins on it any more; who waits moves on to what is read.
    """

    OPEN = "open"
    EDITING = "editing"
    DELETING = "deleting"
    STALE = "stale"


MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.OPEN: frozenset({Phase.EDITING, Phase.DELETING, Phase.STALE}),
    Phase.EDITING: frozenset({Phase.OPEN, Phase.STALE}),
    Phase.DELETING: frozenset({Phase.OPEN, Phase.STALE}),
    Phase.STALE: frozenset({Phase.STALE}),
}


class IllegalMove(Exception):
    """A session was to change from one phase to another that does not follow it: an error of the service itself."""

    def __init__(self, session_id: str, before: Phase, after: Phase) -> None:
        super().__init__(f"session {session_id!r} is {before.value}, after which it cannot be {after.value}")
