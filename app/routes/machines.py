"""`/v1/machines`: what the service hosts."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import ASGIApp

from app.engine.actions import Action
from app.engine.machine import Machine
from app.routes import schemas
from app.routes.answers import json_answer, page_answer
from app.routes.docs import answers, described
from app.routes.lean import Incoming, LeanRoute
from app.sessions.host import SessionHost

__all__ = ["machine_routes", "transitions_of"]

_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_INJECTED = ("__context", "__tracer")


class MachineRoutes:
    """The endpoints, over one host."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host

    async def list_machines(self, _incoming: Incoming) -> ASGIApp:
        """List the machines."""
        return page_answer([_summary(each) for each in self._host.machines.values()], None)

    async def get_machine(self, incoming: Incoming) -> ASGIApp:
        """Look at a machine: its actions, its transitions, the form of its state, and what is known against it."""
        machine = self._host.machine(incoming.path_param("name"))
        graph = machine.blueprint.graph
        where = self._host.executors.describe(machine.name)
        document = {
            **_summary(machine),
            "actions": [_action(each, where[each.name]) for each in graph.actions],
            "transitions": transitions_of(machine),
            "state_schema": _state_schema(machine),
            "warnings": [
                {"kind": each.kind.value, "action": each.action, "message": each.message, "details": dict(each.details)}
                for each in self._host.executors.notices(machine.name)
            ],
        }
        return json_answer(document)


def machine_routes(host: SessionHost) -> list[APIRoute]:
    """Return the routes."""
    routes = MachineRoutes(host)
    tags: list[str | Enum] = ["machines"]
    return [
        LeanRoute("/v1/machines", routes.list_machines, methods=["GET"], tags=tags, responses=answers(_200=schemas.MachinePage)),
        LeanRoute(
            "/v1/machines/{name}",
            routes.get_machine,
            methods=["GET"],
            tags=tags,
            responses=answers(404, _200=schemas.Machine),
            openapi_extra=described(parameters=[_NAME]),
        ),
    ]


def transitions_of(machine: Machine) -> list[dict[str, Any]]:
    """Return the edges of a machine's graph, in the order of their precedence."""
    return [
        {"source": edge.from_.name, "target": edge.to.name, "condition": edge.condition.name}
        for edge in machine.blueprint.graph.transitions
    ]


def _state_schema(machine: Machine) -> dict[str, Any] | None:
    state_type = machine.blueprint.typing_system.state_type()
    return state_type.model_json_schema() if issubclass(state_type, BaseModel) else None


def _summary(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "version": machine.version,
        "description": machine.description,
        "entrypoint": machine.blueprint.entrypoint,
    }


def _action(action: Action, where: Mapping[str, Any]) -> dict[str, Any]:
    required, optional = action.optional_and_required_inputs
    return {
        "name": action.name,
        "reads": list(action.reads),
        "writes": list(action.writes),
        "inputs": {"required": _inputs(required), "optional": _inputs(optional)},
        "tags": list(action.tags),
        "is_async": action.is_async(),
        "is_streaming": action.streaming,
        **where,
    }


def _inputs(names: set[str]) -> list[str]:
    return sorted(name for name in names if not name.endswith(_INJECTED))
