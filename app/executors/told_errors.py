"""An error and what led to it, as values that can be sent from another process: types, texts, and the frames of the user's code.

A text may hold values of a state: `app.sessions.failures` withholds those that it knows.
"""

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

import app
from app.engine.error_texts import said_by
from app.engine.errors import ActionQuit
from app.engine.quitting import original_of
from app.executors.withheld_values import WITHHELD, WithheldValues

__all__ = ["Frame", "Link", "RemoteTraceback", "ToldError", "chain_of", "text_of", "type_of", "written"]

_OWN = f"{Path(app.__file__).parent}{os.sep}"
_MOST_ERRORS = 10
_MOST_FINDINGS = 20  # of one pydantic error
_LONGEST_NAME = 60
_ABOUT_KEYS = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
_MOST_FRAMES = 50  # at each end of a traceback


class Link(StrEnum):
    """How an error is connected with the one after it."""

    CAUSE = "The above exception was the direct cause of the following exception:"
    CONTEXT = "During handling of the above exception, another exception occurred:"


@dataclass(frozen=True, slots=True)
class Frame:
    """A line of code that an error passed through."""

    file: str
    line_no: int | None
    function: str
    line: str | None


@dataclass(frozen=True, slots=True)
class ToldError:
    """One error of a chain. `link` leads to the next one; the last one has none."""

    type_name: str
    text: str
    frames: tuple[Frame, ...]
    link: Link | None = None


class RemoteTraceback(Exception):
    """The cause of an error that was raised in another process: what is known of it there. Only shown."""

    def __init__(self, chain: Sequence[ToldError], text: str) -> None:
        super().__init__(text)
        self.chain = tuple(chain)

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def type_of(error: BaseException) -> str:
    """Return the name of the error's class, with its module unless it is a builtin."""
    if isinstance(error, ActionQuit):
        return error.error_type
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException) -> str:
    """Return what the error says; of a pydantic error what was wrong and where, for it repeats the values it got. Never fails."""
    try:
        if isinstance(error, ValidationError):
            return "; ".join(map(_of_validation, error.errors(include_url=False, include_context=False)[:_MOST_FINDINGS]))
        return error.message if isinstance(error, ActionQuit) else said_by(error)
    except BaseException as exc:  # a validator's error is a user's
        return f"its text cannot be made: __str__ raised {type(exc).__name__}"


def _of_validation(found: ErrorDetails) -> str:
    """Return what pydantic found, without the value: a validator may have put it into its message, and keys into the place."""
    place = ".".join(_places_of(found)) or "value"
    return f"{place}: {WithheldValues({'input': found['input']}).taken_from(found['msg'])}"


def _places_of(found: ErrorDetails) -> Iterator[str]:
    """Yield each part of the place: names of fields and numbers of items, but no key that can be told to be a mapping's own."""
    loc = found["loc"]
    for index, part in enumerate(loc):
        is_last = index == len(loc) - 1
        is_key = loc[index + 1 : index + 2] == ("[key]",) or (is_last and found["type"] in _ABOUT_KEYS)
        is_shown = isinstance(part, int) or part == "[key]" or (part.isidentifier() and len(part) <= _LONGEST_NAME)
        yield str(part) if is_shown and not is_key else WITHHELD


def chain_of(error: BaseException) -> tuple[ToldError, ...]:
    """Return the error with its causes, the first of them first; of each the frames that are not Stepwell's, if there are any."""
    chain: list[ToldError] = []
    seen: set[int] = set()
    current, link = error, None
    while len(chain) < _MOST_ERRORS and id(current) not in seen:
        if isinstance(current, ActionQuit):
            current = original_of(current)
        seen.add(id(current))
        if isinstance(current.__cause__, RemoteTraceback):  # which tells of this very error, as it was there
            *causes, last = current.__cause__.chain
            chain += [replace(last, link=link), *reversed(causes)]
            break
        chain.append(ToldError(type_of(current), text_of(current), _frames_of(current), link))
        if current.__cause__ is not None:
            current, link = current.__cause__, Link.CAUSE
        elif current.__context__ is not None and not current.__suppress_context__:
            current, link = current.__context__, Link.CONTEXT
        else:
            break
    return tuple(reversed(chain))


def written(chain: Iterable[ToldError], say: Callable[[str], str] = str) -> str:
    """Return a chain as Python shows it, each text as `say` gives it."""
    parts = []
    for told in chain:
        frames = [traceback.FrameSummary(each.file, each.line_no, each.function, line=each.line) for each in told.frames]
        text = say(told.text)
        if frames:
            parts += ["Traceback (most recent call last):\n", *traceback.StackSummary.from_list(frames).format()]
        parts.append(f"{told.type_name}{': ' if text else ''}{text}\n")
        if told.link is not None:
            parts.append(f"\n{told.link.value}\n\n")
    return "".join(parts)


def _frames_of(error: BaseException) -> tuple[Frame, ...]:
    found = traceback.extract_tb(error.__traceback__)
    users = [each for each in found if not each.filename.startswith(_OWN)] or list(found)
    if len(users) > 2 * _MOST_FRAMES:
        users = users[:_MOST_FRAMES] + users[-_MOST_FRAMES:]
    return tuple(Frame(each.filename, each.lineno, each.name, each.line) for each in users)
