"""A way past the framework's middleware for the requests that move sessions: it would cost them more than the engine does.

The same endpoints are ordinary routes too. Whatever is unusual about a request, or about the application, goes that way.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.routes.errors import answer_to
from app.routes.lean import Endpoint, Incoming
from app.routes.request_tally import RequestTally

__all__ = ["Api"]

_PREFIX = "/v1/sessions/"


class Api(FastAPI):
    """FastAPI that answers `POST /v1/sessions/{id}/steps` and its like itself.

    The lane is closed while the application has middleware that is not ours, or telemetry: these see every request.
    """

    def __init__(self, *, max_lane_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self._max_lane_bytes = max_lane_bytes
        self.tally = RequestTally()
        self._lane: Mapping[str, tuple[Endpoint, str]] = {}
        self._own_middleware = 0
        self._is_lane_open: bool | None = None

    def open_lane(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Take `endpoints`, by the last part of their path, past the middleware that the application has now."""
        self._lane = {last: (endpoint, f"{_PREFIX}{{session_id}}/{last}") for last, endpoint in endpoints.items()}
        self._own_middleware = len(self.user_middleware)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        lane = self._lane_for(scope) if scope["method"] == "POST" else None
        if lane is None:
            await super().__call__(scope, receive, self.tally.counting(scope, send))
            return
        began_s = perf_counter()
        endpoint, route = lane
        incoming = Incoming(scope, receive)
        length = incoming.header(b"content-length")
        if length is None or not length.isdecimal() or int(length) > self._max_lane_bytes:
            await super().__call__(scope, receive, self.tally.counting(scope, send))
            return
        try:
            response = await endpoint(incoming)
        except Exception as exc:  # the border of a request: what the middleware would have done
            response = answer_to(exc, scope)
        self.tally.count("POST", route, getattr(response, "status_code", 200), perf_counter() - began_s)
        await response(scope, receive, send)

    def _lane_for(self, scope: Scope) -> tuple[Endpoint, str] | None:
        path: str = scope["path"]
        if not path.startswith(_PREFIX):
            return None
        session_id, _, last = path[len(_PREFIX) :].partition("/")
        lane = self._lane.get(last)
        if lane is None or not session_id or not self._lane_is_open():
            return None
        scope["path_params"] = {"session_id": session_id}
        return lane

    def _lane_is_open(self) -> bool:
        if self._is_lane_open is None:  # asked at the first request: by then the application is complete
            has_telemetry = self._native_telemetry.enabled()
            self._is_lane_open = len(self.user_middleware) == self._own_middleware and not has_telemetry
        return self._is_lane_open
