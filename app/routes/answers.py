"""Responses as the routes give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.routes.json_text import dump
from app.routes.lean import Reply

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
    """Return `document` as JSON; `seq` becomes the ETag."""
    headers: list[tuple[bytes, bytes]] = []
    if seq is not None:
        headers.append((b"etag", b'"%d"' % seq))
    if is_minimal:
        headers.append((b"preference-applied", b"return=minimal"))
    if is_accepted:
        headers.append((b"preference-applied", b"respond-async"))
    if location is not None:
        headers.append((b"location", location.encode()))
    return Reply(dump(document), status, headers)


def page_answer(items: Sequence[Mapping[str, Any]], next_cursor: str | None) -> Reply:
    """Return one page of a list."""
    return json_answer({"items": items, "next_cursor": next_cursor})
