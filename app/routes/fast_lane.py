"""A way past the framework's middleware for the requests that move sessions: it would cost them more than the engine does.

The same endpoints are ordinary routes too. Whatever is unusual about a request, or about the application, goes that way.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.routes.errors import answer_to
from app.routes.lean import Endpoint, Incoming

__all__ = ["Api"]

_PREFIX = "/v1/sessions/"


class Api(FastAPI):
    """FastAPI that answers `POST /v1/sessions/{id}/steps` and its like itself.

    The lane is closed while the application has middleware that is not ours, or telemetry: these see every request.
    """

    def __init__(self, *, max_lane_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self._max_lane_bytes = max_lane_bytes
        self._lane: Mapping[str, Endpoint] = {}
        self._own_middleware = 0
        self._is_lane_open: bool | None = None

    def open_lane(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Take `endpoints`, by the last part of their path, past the middleware that the application has now."""
        self._lane = endpoints
        self._own_middleware = len(self.user_middleware)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoint(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            await super().__call__(scope, receive, send)
            return
        incoming = Incoming(scope, receive)
        length = incoming.header(b"content-length")
        if length is None or not length.isdecimal() or int(length) > self._max_lane_bytes:
            await super().__call__(scope, receive, send)
            return
        try:
            response = await endpoint(incoming)
        except Exception as exc:  # the border of a request: what the middleware would have done
            response = answer_to(exc, scope)
        await response(scope, receive, send)

    def _endpoint(self, scope: Scope) -> Endpoint | None:
        path: str = scope["path"]
        if not path.startswith(_PREFIX):
            return None
        session_id, _, last = path[len(_PREFIX) :].partition("/")
        endpoint = self._lane.get(last)
        if endpoint is None or not session_id or not self._lane_is_open():
            return None
        scope["path_params"] = {"session_id": session_id}
        return endpoint

    def _lane_is_open(self) -> bool:
        if self._is_lane_open is None:  # asked at the first request: by then the application is complete
            has_telemetry = self._native_telemetry.enabled()
            self._is_lane_open = len(self.user_middleware) == self._own_middleware and not has_telemetry
        return self._is_lane_open
