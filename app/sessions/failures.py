"""Errors of an action as text that is safe to store and to show: no state value that we know of is in it."""

import os
import traceback
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import app
from app.engine.errors import ActionQuit
from app.engine.quitting import original_of
from app.engine.state import values_of

__all__ = ["frames_of", "message_of", "type_of"]

_OWN = f"{Path(app.__file__).parent}{os.sep}"
_LONGEST_MESSAGE = 2_000
_WITHHELD = "[withheld]"
_SHORTEST_SECRET = 6  # shorter values are words like `move`: hiding them would hide the message
_MOST_VALUES = 10_000  # how much of a large state is looked at, for the sake of the event loop


def type_of(error: BaseException) -> str:
    """Return the name of the error's class, with its module unless it is a builtin."""
    if isinstance(error, ActionQuit):
        return error.error_type
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def message_of(error: BaseException, state: Mapping[str, Any]) -> str:
    """Return what the error says, with every value of `state` that it repeats withheld.

    Of a pydantic error only what was wrong and where is kept, for it repeats the values it got. Texts and numbers shorter than
    six characters are left in.
    """
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        text = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'value'}: {each['msg']}" for each in found)
    else:
        text = error.message if isinstance(error, ActionQuit) else str(error)
    text = _without(text[: 2 * _LONGEST_MESSAGE], state)
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def frames_of(error: BaseException) -> str:
    """Return the traceback as frames and lines of code, oldest first, without messages and without values of variables.

    Frames of Stepwell itself are left out where there are others: what went wrong is the user's code.
    """
    if isinstance(error, ActionQuit):
        error = original_of(error)
    frames = [traceback.FrameSummary(each.filename, each.lineno, each.name) for each in traceback.extract_tb(error.__traceback__)]
    users = [each for each in frames if not each.filename.startswith(_OWN)]
    return "".join(traceback.StackSummary.from_list(users or frames).format())


def _without(text: str, state: Mapping[str, Any]) -> str:
    # longest first: a value may be a part of another
    repeated = {value for value in islice(_leaves(values_of(state)), _MOST_VALUES) if value in text}
    for value in sorted(repeated, key=len, reverse=True):
        text = text.replace(value, _WITHHELD)
    return text


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts under which the values within `value` may appear in a message."""
    match value:
        case Mapping():
            for each in value.values():
                yield from _leaves(each)
        case list() | tuple() | set() | frozenset():
            for each in value:
                yield from _leaves(each)
        case None | bool():
            return
        case str() | bytes() | int() | float():
            for text in {str(value), repr(value), repr(value).strip("b'\"")}:
                if len(text) >= _SHORTEST_SECRET:
                    yield text
        case _:
            yield from _leaves(getattr(value, "__dict__", None))
