"""`/v1/machines/{name}/graph`: a machine's graph as data, as text for drawing, and as a drawing."""

from enum import StrEnum

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from app.engine.machine import Machine
from app.engine.visualize import draw
from app.routes.answers import json_answer
from app.routes.docs import answers
from app.routes.http.accept import preferred
from app.routes.http.query import query_checked_route
from app.routes.machines import transitions_of
from app.sessions.host import SessionHost

__all__ = ["graph_routes"]


class GraphFormat(StrEnum):
    JSON = "json"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


_MEDIA_TYPES = {
    "application/json": GraphFormat.JSON,
    "text/vnd.mermaid": GraphFormat.MERMAID,
    "text/vnd.graphviz": GraphFormat.DOT,
    "image/svg+xml": GraphFormat.SVG,
}


class GraphRoutes:
    """The endpoints, over one host."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host
        self._threads = host.drawing_threads

    async def get_graph(self, request: Request, name: str, format: GraphFormat | None = None) -> Response:  # noqa: A002  # the parameter's name
        """Show the graph in the form that `format` names, or `Accept` asks for; JSON if neither does."""
        machine = self._host.machine(name)
        chosen = format or _accepted(request.headers.get("accept", ""))
        if chosen is GraphFormat.JSON:
            return json_answer(_as_data(machine))
        text = await self._threads.run(_as_text, machine, chosen)  # SVG may come from a program that takes its time
        media_type = next(each for each, form in _MEDIA_TYPES.items() if form is chosen)
        return Response(text, media_type=media_type, headers={"Vary": "Accept"})


def graph_routes(host: SessionHost) -> list[APIRoute]:
    """Return the routes."""
    shown = {
        "description": "The graph.",
        "content": {media_type: {"schema": {"type": "string"}} for media_type in _MEDIA_TYPES if "json" not in media_type},
    }
    return [
        query_checked_route(
            "/v1/machines/{name}/graph",
            GraphRoutes(host).get_graph,
            methods=["GET"],
            tags=["machines"],
            responses={**answers(404, 422), 200: shown},
        )
    ]


def _accepted(accept: str) -> GraphFormat:
    chosen = preferred(accept, _MEDIA_TYPES)
    return GraphFormat.JSON if chosen is None else _MEDIA_TYPES[chosen]


def _as_data(machine: Machine) -> dict[str, object]:
    graph = machine.blueprint.graph
    return {
        "machine": machine.name,
        "version": machine.version,
        "entrypoint": machine.blueprint.entrypoint,
        "nodes": [{"name": action.name, "tags": list(action.tags)} for action in graph.actions],
        "edges": transitions_of(machine),
    }


def _as_text(machine: Machine, form: GraphFormat) -> str:
    drawing = draw(machine.blueprint.graph, include_conditions=True)
    match form:
        case GraphFormat.MERMAID:
            return drawing.mermaid
        case GraphFormat.DOT:
            return drawing.source
        case _:
            return drawing.svg
