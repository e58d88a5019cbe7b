"""Errors as RFC 9457 problem documents."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.routes.json_text import dump

__all__ = ["Problem", "problem", "problem_type"]

_PREFIX = "urn:stepwell:problem:"


class Problem(BaseModel):
    """What went wrong. `type` is stable; further members name what it is about (`session_id`, `run_id`, `seq`, `errors`, ...)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:stepwell:problem:session-busy"])
    title: str
    status: int
    detail: str


def problem_type(slug: str) -> str:
    """Return the `type` of the problem with this name."""
    return _PREFIX + slug


def problem(
    status: int,
    slug: str,
    title: str,
    detail: str,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem as a response."""
    document = {"type": problem_type(slug), "title": title, "status": status, "detail": detail, **(members or {})}
    return Response(dump(document), status, headers, "application/problem+json")
