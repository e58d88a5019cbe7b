"""The HTTP interface of a host, put together."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from app.routes import docs
from app.routes.body_limit import BodyLimit
from app.routes.errors import handle_errors, problem_types
from app.routes.fast_lane import Api
from app.routes.forwarding import Forwarder
from app.routes.graphs import graph_routes
from app.routes.health import health_routes
from app.routes.history import history_routes
from app.routes.http.checks import RequestChecks
from app.routes.last_resort import LastResort
from app.routes.machines import machine_routes
from app.routes.metrics import metrics_routes
from app.routes.runs import RunRoutes, run_routes
from app.routes.schedules import schedule_routes
from app.routes.sessions import session_routes
from app.sessions.host import SessionHost

__all__ = ["build_api"]


def build_api(
    host: SessionHost,
    *,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    max_body_bytes: int = 4_000_000,
    checks: RequestChecks | None = None,
) -> Api:
    """Return the application. Opening and closing `host` is the affair of `lifespan`, or of the caller."""
    forwarder = Forwarder(host)

    @asynccontextmanager
    async def with_forwarder(api: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if lifespan is not None:
                await stack.enter_async_context(lifespan(api))
            await stack.enter_async_context(forwarder.at_work())
            yield

    api = Api(
        max_lane_bytes=max_body_bytes,
        checks=checks or RequestChecks.of(own_url=host.settings.url),
        title="Stepwell",
        description="Hosts many concurrent state-machine sessions.",
        lifespan=with_forwarder,
        redirect_slashes=False,
    )
    runs = RunRoutes(host, forwarder.streams)
    # routes are tried in order: the busiest stand first
    api.router.routes[:0] = [
        *run_routes(runs, forwarder.anywhere),
        *session_routes(host, forwarder.anywhere),
        *history_routes(host, forwarder.streams),
        *health_routes(host),
        *metrics_routes(host, api.tally, api.connections),
        *machine_routes(host),
        *graph_routes(host),
        *schedule_routes(host),
    ]
    api.add_middleware(BodyLimit, limit_bytes=max_body_bytes)
    api.add_middleware(LastResort)
    api.open_lane({"steps": forwarder.anywhere(runs.take_step), "runs": forwarder.anywhere(runs.start_run)})
    handle_errors(api)
    docs.complete(api, problem_types())
    return api
