"""What OpenAPI says of routes that read their requests themselves."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.routes.openapi import complete_document
from app.routes.problems import Problem
from app.routes.schedule_schemas import CreateSchedule, PauseSchedule
from app.routes.schemas import CreateSession, EditSession, Fork, StartRun, TakeStep

__all__ = [
    "IDEMPOTENCY_KEY",
    "IF_MATCH",
    "LAST_EVENT_ID",
    "LAST_EVENT_ID_IN_QUERY",
    "PREFER",
    "RESPOND_ASYNC",
    "SESSION_ID",
    "answers",
    "complete",
    "described",
]

_REF = "#/components/schemas/{model}"
_REFERRED: tuple[type[BaseModel], ...] = (
    Problem,
    CreateSchedule,
    CreateSession,
    EditSession,
    Fork,
    PauseSchedule,
    StartRun,
    TakeStep,
)

SESSION_ID = {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": 'The ETag that the session must have, like `"3"`: its `seq`.',
}
PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string"},
    "description": "`return=minimal` leaves the state out.",
}
RESPOND_ASYNC = {
    **PREFER,
    "description": "`return=minimal` leaves the state out; `respond-async` answers 202 at once, and the run goes on by itself.",
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 255},
    "description": "The same request with the same key is carried out once; its answer is given again.",
}
LAST_EVENT_ID_IN_QUERY = {
    "name": "last_event_id",
    "in": "query",
    "schema": {"type": "integer", "minimum": 0},
    "description": "As the header Last-Event-ID, for clients that cannot set headers. It wins over the header.",
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "integer"},
    "description": "Go on after this event.",
}


def answers(*problems: int, **models: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: `_201=Session` for what goes well, and the statuses of its problems."""
    told: dict[int | str, dict[str, Any]] = {
        int(name.removeprefix("_")): {"model": model, "description": "Done"} for name, model in models.items()
    }
    for status in problems:
        content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
        told[status] = {"description": HTTPStatus(status).phrase, "content": content}
    return told


def described(body: type[BaseModel] | None = None, parameters: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the `openapi_extra` of a route: its body, and the parameters that FastAPI cannot see."""
    extra: dict[str, Any] = {"parameters": [dict(each) for each in parameters]}
    if body is not None:
        is_required = any(field.is_required() for field in body.model_fields.values())
        schema = {"$ref": _REF.format(model=body.__name__)}
        extra["requestBody"] = {"required": is_required, "content": {"application/json": {"schema": schema}}}
    return extra


def complete(api: FastAPI, problem_types: Mapping[int, Sequence[str]]) -> None:
    """Make the OpenAPI document of `api` hold the models that `answers` and `described` refer to, and the problems by status."""

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            document = FastAPI.openapi(api)
            _, models = models_json_schema([(each, "validation") for each in _REFERRED], ref_template=_REF)
            complete_document(document, models["$defs"], problem_types)
        return api.openapi_schema or {}

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document
