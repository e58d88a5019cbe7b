"""The keys under which Burr keeps an application's position, among those of its state. Ours keep it beside the state."""

from collections.abc import Mapping
from typing import Any

from app.engine.errors import BuildError, kind_of

__all__ = ["BURR_KEYS", "position_in", "without_position"]

_PRIOR_STEP, _SEQUENCE_ID = "__PRIOR_STEP", "__SEQUENCE_ID"
BURR_KEYS = (_PRIOR_STEP, _SEQUENCE_ID)


def position_in(values: Mapping[str, Any]) -> tuple[str | None, int]:
    """Return the prior action and the `seq` that a state says; None and -1 where it says nothing. Raises BuildError."""
    prior_action, seq = values.get(_PRIOR_STEP), values.get(_SEQUENCE_ID, -1)
    if not isinstance(prior_action, str | None):
        raise BuildError(f"{_PRIOR_STEP!r} in the state must be the name of an action; it is {kind_of(prior_action)}")
    if not isinstance(seq, int):
        raise BuildError(f"{_SEQUENCE_ID!r} in the state must be a number of a step; it is {kind_of(seq)}")
    return prior_action, seq


def without_position(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` without these keys; the same object if there are none."""
    if _PRIOR_STEP in values or _SEQUENCE_ID in values:
        return {key: value for key, value in values.items() if key not in BURR_KEYS}
    return values
