"""What a thread has had of the CPU, and how long it was kept waiting for a core."""

import os
import time
from contextlib import suppress

__all__ = ["ThreadClock"]


class ThreadClock:
    """The clocks of the thread that makes it, which alone may read them, and closes it at its end.

    Linux counts both in /proc (0.7 µs a reading, and the GIL is let go). Elsewhere, or if it is not to be counted, the wait for
    a core is taken to be none.
    """

    __slots__ = ("_file",)

    def __init__(self, *, counts_delay: bool = True) -> None:
        self._file: int | None = None
        if counts_delay:
            with suppress(OSError):
                self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> tuple[float, float]:
        """Return seconds on the CPU, and seconds ready to run while others had it; both since the thread began."""
        if self._file is None:
            return time.thread_time(), 0.0
        on_cpu_ns, waited_ns, *_ = os.pread(self._file, 64, 0).split()
        return int(on_cpu_ns) / 1e9, int(waited_ns) / 1e9

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
