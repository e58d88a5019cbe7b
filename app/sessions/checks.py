"""What a request for a run can be refused for before it is accepted. Performs no I/O.

A run that begins at once is checked by the engine, in the same way: these are for the runs that begin later.
"""

from collections.abc import Mapping
from typing import Any

from app.engine.errors import InvalidInputs, UnknownAction, UnknownTag
from app.engine.machine import Machine
from app.sessions.failures import message_of, type_of
from app.sessions.requests import RunRequest

__all__ = ["check_request", "check_waiting", "refusal"]

_TYPES = {InvalidInputs: "inputs-invalid", UnknownAction: "action-unknown", UnknownTag: "tag-unknown"}


def check_request(machine: Machine, request: RunRequest, next_action: str | None) -> None:
    """Check a run of a session of which `next_action` is the next one, None if there is nothing left to do.

    Raises UnknownAction, UnknownTag, InvalidInputs.
    """
    blueprint = machine.blueprint
    blueprint.limits(request.halt_before, request.halt_after, request.max_steps)
    action = None if next_action is None else blueprint.actions.get(next_action)
    if action is not None:
        action.check_inputs(request.inputs)
        action.check_input_types(request.inputs)


def check_waiting(machine: Machine, request: RunRequest) -> None:
    """Check a run of which the first action is not known yet. Raises as `check_request`, InvalidInputs for names alone."""
    blueprint = machine.blueprint
    blueprint.limits(request.halt_before, request.halt_after, request.max_steps)
    if request.inputs:
        accepted = frozenset[str]().union(*(action.accepted for action in blueprint.actions.values()))
        if unexpected := request.inputs.keys() - accepted:
            raise InvalidInputs(None, unexpected=unexpected, accepted=accepted)


def refusal(error: BaseException, *sources: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a run that could not begin: its `type` is that of the problem that a client would have got.

    No value of `sources`, which are the state and the inputs, is repeated.
    """
    kind = next((name for known, name in _TYPES.items() if isinstance(error, known)), "run-refused")
    return {"type": kind, "error_type": type_of(error), "message": message_of(error, *sources)}
