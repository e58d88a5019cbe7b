"""A limit on the size of request bodies: too large a one is refused before it is read, or, of unknown length, while it is."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.routes.errors import problem_of
from app.routes.requests import BodyTooLarge

__all__ = ["BodyLimit"]


class BodyLimit:
    """ASGI middleware. Costs a look at the headers, and nothing per chunk when the length is known."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = None
        is_chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                declared = value
            elif name == b"transfer-encoding":
                is_chunked = True
        if declared is not None and not is_chunked:
            if declared.isdigit() and int(declared) <= self._limit_bytes:
                await self._app(scope, receive, send)
            else:
                response = problem_of(BodyTooLarge(self._limit_bytes))
                if response is not None:
                    await response(scope, receive, send)
        elif is_chunked:
            await self._app(scope, self._counted(receive), send)
        else:
            await self._app(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit_bytes:
                raise BodyTooLarge(self._limit_bytes)
            return message

        return counted
