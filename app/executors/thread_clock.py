"""What a thread has had of the CPU, and how long it was kept waiting for a core."""

import os
import time

__all__ = ["ThreadClock"]


class ThreadClock:
    """The clocks of the thread that makes it, which alone may read them, and closes it at its end.

    Linux counts both in /proc (0.7 µs a reading). Elsewhere the wait for a core is taken to be none.
    """

    __slots__ = ("_file",)

    def __init__(self) -> None:
        try:
            self._file: int | None = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = None

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
