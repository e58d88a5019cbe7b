"""Warnings about actions, each once: as a Python warning (and so a log line), for the machine's description, and as events."""

import warnings
from collections.abc import Callable, Sequence

from app.engine.mode_warnings import BlockingActionWarning, blocking_action
from app.executors.notices import CpuBoundActionWarning, LoopBlockedWarning, Notice, NoticeKind
from app.sessions.events import WarningGiven

__all__ = ["WarningBook"]

_CATEGORIES: dict[NoticeKind, type[Warning]] = {
    NoticeKind.BLOCKING_ACTION: BlockingActionWarning,
    NoticeKind.CPU_BOUND_ACTION: CpuBoundActionWarning,
    NoticeKind.LOOP_BLOCKED: LoopBlockedWarning,
}


class WarningBook:
    """What has been noticed about the machines of this process. `tell` gets each new warning with the session it was seen in."""

    def __init__(self, tell: Callable[[str, WarningGiven], None]) -> None:
        self._tell = tell
        self._given: dict[str, list[WarningGiven]] = {}
        self._blocking: set[tuple[str, str]] = set()

    def of_machine(self, machine: str) -> Sequence[WarningGiven]:
        """Return what is known against the actions of a machine, oldest first."""
        return tuple(self._given.get(machine, ()))

    def take(self, notice: Notice) -> None:
        """Write `notice` down and tell of it. Called on the event loop."""
        given = WarningGiven(notice.kind.value, notice.machine, notice.action, notice.message, dict(notice.details))
        self._given.setdefault(notice.machine, []).append(given)
        if notice.session_id is not None:
            self._tell(notice.session_id, given)
        warnings.warn(notice.message, _CATEGORIES.get(notice.kind, UserWarning), stacklevel=2)

    def sync_action(self, machine: str, action: str, session_id: str) -> None:
        """A sync action that chose no executor is about to run: warn of it, the first time."""
        if (machine, action) not in self._blocking:
            self._blocking.add((machine, action))
            message = str(blocking_action(action))
            self.take(Notice(NoticeKind.BLOCKING_ACTION, machine, action, message, session_id))
