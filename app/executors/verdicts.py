"""The sentences in which the ladder tells what it has measured and what it has done: figures, and the fix."""

from typing import Any

from app.executors.errors import PoolExhausted
from app.executors.jobs import Usage
from app.executors.notices import Notice, NoticeKind
from app.executors.owner import CallOwner
from app.executors.roster import Entry
from app.executors.watchdog import Stall

__all__ = ["cpu_bound", "exhausted", "loop_blocked", "moved_to_private_loop", "moved_to_process", "notice", "stays_in_thread"]


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
        f"({figures.cpu_s / figures.calls:.3f} s of CPU per call over {figures.calls} calls): from now on it runs in worker "
        f"processes; executor='process' would do so from the start"
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


def exhausted(entry: Entry, owner: CallOwner, error: PoolExhausted) -> Notice:
    message = (
        f"action {entry.action!r} of machine {entry.machine!r} was refused: {error}; calls that hang should have an end of their "
        f"own, or run in processes, which can be killed"
    )
    return notice(NoticeKind.POOL_EXHAUSTED, entry, owner, message, pool=error.pool, retry_after_s=error.retry_after_s)


def moved_to_private_loop(entry: Entry) -> Notice:
    message = (
        f"action {entry.action!r} of machine {entry.machine!r} has held the event loop {entry.stalls} times: from now on it runs "
        f"on a loop of its own in another thread"
    )
    return Notice(NoticeKind.MOVED_TO_PRIVATE_LOOP, entry.machine, entry.action, message, None, {"stalls": entry.stalls})


def loop_blocked(stall: Stall, budget_s: float) -> Notice:
    found = stall.blame
    file, line = found.place
    who = f"action {found.action!r} of machine {found.machine!r}" if found.action else "code outside an action"
    message = (
        f"{who} holds the event loop for more than {budget_s * 1e3:.0f} ms at {file}:{line} (in {found.function}), and with it "
        f"every other session: await something async there, make the action sync, or set isolate_blocking"
    )
    return Notice(
        NoticeKind.LOOP_BLOCKED,
        found.machine,
        found.action,
        message,
        None if found.owner is None else found.owner.session_id,
        {
            "file": file,
            "line": line,
            "function": found.function,
            "stack": found.stack,
            "count": stall.count,
            "total_s": round(stall.total_s, 3),
            "longest_s": round(stall.longest_s, 3),
        },
    )
