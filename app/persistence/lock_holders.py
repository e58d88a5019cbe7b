"""Who holds the write lock of an SQLite database, as far as the system says it: on Linux, in `/proc/locks`."""

import os
from pathlib import Path

__all__ = ["lock_message"]

_LOCKS = Path("/proc/locks")
_WRITE_LOCK = 120  # the byte of the -shm file that a writer locks: "WAL-Index Format" in SQLite's documentation
_FIELDS = 8


def lock_message(database: Path) -> str:
    """Return that the database is locked, and by which process if that can be found."""
    pid = _holder(database)
    if pid is None:
        return "another process holds the database's write lock"
    return f"another process holds the database's write lock: {_name_of(pid)} (pid {pid})"


def _holder(database: Path) -> int | None:
    try:
        inode = database.with_name(f"{database.name}-shm").stat().st_ino
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        # 1: POSIX ADVISORY WRITE 3542 08:02:1048583 120 120
        if len(fields) != _FIELDS or fields[3] != "WRITE" or not fields[4].isdigit():
            continue
        if fields[5].rpartition(":")[2] != str(inode) or int(fields[6]) > _WRITE_LOCK:
            continue
        is_it = fields[7] == "EOF" or int(fields[7]) >= _WRITE_LOCK
        if is_it and int(fields[4]) not in (0, os.getpid()):
            return int(fields[4])
    return None


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "unknown"
