"""A way past the framework's middleware for the requests that move sessions: it would cost them more than the engine does.

The same endpoints are ordinary routes too. Whatever is unusual about a request, or about the application, goes that way.
"""

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.routes.errors import answer_to, methods_at
from app.routes.http.answers import HeadAnswered, OutgoingAnswer
from app.routes.http.checks import RequestChecks
from app.routes.http.limits import ConnectionStats
from app.routes.http.paths import keep_encoded_slashes
from app.routes.lean import Endpoint, Incoming
from app.routes.request_tally import RequestTally
from app.sessions.errors import ShuttingDown

__all__ = ["Api"]

_PREFIX = "/v1/sessions/"


class Api(FastAPI):
    """FastAPI that answers `POST /v1/sessions/{id}/steps` and its like itself.

    The lane is closed while the application has middleware that is not ours, or telemetry: these see every request.
    """

    def __init__(self, *, max_lane_bytes: int, checks: RequestChecks | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._max_lane_bytes = max_lane_bytes
        self._checks = checks or RequestChecks()
        self.tally = RequestTally()
        self.connections = ConnectionStats()
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
        refusal = self._checks.refusal(scope)
        if refusal is not None:
            self.tally.counter(scope)(refusal.status_code)
            await refusal(scope, receive, send)
            return
        keep_encoded_slashes(scope)
        lane = self._lane_for(scope) if scope["method"] == "POST" else None
        if lane is None:
            await self._answer(scope, receive, send)
            return
        began_s = perf_counter()
        endpoint, route = lane
        incoming = Incoming(scope, receive)
        length = incoming.header(b"content-length")
        if length is None or not length.isdecimal() or int(length) > self._max_lane_bytes:
            await self._answer(scope, receive, send)
            return
        try:
            response = await endpoint(incoming)
        except Exception as exc:  # the border of a request: what the middleware would have done
            response = answer_to(exc, scope)
        except asyncio.CancelledError:  # the server cancels a request only when a shutdown has taken too long, and then closes
            response = answer_to(ShuttingDown(), scope)
        self.tally.count("POST", route, getattr(response, "status_code", 200), perf_counter() - began_s)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the framework answer. HEAD is GET without a body; OPTIONS names the methods of a path."""
        method = scope["method"]
        is_head = method == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}
        elif method == "OPTIONS" and (allowed := methods_at(self, scope)):
            await Response(status_code=204, headers={"Allow": ", ".join(sorted(allowed))})(scope, receive, send)
            return
        answer = OutgoingAnswer(scope, send, self.tally, is_head=is_head)
        try:
            await super().__call__(scope, receive, answer)
        except HeadAnswered:
            return
        except asyncio.CancelledError:  # as in the lane
            if answer.has_begun:
                raise
            await answer_to(ShuttingDown(), scope)(scope, receive, answer)
        except ExceptionGroup as exc:
            if exc.split(HeadAnswered)[1] is not None and not answer.is_complete:
                raise

    def _lane_for(self, scope: Scope) -> tuple[Endpoint, str] | None:
        path: str = scope["path"]
        if not path.startswith(_PREFIX) or scope["query_string"]:
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
