"""Where log lines go and what they look like: coloured and quiet for people, JSON for machines. Called once, at start."""

import logging
import sys
import warnings
from typing import Any, TextIO

import orjson
import structlog

from app.engine.mode_warnings import BlockingActionWarning
from app.engine.serde_plain import TooLarge, plain
from app.executors.notices import ExecutorWarning
from app.logged_errors import format_error
from app.settings import LogFormat, LogLevel

__all__ = ["set_up_logging"]

_MOST_VALUES = 50_000  # of the fields of a line
_LIBRARY_LEVEL = logging.WARNING
_TOLD_ALREADY = (BlockingActionWarning, ExecutorWarning)  # the executors log these, with the session, and warn besides


def set_up_logging(level: LogLevel, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send every log line to `stream` (stderr), ours from `level` on and those of libraries from warnings on.

    Fields given as `extra` become fields of the line. Python warnings become log lines, too.
    """
    target = stream or sys.stderr
    is_json = log_format == "json"
    fields: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso" if is_json else "%H:%M:%S", utc=is_json),
        *([structlog.stdlib.add_logger_name] if is_json else []),
    ]
    look: list[Any] = [
        format_error,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]
    if not is_json:
        look = [format_error, _traceback_last, structlog.dev.ConsoleRenderer(colors=target.isatty(), pad_event_to=0)]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=fields, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *look]
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=_LIBRARY_LEVEL, force=True)
    logging.getLogger("app").setLevel(level.upper())
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001  # the names are those of what it replaces
    line: str | None = None,  # noqa: ARG001
) -> None:
    if issubclass(category, _TOLD_ALREADY):
        return
    is_ours = category.__module__.startswith("app.")  # what ours are about stands in their text, not in the line that gave them
    logging.getLogger("py.warnings").warning(f"{category.__name__}: {message}" + ("" if is_ours else f" ({filename}:{lineno})"))


def _traceback_last(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Show a traceback that was logged as a field below the line, as one that was logged as an exception."""
    if "traceback" in event:
        event["exception"] = str(event.pop("traceback")).rstrip()
    return event


def _to_json(event: dict[str, Any], **_options: Any) -> str:
    try:  # a field may hold anything, and the JSON library crashes on some objects
        fields = plain(event, _MOST_VALUES, str)
    except TooLarge:
        fields = plain({name: value if isinstance(value, str | int | float) else type(value) for name, value in event.items()})
    return orjson.dumps(fields).decode()
