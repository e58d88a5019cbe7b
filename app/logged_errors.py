"""An error as lines for a log. There is no state at hand to search for, so what user code may have written is not shown.

If an error passed through code that is neither Stepwell's, nor Python's, nor that of a library that Stepwell calls, only its type
and its frames are shown.
"""

import sysconfig
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import app
from app.engine.errors import ActionQuit
from app.executors.errors import RemoteActionError
from app.executors.told_errors import RemoteTraceback, text_of, type_of
from app.executors.withheld_values import LONGEST_MESSAGE, WITHHELD

__all__ = ["error_lines", "format_error"]

_LIBRARIES = (
    "aiosqlite",
    "alembic",
    "anyio",
    "asyncpg",
    "distributed",
    "fastapi",
    "h11",
    "httpcore",
    "httptools",
    "httpx",
    "pgqueuer",
    "pydantic",
    "pydantic_core",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "uvloop",
)
_OTHERS_WORDS = (ActionQuit, RemoteActionError, RemoteTraceback)
_MOST_ERRORS = 20


def format_error(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replace the error of a log line, `exc_info`, by its lines."""
    error = event.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = error_lines(error)
    return event


def error_lines(error: BaseException) -> str:
    """Return the error with its causes, the first of them first, as Python shows it; without what user code says."""
    chain: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    link = ""
    while current is not None and id(current) not in seen and len(chain) < _MOST_ERRORS:
        seen.add(id(current))
        chain.append(f"{_one(current)}{link}")
        if current.__cause__ is not None:
            current, link = current.__cause__, "\n\nThe above exception was the direct cause of the following exception:\n"
        elif current.__suppress_context__:
            break
        else:
            current, link = current.__context__, "\n\nDuring handling of the above exception, another exception occurred:\n"
    return "\n".join(reversed(chain))


def _one(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    head = ["Traceback (most recent call last):\n", *frames.format()] if frames else []
    says = text_of(error)[:LONGEST_MESSAGE]
    if says and not _is_known(error):
        says = WITHHELD
    lines = "".join([*head, f"{type_of(error)}{': ' if says else ''}{says}"])
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions[:_MOST_ERRORS]:
            lines += "\n" + "\n".join(f"  | {line}" for line in error_lines(each).splitlines())
    return lines


def _is_known(error: BaseException) -> bool:
    """Whether nobody but Stepwell, Python and their libraries can have written what `error` says."""
    if isinstance(error, _OTHERS_WORDS) or isinstance(error.__cause__, RemoteTraceback):
        return False
    files = _files_of(error.__traceback__)
    return bool(files) and all(map(_is_known_file, files))


def _files_of(frames: TracebackType | None) -> set[str]:
    found = set()
    while frames is not None:
        found.add(frames.tb_frame.f_code.co_filename)
        frames = frames.tb_next
    return found


def _is_known_file(name: str) -> bool:
    if name.startswith("<frozen "):
        return True
    file = Path(name)
    if any(file.is_relative_to(folder) for folder in _KNOWN):
        return True
    standard = Path(sysconfig.get_path("stdlib"))
    return file.is_relative_to(standard) and "site-packages" not in file.parts


_SITES = (Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib")))
_KNOWN = (Path(app.__file__).parent, *(site / name for site in _SITES for name in _LIBRARIES))
