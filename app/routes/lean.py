"""Routes that do without FastAPI's dependency machinery and Starlette's request and response objects.

Together these cost several times as much as a step of the engine. An endpoint here takes what came in and returns a response;
what it reads is said to OpenAPI beside it, by `app.routes.docs`.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.routes.http.query import check_query, query_names

__all__ = ["Endpoint", "Incoming", "LeanRoute", "Reply"]

_JSON = b"application/json"
_OPERATIONS = "operations"  # probes and scrapers may add parameters of their own


class Incoming:
    """A request: its path, its headers, and its body once."""

    __slots__ = ("_body", "_headers", "_receive", "attempt", "run_id", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.attempt = 1  # more when a replica was lost over it: `app.routes.forwarding`
        self.run_id: str | None = None  # of the run that it starts, if that is known from outside
        self._receive = receive
        self._body: bytes | None = None
        self._headers: dict[bytes, bytes] = dict(scope["headers"])

    def path_param(self, name: str) -> str:
        """Return a part of the path by its name."""
        value: str = self.scope["path_params"][name]
        return value

    def header(self, name: bytes) -> str | None:
        """Return a header by its name in lower case; of several the last one."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self) -> bytes:
        """Return the whole body. Raises ClientDisconnect, and BodyTooLarge while it comes in."""
        if self._body is not None:
            return self._body
        chunks: bytes = b""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            chunks = chunks + chunk if chunks else chunk
            if not message.get("more_body", False):
                self._body = chunks
                return chunks


class Reply(Response):
    """A response with JSON text that is ready as it is. Skips what Response works out for other kinds of content."""

    def __init__(self, body: bytes, status_code: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.body = body
        self.status_code = status_code
        self.background = None
        self.raw_headers = [(b"content-type", _JSON), (b"content-length", b"%d" % len(body)), *headers]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


Endpoint: TypeAlias = Callable[[Incoming], Awaitable[ASGIApp]]


class LeanRoute(APIRoute):
    """A route whose endpoint is called as it is. Errors pass to the application's handlers."""

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, _stand_in(endpoint), **options)
        known = None if _OPERATIONS in self.tags else query_names(options.get("openapi_extra"))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if known is not None:
                check_query(scope, known)
            response = await endpoint(Incoming(scope, receive))
            await response(scope, receive, send)

        self.app = app


def _stand_in(endpoint: Callable[..., Any]) -> Callable[[], None]:
    """What FastAPI looks at in place of `endpoint`: the same name and description, and no parameters."""

    def described() -> None:
        raise AssertionError("the route calls the endpoint itself")

    described.__name__ = endpoint.__name__
    described.__doc__ = endpoint.__doc__
    return described
