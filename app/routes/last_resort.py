"""An answer for errors that nobody has foreseen: a problem, after which the connection can be used again.

Starlette's own handler for them answers, and raises again; the server then closes the connection under other requests.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.routes.errors import answer_to

__all__ = ["LastResort"]


class LastResort:
    """ASGI middleware. An error after the beginning of an answer is raised: the client has to see that it is cut off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def sent(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as exc:  # the border of a request
            if has_begun:
                raise
            await answer_to(exc, scope)(scope, receive, send)
