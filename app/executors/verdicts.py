"""The sentences in which the ladder tells what it has measured and what it has done: figures, and the fix."""

from typing import Any

from app.executors.jobs import Usage
from app.executors.notices import Notice, NoticeKind
from app.executors.owner import CallOwner
from app.executors.roster import Entry

__all__ = ["cpu_bound", "moved_to_process", "notice", "stays_in_thread"]


def notice(kind: NoticeKind, entry: Entry, owner: CallOwner, message: str, **details: Any) -> Notice:
    return Notice(kind, entry.machine, entry.action, message, owner.session_id, details)


def cpu_bound(entry: Entry, owner: CallOwner, usage: Usage) -> Notice:
    message = (
        f"action {entry.action!r} of machine {entry.machine!r} used {usage.cpu_s:.3f} s of CPU in {usage.wall_s:.3f} s "
        f"in a thread, where it holds up every other session: choose @action(..., executor='process'), or 'auto'"
    )
    return notice(
        NoticeKind.CPU_BOUND_ACTION,
        entry,
        owner,
        message,
        cpu_s=round(usage.cpu_s, 6),
        wall_s=round(usage.wall_s, 6),
        neighbours=usage.neighbours,
    )


def moved_to_process(entry: Entry, owner: CallOwner) -> Notice:
    figures = entry.figures
    message = (
        f"action {entry.action!r} of machine {entry.machine!r} is CPU-bound "
        f"({figures.cpu_s / figures.calls:.3f} s of CPU per call over {figures.calls} calls): from now on it runs in worker processes; executor='process' would do so from the start"
    )
    return notice(
        NoticeKind.MOVED_TO_PROCESS,
        entry,
        owner,
        message,
        calls=figures.calls,
        cpu_bound_calls=figures.cpu_bound_calls,
        mean_cpu_s=round(figures.cpu_s / figures.calls, 6),
    )


def stays_in_thread(entry: Entry, owner: CallOwner, reason: Exception) -> Notice:
    message = f"action {entry.action!r} of machine {entry.machine!r} is CPU-bound and stays in threads: {reason}"
    return notice(NoticeKind.STAYS_IN_THREAD, entry, owner, message)
