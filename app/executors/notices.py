"""What this layer has to tell the user about an action, as values. The host decides where it is shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

__all__ = [
    "CpuBoundActionWarning",
    "LoopBlockedWarning",
    "Notice",
    "NoticeKind",
    "Notify",
]


class CpuBoundActionWarning(UserWarning):
    """A sync action burns CPU in a thread and so holds up every session of the process."""


class LoopBlockedWarning(UserWarning):
    """An async action blocks the event loop."""


class NoticeKind(StrEnum):
    """What a notice is about: the `kind` of the SSE `warning` event."""

    BLOCKING_ACTION = "blocking_action"  # a sync action runs in a thread because nothing else was chosen
    CPU_BOUND_ACTION = "cpu_bound_action"  # it burns CPU there
    MOVED_TO_PROCESS = "moved_to_process"  # and `auto` has moved it
    STAYS_IN_THREAD = "stays_in_thread"  # or cannot, because something of it cannot travel
    LOOP_BLOCKED = "loop_blocked"  # an async action holds the loop
    MOVED_TO_PRIVATE_LOOP = "moved_to_private_loop"  # and `isolate_blocking` has moved it
    POOL_EXHAUSTED = "pool_exhausted"  # abandoned calls hold every thread


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that is wrong with an action, with figures and the fix in `message`.

    Given once per action (a LOOP_BLOCKED once per place), not per call. `session_id` is the session in which it was
    noticed. `details` holds the figures, JSON-able, no state values.
    """

    kind: NoticeKind
    machine: str
    action: str | None
    message: str
    session_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


Notify: TypeAlias = Callable[[Notice], None]
