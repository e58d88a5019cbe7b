"""`GET /metrics`: the figures of this process, as Prometheus and those who read its formats want them."""

from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from starlette.responses import Response
from starlette.types import ASGIApp

from app.routes.http.limits import ConnectionStats
from app.routes.lean import Incoming, LeanRoute
from app.routes.metric_families import ConnectionFamilies, HostFamilies, RequestFamilies
from app.routes.request_tally import RequestTally
from app.sessions.host import SessionHost

__all__ = ["metrics_routes"]


class MetricsRoutes:
    """The endpoint, over a registry of its own: two services in one process do not mix their figures."""

    def __init__(self, host: SessionHost, tally: RequestTally, connections: ConnectionStats) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(HostFamilies(host))
        self._registry.register(RequestFamilies(tally))
        self._registry.register(ConnectionFamilies(connections))
        ProcessCollector(registry=self._registry)

    async def metrics(self, incoming: Incoming) -> ASGIApp:
        """Show the figures of this replica, as OpenMetrics text if `Accept` asks for it, else as Prometheus text."""
        try:
            encode, content_type = choose_encoder(incoming.header(b"accept") or "")
        except (TypeError, ValueError):  # the client asks for a version that cannot be compared
            encode, content_type = choose_encoder("")
        return Response(encode(self._registry), headers={"content-type": content_type, "vary": "Accept"})


def metrics_routes(host: SessionHost, tally: RequestTally, connections: ConnectionStats) -> list[APIRoute]:
    """Return the route."""
    routes = MetricsRoutes(host, tally, connections)
    text = {"schema": {"type": "string"}}
    content = {"text/plain": text, "application/openmetrics-text": text}
    responses = {200: {"description": "The figures", "content": content}}
    return [
        LeanRoute("/metrics", routes.metrics, methods=["GET"], tags=["operations"], responses=responses, response_class=Response)
    ]
