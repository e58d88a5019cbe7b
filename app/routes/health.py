"""Whether the process lives, and whether it can do its work."""

from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp

from app.routes.answers import json_answer
from app.routes.docs import answers
from app.routes.lean import Incoming, LeanRoute
from app.sessions.errors import ShuttingDown
from app.sessions.host import SessionHost

__all__ = ["health_routes"]


class HealthRoutes:
    """The endpoints, over one host."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host

    async def healthz(self, _incoming: Incoming) -> ASGIApp:
        """Say that the event loop turns. Touches nothing else."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def readyz(self, _incoming: Incoming) -> ASGIApp:
        """Say whether the service takes work: its database answers, it has threads for actions, and it is not shutting down."""
        if self._host.is_draining:
            raise ShuttingDown
        self._host.executors.require_room()
        await self._host.store.ping()
        return json_answer({"status": "ready"})


def health_routes(host: SessionHost) -> list[APIRoute]:
    """Return the routes."""
    routes = HealthRoutes(host)
    return [
        LeanRoute("/healthz", routes.healthz, methods=["GET"], tags=["operations"], responses=answers()),
        LeanRoute("/readyz", routes.readyz, methods=["GET"], tags=["operations"], responses=answers(503)),
    ]
