"""Keeps the event loop free: has it watched, tells who holds it, and gives the habitual offenders a loop of their own."""

import asyncio
from collections.abc import Callable
from functools import partial

from app.executors import verdicts
from app.executors.notices import Notice, Notify, tell
from app.executors.private_loops import PrivateLoop
from app.executors.roster import Entry, Roster
from app.executors.rungs import Rung
from app.executors.watchdog import LoopStats, LoopWatchdog, Stall

__all__ = ["LoopGuard"]

STALLS_THAT_PROVE = 2
"""An async action that has held the loop so often does so by habit."""


class LoopGuard:
    """Guards the loop on which it is started. `publish` tells about an action once, `notify` about a place."""

    def __init__(
        self,
        roster: Roster,
        *,
        budget_s: float | None,
        isolate_blocking: bool,
        publish: Callable[[Entry, Notice], None],
        notify: Notify,
    ) -> None:
        self._roster = roster
        self._budget_s = budget_s
        self._isolate_blocking = isolate_blocking
        self._publish = publish
        self._notify = notify
        self._private_loops: list[PrivateLoop] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchdog: LoopWatchdog | None = None

    def start(self) -> None:
        """Watch the running loop, and make the private loops that actions ask for."""
        self._loop = asyncio.get_running_loop()
        for entry in self._roster.entries():
            if entry.asked is Rung.PRIVATE_LOOP:
                self._isolate(entry)
        if self._budget_s is not None:
            self._watchdog = LoopWatchdog(self._budget_s, owner_of_code=self._roster.owner_of, on_stall=self._on_stall)
            self._watchdog.start()

    def stop(self) -> None:
        """Watch no more. Private loops go on until `close`."""
        if self._watchdog is not None:
            self._watchdog.stop()

    def close(self) -> None:
        for loop in self._private_loops:
            loop.close()

    def notices(self, machine: str | None) -> list[Notice]:
        """Return one for each place that has held the loop, with its count as it is now."""
        stalls = [] if self._watchdog is None else self._watchdog.stalls()
        return [self._blocked(stall) for stall in stalls if machine in (None, stall.blame.machine)]

    def stats(self) -> LoopStats | None:
        return None if self._watchdog is None else self._watchdog.stats()

    def _blocked(self, stall: Stall) -> Notice:
        return verdicts.loop_blocked(stall, self._budget_s or 0.0)

    def _on_stall(self, stall: Stall) -> None:
        """In the watchdog's thread, while the loop is held: log at once; the host is told when the loop is back."""
        notice = self._blocked(stall)
        if stall.count == 1:
            tell(notice, stall.blame.place)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._after_stall, notice, stall.count == 1)

    def _after_stall(self, notice: Notice, is_news: bool) -> None:
        if is_news:
            self._notify(notice)
        entry = self._roster.find(notice.machine, notice.action)
        if entry is None or entry.rung is not Rung.LOOP:
            return
        entry.stalls += 1
        if self._isolate_blocking and entry.stalls >= STALLS_THAT_PROVE:
            self._isolate(entry)

    def _isolate(self, entry: Entry) -> None:
        """Give an async action a loop of its own, from its next call on."""
        if entry.redirect is None:
            return
        private = PrivateLoop(f"{entry.machine}-{entry.action}")
        self._private_loops.append(private)
        entry.redirect(entry.action, partial(private.redirect, is_streaming=entry.is_streaming))
        entry.rung = Rung.PRIVATE_LOOP
        if entry.asked is Rung.LOOP:
            self._publish(entry, verdicts.moved_to_private_loop(entry))
