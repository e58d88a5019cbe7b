"""The clock for intervals within a process. It never jumps, and it goes on while the machine sleeps.

`time.monotonic` stands still on Linux while a laptop is suspended: a process that wakes up would not see that it was away.
"""

import time

__all__ = ["since_boot_s"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def since_boot_s() -> float:
    """Return seconds since some moment in the past, the same one for all of this process."""
    return time.clock_gettime(_CLOCK)
