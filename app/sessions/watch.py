"""How long a replica has watched the others: before it says that one of them is silent, it must have been in a place to hear.

Times are of a monotonic clock, in seconds. No I/O, no clock of its own.
"""

__all__ = ["Watch"]


class Watch:
    """Whether the others have had the time to say that they live, since they were last kept from it as far as is known here."""

    def __init__(self, *, beat_s: float, dead_after_s: float) -> None:
        """The others say so every `beat_s` seconds, and are dead after `dead_after_s` of silence."""
        self._beat_s = beat_s
        self._dead_after_s = dead_after_s
        self._is_cut_off = True
        self._from_s = 0.0
        self._last_s = 0.0

    def was_refused(self) -> None:
        """The database could not be told that this replica lives: perhaps it was away for all."""
        self._is_cut_off = True

    def was_heard(self, at_s: float) -> None:
        """The database was told so at `at_s`."""
        if self._is_cut_off:
            self._from_s = at_s + self._dead_after_s
        elif at_s - self._last_s > self._dead_after_s / 2:  # what held this one up may have held up all of the machine
            self._from_s = max(self._from_s, at_s + 2 * self._beat_s)
        self._is_cut_off = False
        self._last_s = at_s

    def may_bury(self, now_s: float) -> bool:
        """Whether a replica that the database says was silent for too long is dead."""
        return not self._is_cut_off and now_s > self._from_s
