"""What every answer gets on its way out, whichever route gave it: it is counted, and it fits where the service is mounted."""

from starlette.types import Message, Scope, Send

from app.routes.request_tally import RequestTally

__all__ = ["OutgoingAnswer"]


class OutgoingAnswer:
    """`send` for one request. `is_complete` says whether the whole answer has been sent."""

    __slots__ = ("_count", "_is_head", "_root_path", "_send", "has_begun", "is_complete")

    def __init__(self, scope: Scope, send: Send, tally: RequestTally, *, is_head: bool) -> None:
        self._send = send
        self._count = tally.counter(scope)
        self._root_path: bytes = scope.get("root_path", "").encode()
        self._is_head = is_head
        self.has_begun = False
        self.is_complete = False

    async def __call__(self, message: Message) -> None:
        """Pass a message on. Raises HeadAnswered when the rest of an endless answer is not wanted."""
        is_stream = False
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._count(message["status"])
            if self._root_path:
                message = {**message, "headers": [self._mounted(*header) for header in message["headers"]]}
            is_stream = self._is_head and any(value.startswith(b"text/event-stream") for _, value in message["headers"])
        elif message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)
        await self._send(message)
        if is_stream:
            await self._send({"type": "http.response.body", "body": b""})
            self.is_complete = True
            raise HeadAnswered

    def _mounted(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        if name.lower() == b"location" and value.startswith(b"/") and not value.startswith(self._root_path + b"/"):
            return name, self._root_path + value
        return name, value


class HeadAnswered(Exception):
    """A HEAD request for a stream has its answer: there is nothing else to send."""
