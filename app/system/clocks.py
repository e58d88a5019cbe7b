"""The two clocks of a process.

For intervals `since_boot_s`: it never jumps, and it goes on while the machine sleeps. `time.monotonic` stands still on Linux
while a laptop is suspended: a process that wakes up would not see that it was away.

For the time of day `current_time_s`, and never `time.time`: replicas have to agree on it, and the machine's own clock may be
wrong, or set while the process runs. See docs/adr/0004.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

__all__ = [
    "Clock",
    "current_time_s",
    "event_time_us",
    "ids_ahead_s",
    "keep_ids_ahead",
    "since_boot_s",
    "tell_time",
    "using_clock",
]

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_DRIFT_S = 0.5  # how far the machine's clock is followed at once: it is steered, not set
_LOOK_EVERY_S = 0.05
_BELIEVED_AFTER_S = 60.0  # how long a clock that was set has to stay as it is


def since_boot_s() -> float:
    """Return seconds since some moment in the past, the same one for all of this process."""
    return time.clock_gettime(_BOOT)


class Clock:
    """The time of day, as `ticks_s` measures it from when it was known: what another clock says, or else the machine's `wall_s`.

    A jump of the machine's clock is followed when it has lasted for a minute. When another clock has told the time, the
    machine's is not looked at any more.

    Event ids come from the same time, but when it is set back they go on as if it had not been, until it has caught up.
    """

    def __init__(self, wall_s: Callable[[], float] = time.time, ticks_s: Callable[[], float] = since_boot_s) -> None:
        self._wall_s = wall_s
        self._ticks_s = ticks_s
        self._offset_s = self._ids_offset_s = wall_s() - ticks_s()
        self._is_told = False
        self._look_at_s = -math.inf  # when to look at the machine's clock again
        self._jump: tuple[float, float] | None = None  # since when the machine's clock is elsewhere, and where

    def now_s(self) -> float:
        """Return seconds since 1970."""
        ticks_s = self._ticks_s()
        if ticks_s >= self._look_at_s:
            self._look(ticks_s)
        return ticks_s + self._offset_s

    def event_time_us(self) -> int:
        """Return microseconds since 1970 for an event id."""
        ticks_s = self._ticks_s()
        if ticks_s >= self._look_at_s:
            self._look(ticks_s)
        return int((ticks_s + self._ids_offset_s) * 1e6)

    @property
    def ids_ahead_s(self) -> float:
        """How far event ids are ahead of the time."""
        return self._ids_offset_s - self._offset_s

    def keep_ids_ahead(self, by_s: float) -> None:
        """Let event ids be ahead by so much, at least: others have given out such ids."""
        self._ids_offset_s = max(self._ids_offset_s, self._offset_s + by_s)

    def tell(self, time_s: float, asked_s: float, answered_s: float) -> None:
        """Another clock showed `time_s` at some moment between these two, which are of `ticks_s`."""
        low_s, high_s = time_s - answered_s, time_s - asked_s
        if self._is_told:
            self._move(min(max(self._offset_s, low_s), high_s))
        else:
            self._offset_s = self._ids_offset_s = (low_s + high_s) / 2
        self._is_told = True
        self._look_at_s = math.inf

    def _look(self, ticks_s: float) -> None:
        """Look at the machine's clock, now and then: every event has an id, and asking both clocks each time would cost more."""
        self._look_at_s = ticks_s + _LOOK_EVERY_S
        self._follow(self._wall_s() - ticks_s, ticks_s)

    def _follow(self, offset_s: float, ticks_s: float) -> None:
        if abs(offset_s - self._offset_s) <= _DRIFT_S:
            self._move(offset_s)
            self._jump = None
        elif self._jump is None or abs(offset_s - self._jump[1]) > _DRIFT_S:
            self._jump = (ticks_s, offset_s)
        elif ticks_s - self._jump[0] >= _BELIEVED_AFTER_S:
            self._move(offset_s)
            self._jump = None

    def _move(self, offset_s: float) -> None:
        self._offset_s = offset_s
        if offset_s >= self._ids_offset_s - _DRIFT_S:
            self._ids_offset_s = offset_s


_clock = Clock()


def current_time_s() -> float:
    """Return seconds since 1970, by the clock of this process."""
    return _clock.now_s()


def event_time_us() -> int:
    """Return microseconds since 1970 for an event id: not less than before when the clock of this process is set back."""
    return _clock.event_time_us()


def ids_ahead_s() -> float:
    """Return how far event ids are ahead of the time."""
    return _clock.ids_ahead_s


def keep_ids_ahead(by_s: float) -> None:
    """Let event ids be ahead of the time by so much, at least: those that were given out before may be."""
    _clock.keep_ids_ahead(by_s)


def tell_time(time_s: float, asked_s: float, answered_s: float) -> None:
    """Set the clock of this process: the database's showed `time_s` between these two moments of `since_boot_s`."""
    _clock.tell(time_s, asked_s, answered_s)


@contextlib.contextmanager
def using_clock(clock: Clock) -> Iterator[None]:
    """Let `clock` be that of this process, for a test."""
    global _clock
    before, _clock = _clock, clock
    try:
        yield
    finally:
        _clock = before
