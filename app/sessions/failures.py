"""Errors of an action as text that is safe to store and to show: no value of a state or of inputs that we know of is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.engine.state import values_of
from app.executors.told_errors import chain_of, text_of, type_of, written
from app.executors.withheld_values import WITHHELD, WithheldValues

__all__ = ["Told", "hide_messages", "message_of", "refused_end", "tell", "traceback_of", "type_of"]

_are_messages_hidden = False


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of an error. `traceback` has the frames and the messages of its causes, too."""

    error_type: str
    message: str
    traceback: str


def hide_messages(are_hidden: bool) -> None:
    """Say whether nothing is ever shown of what errors say: their types and where they were raised remain."""
    global _are_messages_hidden  # one process, one policy
    _are_messages_hidden = are_hidden


def refused_end(error: BaseException | None) -> dict[str, Any]:
    """Return what is told of a run of which the store has refused a step."""
    return {"type": "step-refused", "error_type": "" if error is None else type_of(error)}


def tell(error: BaseException, *sources: Mapping[str, Any]) -> Told:
    """Return all that is told of an error, with every value of `sources`, which are states and inputs, withheld."""
    known = _known(sources)
    return Told(type_of(error), _safe(text_of(error), known), _traceback(error, known))


def message_of(error: BaseException, *sources: Mapping[str, Any]) -> str:
    """Return what the error says, with every value of `sources` that it repeats withheld.

    Of a pydantic error only what was wrong and where is kept, for it repeats the values it got. Texts and numbers shorter than
    six characters are left in. docs/security.md says exactly what is promised.
    """
    return _safe(text_of(error), _known(sources))


def traceback_of(error: BaseException, *sources: Mapping[str, Any]) -> str:
    """Return the traceback of an error and of its causes as Python shows it, wherever it was raised.

    Frames of Stepwell itself are left out where there are others: what went wrong is the user's code. Each message is as
    `message_of` gives it, and no values of variables are in it.
    """
    return _traceback(error, _known(sources))


def _known(sources: tuple[Mapping[str, Any], ...]) -> WithheldValues | None:
    return None if _are_messages_hidden else WithheldValues(*map(values_of, sources))


def _safe(text: str, known: WithheldValues | None) -> str:
    if known is None:
        return WITHHELD if text else text
    return known.taken_from(text)


def _traceback(error: BaseException, known: WithheldValues | None) -> str:
    return written(chain_of(error), lambda text: _safe(text, known))
