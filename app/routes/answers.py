"""Responses as the routes give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from app.routes.json_text import dump
from app.routes.resources import etag

__all__ = ["json_answer", "page_answer"]

_MINIMAL = {"Preference-Applied": "return=minimal"}


def json_answer(
    document: Mapping[str, Any],
    status: int = 200,
    *,
    seq: int | None = None,
    is_minimal: bool = False,
    location: str | None = None,
) -> Response:
    """Return `document` as JSON; `seq` becomes the ETag."""
    headers: dict[str, str] = {}
    if seq is not None:
        headers["ETag"] = etag(seq)
    if is_minimal:
        headers |= _MINIMAL
    if location is not None:
        headers["Location"] = location
    return Response(dump(document), status, headers, "application/json")


def page_answer(items: Sequence[Mapping[str, Any]], next_cursor: str | None) -> Response:
    """Return one page of a list."""
    return json_answer({"items": items, "next_cursor": next_cursor})
