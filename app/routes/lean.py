"""Routes that do without FastAPI's dependency machinery, which costs more than a whole step of the engine.

The endpoint takes the request and returns the response. What it reads is said to OpenAPI beside it, by `app.routes.docs`.
"""

from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

__all__ = ["LeanRoute"]


class LeanRoute(APIRoute):
    """A route whose endpoint is called as it is. Errors pass to the application's handlers."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive))
            await response(scope, receive, send)

        self.app = app
