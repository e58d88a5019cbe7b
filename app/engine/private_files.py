"""Files and folders that only the user who runs the process can read: they hold states."""

import contextlib
import os
from pathlib import Path

__all__ = ["create_private_file", "make_private_folder", "open_private"]

_FILE = 0o600
_FOLDER = 0o700


def create_private_file(path: str | os.PathLike[str]) -> None:
    """Create an empty file unless there is one, which stays as it is. Where that cannot be done, whoever opens it is told."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE))


def open_private(path: str, flags: int) -> int:
    """An `opener` of `open`: a file that it creates is private."""
    return os.open(path, flags, _FILE)


def make_private_folder(path: Path) -> None:
    """Create a folder and those above it, as far as they are missing, all of them private."""
    if not path.is_dir():
        make_private_folder(path.parent)
        path.mkdir(mode=_FOLDER, exist_ok=True)
