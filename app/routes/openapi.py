"""The OpenAPI document, completed with what the framework cannot know: names for generators, problems by status, headers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from app.sessions.events import EventType

__all__ = ["TAGS", "complete_document"]

Document: TypeAlias = dict[str, Any]

TAGS = [
    {"name": "sessions", "description": "Create, list, change, fork and delete sessions."},
    {"name": "runs", "description": "Move a session: one step, or a run of many. Wait, stream, or let it run in the background."},
    {"name": "history", "description": "The steps of a session, its state after any of them, and its events."},
    {"name": "schedules", "description": "Runs that begin at given times."},
    {"name": "machines", "description": "What the service hosts."},
    {"name": "operations", "description": "Health and figures of this replica."},
]

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_ID_PATTERN = r"^[A-Za-z0-9._~:@-]{1,128}$"
_CONSTRAINTS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
_IDS = frozenset({"session_id", "run_id", "schedule_id"})
_ETAG = {"ETag": {"description": "The `seq` of the session, in quotes.", "schema": {"type": "string"}}}
_LOCATION = {"Location": {"description": "Where the new resource is.", "schema": {"type": "string"}}}
_APPLIED = {"Preference-Applied": {"description": "What of `Prefer` was done.", "schema": {"type": "string"}}}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_HEADERS: Mapping[str, Mapping[str, Document]] = {
    "take_step": {"200": {**_ETAG, **_APPLIED}, "202": {**_LOCATION, **_APPLIED}},
    "start_run": {"200": {**_ETAG, **_APPLIED, **_LOCATION}, "202": {**_LOCATION, **_APPLIED}},
    "create_session": {"201": {**_ETAG, **_LOCATION}},
    "fork_session": {"201": {**_ETAG, **_LOCATION}},
    "get_session": {"200": _ETAG},
    "edit_session": {"200": _ETAG},
    "create_schedule": {"201": _LOCATION},
}
_SUMMARIES = {"healthz": "See whether the process lives", "readyz": "See whether it takes work", "metrics": "Read the figures"}


def complete_document(document: Document, models: Mapping[str, Any], problem_types: Mapping[int, Sequence[str]]) -> None:
    """Complete `document` in place. `models` are schemas that routes refer to; `problem_types` are slugs by status."""
    document["tags"] = TAGS
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(models)
    schemas["SessionEvent"] = _event_schema()
    for operation, name in _operations(document):
        operation["operationId"] = name
        operation["summary"] = _SUMMARIES.get(name) or name.replace("_", " ").capitalize()
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path" and parameter["name"] in _IDS:
                parameter["schema"] = {"type": "string", "pattern": _ID_PATTERN}
        for status, headers in _HEADERS.get(name, {}).items():
            operation["responses"][status]["headers"] = headers
        _complete_problems(operation["responses"], problem_types)
    _rename_constraints(document)


def _operations(document: Document) -> Iterator[tuple[Document, str]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            end = f"_{path.strip('/')}_{method}"
            for character in "/{}":
                end = end.replace(character, "_")
            yield operation, operation["operationId"].removesuffix(end)


def _complete_problems(responses: Document, problem_types: Mapping[int, Sequence[str]]) -> None:
    """Name the types of problem of each status, and say that there are others: a request may be refused before any route."""
    problem = {"$ref": "#/components/schemas/Problem"}
    for status, response in responses.items():
        schema = response.get("content", {}).get(_PROBLEM)
        slugs = problem_types.get(int(status), ()) if schema is not None else ()
        if slugs:
            types = {"type": {"enum": [f"urn:stepwell:problem:{slug}" for slug in slugs]}}
            response["content"][_PROBLEM]["schema"] = {"allOf": [problem, {"type": "object", "properties": types}]}
        if status == "503":
            response["headers"] = _RETRY
    responses["default"] = {"description": "The request was refused", "content": {_PROBLEM: {"schema": problem}}}


def _rename_constraints(node: Any) -> None:
    """Give bounds of numbers the names that JSON Schema has for them."""
    if isinstance(node, dict):
        for ours, name in _CONSTRAINTS.items():
            if isinstance(node.get(ours), int | float) and node.get("type") in ("integer", "number", None):
                node[name] = node.pop(ours)
        for child in list(node.values()):
            _rename_constraints(child)
    elif isinstance(node, list):
        for child in node:
            _rename_constraints(child)


def _event_schema() -> Document:
    text, number = {"type": "string"}, {"type": "integer"}
    return {
        "type": "object",
        "description": "One server-sent event. `event` is the field of that name, `id` increases in a session, `data` is JSON.",
        "required": ["event", "id", "data"],
        "properties": {
            "event": {"type": "string", "enum": [each.value for each in EventType]},
            "id": number,
            "data": {
                "type": "object",
                "required": ["session_id"],
                "properties": {"session_id": text, "run_id": {"type": ["string", "null"]}, "seq": number, "action": text},
                "additionalProperties": True,
            },
        },
    }
