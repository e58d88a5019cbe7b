"""The end of the process, which user code may not hold up: a blocked event loop, a thread that never returns, a task that
swallows its cancel would keep the interpreter waiting.
"""

import logging
import os
import sys
import threading
import time
from contextlib import suppress

__all__ = ["ExitWatch"]

_LOOK_S = 0.05
_BLOCKED_S = 2.0  # beyond the grace, for a loop that does not even hear that it should drain
_LAST_WORDS_S = 7.0  # beyond the grace, for a slow database to store how runs have ended
_INTERPRETER_S = 1.0  # for the loop to close and the interpreter to end, when everything is stored and closed
_FLUSH_S = 0.5

logger = logging.getLogger(__name__)


class ExitWatch:
    """Ends the process with `os._exit` when its end takes longer than it should. Does nothing before a signal.

    The exit code is that of an end in good order: 0, or 128 and the signal where the server leaves by the signal itself.
    """

    def __init__(self, grace_s: float, *, leaves_by_signal: bool) -> None:
        self._grace_s = grace_s
        self._leaves_by_signal = leaves_by_signal
        self._exit_code = 0
        self._deadline_s: float | None = None  # one attribute, no lock: it is written in a signal handler, too

    def signalled(self, number: int) -> None:
        """A signal asks the process to end. In a signal handler."""
        if self._deadline_s is None:
            self._exit_code = 128 + number if self._leaves_by_signal else 0
            self._deadline_s = time.monotonic() + self._grace_s + _BLOCKED_S
            threading.Thread(target=self._watch, name="stepwell-exit", daemon=True).start()

    def draining(self) -> None:
        """The loop has heard of it, and brings everything to its end."""
        if self._deadline_s is not None:
            self._deadline_s = time.monotonic() + self._grace_s + _LAST_WORDS_S

    def closed(self) -> None:
        """Everything is stored and closed: nothing is lost any more."""
        if self._deadline_s is not None:
            self._deadline_s = time.monotonic() + _INTERPRETER_S

    def _watch(self) -> None:
        while self._deadline_s is None or time.monotonic() < self._deadline_s:
            time.sleep(_LOOK_S)
        held = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
        flushing = threading.Thread(target=_flush, args=(held,), daemon=True)  # user code may hold the lock of a log handler
        flushing.start()
        flushing.join(_FLUSH_S)
        os._exit(self._exit_code)


def _flush(threads: list[str]) -> None:
    logger.warning("the process ends although actions still run in it", extra={"threads": threads})
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
