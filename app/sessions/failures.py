"""Errors of an action as text that is safe to store and to show: no state value that we know of is in it."""

import traceback

from pydantic import ValidationError

__all__ = ["frames_of", "message_of", "type_of"]

_LONGEST_MESSAGE = 2_000


def type_of(error: BaseException) -> str:
    """Return the name of the error's class, with its module unless it is a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    """Return what the error says. Of a pydantic error only what was wrong and where, for it repeats the values it got."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        text = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'value'}: {each['msg']}" for each in found)
    else:
        text = str(error)
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def frames_of(error: BaseException) -> str:
    """Return the traceback as frames and lines of code, oldest first, without messages and without values of variables."""
    return "".join(traceback.format_tb(error.__traceback__))
