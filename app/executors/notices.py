"""What this layer has to tell the user about an action: as a value, a Python warning and a log line.

The value goes on to the host, which shows it where its users look: the event stream, the metrics, the machine's page.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from app.engine.mode_warnings import BlockingActionWarning

__all__ = [
    "CpuBoundActionWarning",
    "ExecutorWarning",
    "LoopBlockedWarning",
    "Notice",
    "NoticeKind",
    "Notify",
    "Place",
    "tell",
]

logger = logging.getLogger(__name__)


class ExecutorWarning(UserWarning):
    """Something about where actions are carried out that the user should know."""


class CpuBoundActionWarning(ExecutorWarning):
    """A sync action burns CPU in a thread and so holds up every session of the process."""


class LoopBlockedWarning(ExecutorWarning):
    """An async action blocks the event loop."""


class NoticeKind(StrEnum):
    """What a notice is about: the `kind` of the SSE `warning` event."""

    BLOCKING_ACTION = "blocking_action"  # a sync action runs in a thread because nothing else was chosen
    CPU_BOUND_ACTION = "cpu_bound_action"  # it burns CPU there
    MOVED_TO_PROCESS = "moved_to_process"  # and `auto` has moved it
    STAYS_IN_THREAD = "stays_in_thread"  # or cannot, because something of it cannot travel
    LOOP_BLOCKED = "loop_blocked"  # an async action holds the loop
    MOVED_TO_PRIVATE_LOOP = "moved_to_private_loop"  # and `isolate_blocking` has moved it
    PROCESS_KILLED = "process_killed"  # processes of the service have died while it ran
    POOL_EXHAUSTED = "pool_exhausted"  # abandoned calls hold every thread


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that is wrong with an action, with figures and the fix in `message`.

    Given once per action (a LOOP_BLOCKED once per place), not per call. `session_id` is the session in which it was
    noticed. `details` holds the figures, JSON-able, no state values.
    """

    kind: NoticeKind
    machine: str | None
    action: str | None
    message: str
    session_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


Notify: TypeAlias = Callable[[Notice], None]
"""Called on the loop. The notice has been logged and given as a Python warning already."""

Place: TypeAlias = tuple[str, int]
"""A source file and a line in it."""

CATEGORIES: Mapping[NoticeKind, type[Warning]] = {
    NoticeKind.BLOCKING_ACTION: BlockingActionWarning,
    NoticeKind.CPU_BOUND_ACTION: CpuBoundActionWarning,
    NoticeKind.LOOP_BLOCKED: LoopBlockedWarning,
}


def tell(notice: Notice, place: Place | None) -> None:
    """Log `notice` and give it as a Python warning that points to `place`. Any thread may call it."""
    logger.warning(
        notice.message,
        extra={"kind": notice.kind.value, "machine": notice.machine, "action": notice.action, "session_id": notice.session_id},
    )
    file, line = place or ("<unknown>", 0)
    # a filter that makes errors of warnings must not fail a step whose work is done
    with suppress(Warning):
        warnings.warn_explicit(notice.message, CATEGORIES.get(notice.kind, ExecutorWarning), file, line)
