"""Responses as the routes give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from app.engine.serde_plain import TooLarge
from app.routes.json_text import MOST_ON_LOOP, dump
from app.routes.lean import Reply
from app.system.encoding_threads import run_aside

__all__ = ["json_answer", "page_answer"]


def json_answer(
    document: Mapping[str, Any],
    status: int = 200,
    *,
    seq: int | None = None,
    is_minimal: bool = False,
    is_accepted: bool = False,
    location: str | None = None,
) -> Reply:
    """Return `document` as JSON; `seq` becomes the ETag. The text of a large one is made when the response is sent."""
    headers: list[tuple[bytes, bytes]] = []
    if seq is not None:
        headers.append((b"etag", b'"%d"' % seq))
    if is_minimal:
        headers.append((b"preference-applied", b"return=minimal"))
    if is_accepted:
        headers.append((b"preference-applied", b"respond-async"))
    if location is not None:
        headers.append((b"location", location.encode()))
    try:
        return Reply(dump(document, MOST_ON_LOOP), status, headers)
    except TooLarge:
        return _LargeReply(document, status, headers)


class _LargeReply(Reply):
    """A response whose text is made in a thread, for the sake of the event loop."""

    def __init__(self, document: Mapping[str, Any], status_code: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(b"", status_code)
        self._document = document
        self._more = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = await run_aside(self._dump_and_free)
        await Reply(content, self.status_code, self._more)(scope, receive, send)

    def _dump_and_free(self) -> bytes:
        """Return the text. Frees the values of the document here, one at a time: that takes long, too, and holds the GIL."""
        values = list(self._document.values())
        content = dump(self._document)
        self._document = {}
        while values:
            values.pop()
        return content


def page_answer(items: Sequence[Mapping[str, Any]], next_cursor: str | None) -> Reply:
    """Return one page of a list."""
    return json_answer({"items": items, "next_cursor": next_cursor})
