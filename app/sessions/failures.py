"""Errors of an action as text that is safe to store and to show: no state value that we know of is in it."""

import traceback
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from app.engine.state import values_of
from app.executors.told_errors import chain_of, text_of, type_of

__all__ = ["message_of", "refused_end", "traceback_of", "type_of"]

_LONGEST_MESSAGE = 2_000
_WITHHELD = "[withheld]"
_SHORTEST_SECRET = 6  # shorter values are words like `move`: hiding them would hide the message
_MOST_VALUES = 10_000  # how much of a large state is looked at, for the sake of the event loop


def refused_end(error: BaseException | None) -> dict[str, Any]:
    """Return what is told of a run of which the store has refused a step."""
    return {"type": "step-refused", "error_type": "" if error is None else type_of(error)}


def message_of(error: BaseException, state: Mapping[str, Any]) -> str:
    """Return what the error says, with every value of `state` that it repeats withheld.

    Of a pydantic error only what was wrong and where is kept, for it repeats the values it got. Texts and numbers shorter than
    six characters are left in.
    """
    return _safe(text_of(error), state)


def _safe(text: str, state: Mapping[str, Any]) -> str:
    text = _without(text[: 2 * _LONGEST_MESSAGE], state)
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def traceback_of(error: BaseException, state: Mapping[str, Any]) -> str:
    """Return the traceback of an error and of its causes as Python shows it, wherever it was raised.

    Frames of Stepwell itself are left out where there are others: what went wrong is the user's code. Each message is as
    `message_of` gives it, and no values of variables are in it.
    """
    parts = []
    for told in chain_of(error):
        frames = [traceback.FrameSummary(each.file, each.line_no, each.function, line=each.line) for each in told.frames]
        text = _safe(told.text, state)
        if frames:
            parts += ["Traceback (most recent call last):\n", *traceback.StackSummary.from_list(frames).format()]
        parts.append(f"{told.type_name}{': ' if text else ''}{text}\n")
        if told.link is not None:
            parts.append(f"\n{told.link.value}\n\n")
    return "".join(parts)


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
            for text in _texts_of(value):
                if len(text) >= _SHORTEST_SECRET:
                    yield text
        case _:
            yield from _leaves(getattr(value, "__dict__", None))


def _texts_of(value: Any) -> set[str]:
    try:
        return {str(value), repr(value), repr(value).strip("b'\"")}
    except Exception:  # an enum's own code, or a number of more digits than Python writes: no message repeats it
        return set()
