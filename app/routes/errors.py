"""The one table from error type to status, and the handlers that apply it.

State values never appear in an answer: of a validation error only what was wrong, and where.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from app.engine.errors import InvalidInputs, UnknownAction, UnknownTag
from app.engine.serde import UnserializableValue
from app.executors.errors import ExecutorsClosed, PoolExhausted, RungUnavailable
from app.persistence.replicas import ClaimedElsewhere
from app.persistence.store import (
    ClaimLost,
    CursorInvalid,
    RunNotFound,
    ScheduleNotFound,
    SessionExists,
    SessionNotFound,
    StateUnreadable,
    StepConflict,
    StepNotFound,
    StepTrimmed,
    StoreUnavailable,
    TextUnstorable,
)
from app.routes.forwarding import Misdirected, OwnerLost
from app.routes.problems import problem
from app.routes.remote import OwnerLate
from app.routes.requests import BodyInvalid, BodyMalformed, BodyTooLarge, HeaderInvalid, MediaTypeUnsupported
from app.sessions.errors import (
    ActionFailed,
    AnswerTrimmed,
    ConditionFailed,
    IdInvalid,
    KeyReused,
    MachineChanged,
    MachineNotHosted,
    MachineUnknown,
    MetadataTooLarge,
    PositionInvalid,
    PositionTrimmed,
    RunCancelled,
    RunFailed,
    RunHandedOver,
    RunUnsettled,
    ScheduleInvalid,
    SeqMismatch,
    SessionBusy,
    SessionEnded,
    ShuttingDown,
    StateInvalid,
    WebhookInvalid,
)

__all__ = ["answer_to", "handle_errors", "methods_at", "problem_of", "problem_types"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """How an error type is told: `members` are the attributes of the error that go into the document.

    `attributes` says which attribute a member is when it has another name.
    """

    status: int
    slug: str
    title: str
    members: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


TABLE: Mapping[type[Exception], Row] = {
    ClientDisconnect: Row(400, "body-incomplete", "The client left before its request was complete"),
    BodyMalformed: Row(400, "body-malformed", "The body is not JSON"),
    HeaderInvalid: Row(400, "header-invalid", "A header cannot be understood", ("header",)),
    PositionInvalid: Row(400, "position-invalid", "The position in the event stream cannot be"),
    MachineUnknown: Row(404, "machine-unknown", "There is no such machine", ("machine",)),
    SessionNotFound: Row(404, "session-not-found", "There is no such session", ("session_id",)),
    StepNotFound: Row(404, "step-not-found", "There is no such step", ("session_id", "seq")),
    StepTrimmed: Row(410, "step-trimmed", "The step is not kept any more", ("session_id", "seq", "first_seq")),
    PositionTrimmed: Row(410, "position-trimmed", "The events are not kept any more", ("session_id",)),
    AnswerTrimmed: Row(410, "answer-trimmed", "The first answer is not kept any more", ("run_id",)),
    RunNotFound: Row(404, "run-not-found", "There is no such run", ("run_id",)),
    ScheduleNotFound: Row(404, "schedule-not-found", "There is no such schedule", ("schedule_id",)),
    SessionExists: Row(409, "session-exists", "The id is taken", ("session_id",)),
    SessionBusy: Row(409, "session-busy", "The session is running", ("session_id", "run_id")),
    SessionEnded: Row(409, "session-ended", "The session has ended", ("session_id", "seq")),
    MachineNotHosted: Row(409, "machine-not-hosted", "The session's machine is not hosted now", ("session_id", "machine")),
    MachineChanged: Row(409, "machine-changed", "The session's machine has changed", ("session_id", "machine", "action")),
    StateUnreadable: Row(
        409, "state-unreadable", "The state cannot be read back", ("session_id", "key", "class", "seq"), {"class": "type_name"}
    ),
    StepConflict: Row(409, "step-conflict", "Somebody else moved the session", ("session_id", "seq")),
    RunCancelled: Row(409, "run-cancelled", "The run was cancelled", ("session_id", "run_id", "reason", "seq", "steps")),
    RunFailed: Row(424, "run-failed", "The run failed", ("session_id", "run_id", "cause", "steps")),
    KeyReused: Row(422, "key-reused", "The Idempotency-Key belongs to another request"),
    SeqMismatch: Row(412, "seq-mismatch", "The session has moved", ("session_id", "seq")),
    BodyTooLarge: Row(413, "body-too-large", "The body is too large", ("limit_bytes",)),
    MediaTypeUnsupported: Row(415, "media-type-unsupported", "The body is not of a supported type"),
    BodyInvalid: Row(422, "body-invalid", "The body does not have the expected form", ("errors",)),
    ConditionFailed: Row(422, "condition-failed", "A condition cannot be evaluated on this state", ("machine",)),
    StateInvalid: Row(422, "state-invalid", "The state is not that of the machine", ("machine", "errors")),
    IdInvalid: Row(422, "id-invalid", "The id cannot be one"),
    CursorInvalid: Row(422, "cursor-invalid", "The cursor cannot be one"),
    MetadataTooLarge: Row(422, "metadata-too-large", "There is too much metadata", ("most_names", "most_bytes")),
    TextUnstorable: Row(422, "text-unstorable", "A text holds characters that cannot be stored"),
    UnserializableValue: Row(422, "value-unstorable", "A value cannot be stored"),
    InvalidInputs: Row(
        422, "inputs-invalid", "The inputs are not those of the action", ("action", "missing", "unexpected", "mistyped")
    ),
    UnknownAction: Row(422, "action-unknown", "The machine has no such action"),
    UnknownTag: Row(422, "tag-unknown", "The machine has no such tag", ("tag",)),
    ScheduleInvalid: Row(422, "schedule-invalid", "The schedule cannot be one", ("field",)),
    WebhookInvalid: Row(422, "webhook-invalid", "The webhook cannot be one, or is not allowed", ("field",)),
    ActionFailed: Row(
        424, "step-failed", "An action failed", ("session_id", "run_id", "seq", "action", "error_type", "message", "steps")
    ),
    Misdirected: Row(421, "misdirected", "The session is elsewhere"),
    OwnerLost: Row(503, "owner-lost", "The replica that had the session died"),
    OwnerLate: Row(503, "owner-late", "The replica that has the session cannot answer now"),
    ClaimedElsewhere: Row(503, "claimed-elsewhere", "Another replica has the session", ("session_id",)),
    ClaimLost: Row(503, "claimed-elsewhere", "Another replica has the session", ("session_id",)),
    RunHandedOver: Row(503, "shutting-down", "The service is shutting down", ("session_id", "run_id")),
    ShuttingDown: Row(503, "shutting-down", "The service is shutting down"),
    RunUnsettled: Row(503, "store-unavailable", "The database cannot be reached", ("session_id", "run_id")),
    StoreUnavailable: Row(503, "store-unavailable", "The database cannot be reached"),
    PoolExhausted: Row(503, "pool-exhausted", "No executor is free", ("pool",)),
    RungUnavailable: Row(503, "executor-unavailable", "The executor cannot take calls", ("rung",)),
    ExecutorsClosed: Row(503, "shutting-down", "The service is shutting down"),
}

_RETRY_AFTER_S = 1
_REPEATS_THE_REQUEST = frozenset({400, 404, 412, 413, 415, 422})
_LONGEST_DETAIL = 1_000  # characters
_MOST_ITEMS = 20
_MOST_REPEATED = 100  # characters of what a client has sent


def problem_of(error: Exception) -> Response | None:
    """Return `error` as a problem if its type, or one that it derives from, is in the table."""
    for kind in type(error).__mro__:
        row = TABLE.get(kind)
        if row is not None:
            members = {name: getattr(error, row.attributes.get(name, name)) for name in row.members}
            detail = str(error)
            if row.status in _REPEATS_THE_REQUEST:
                members = {name: _cut(value) for name, value in members.items()}
                detail = _cut(detail, _LONGEST_DETAIL)
            headers = None
            if row.status == HTTPStatus.SERVICE_UNAVAILABLE:
                after_s = getattr(error, "retry_after_s", None) or _RETRY_AFTER_S
                headers = {"Retry-After": str(max(1, round(after_s)))}
            if isinstance(error, (RunUnsettled, RunHandedOver)):
                headers = {**(headers or {}), "Location": f"/v1/runs/{error.run_id}"}
            return problem(row.status, row.slug, row.title, detail, members, headers)
    return None


def _cut(value: Any, characters: int = _MOST_REPEATED) -> Any:
    """Return `value` without what is too much of it to be repeated: long texts, and items beyond the twentieth."""
    match value:
        case str() if len(value) > characters:
            return f"{value[:characters]}…"
        case list() | tuple():
            return [_cut(item) for item in value[:_MOST_ITEMS]]
        case dict():
            return {_cut(key): _cut(item, _LONGEST_DETAIL) for key, item in list(value.items())[:_MOST_ITEMS]}
    return value


def answer_to(error: Exception, scope: Scope) -> Response:
    """Return `error` as a problem, whatever it is; one that nobody has foreseen is logged."""
    return problem_of(error) or _failure(error, scope)


def problem_types() -> dict[int, list[str]]:
    """Return the slugs of all problems by status, each once."""
    found: dict[int, set[str]] = {}
    for row in TABLE.values():
        found.setdefault(row.status, set()).add(row.slug)
    found.setdefault(HTTPStatus.UNPROCESSABLE_ENTITY, set()).add("parameter-invalid")
    found.setdefault(HTTPStatus.NOT_FOUND, set()).add("path-unknown")
    return {status: sorted(slugs) for status, slugs in found.items()}


def handle_errors(api: FastAPI) -> None:
    """Make `api` answer every error that is foreseen with a problem; others reach `app.routes.last_resort`."""
    for kind in TABLE:
        api.add_exception_handler(kind, _from_table)
    api.add_exception_handler(RequestValidationError, _from_validation)
    api.add_exception_handler(HTTPException, _from_framework)


async def _from_table(request: Request, error: Exception) -> Response:
    return answer_to(error, request.scope)


async def _from_validation(_request: Request, error: Exception) -> Response:
    """Of path and query: bodies are read by `app.routes.requests`."""
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    found = [{"where": ".".join(map(str, each["loc"])), "message": each["msg"]} for each in errors]
    detail = "; ".join(f"{each['where']}: {each['message']}" for each in found)
    return problem(422, "parameter-invalid", "A parameter does not have the expected form", detail, {"errors": found})


async def _from_framework(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    path = request.url.path
    path = path if len(path) <= _MOST_REPEATED else f"{path[:_MOST_REPEATED]}…"
    if status == HTTPStatus.NOT_FOUND:
        return problem(404, "path-unknown", "There is nothing here", f"there is nothing at {path}", None, headers)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = allowed = ", ".join(sorted(methods_at(request.app, request.scope)))
        detail = f"{path} does not know {request.method}; it knows {allowed}"
        return problem(405, "method-not-allowed", "The method does not exist here", detail, None, headers)
    phrase = HTTPStatus(status).phrase
    return problem(status, phrase.lower().replace(" ", "-"), phrase, phrase, None, headers)


def _failure(error: Exception, scope: Scope) -> Response:
    logger.error("a request failed", exc_info=error, extra={"method": scope["method"], "path": scope["path"]})
    return problem(500, "internal-error", "The service failed", "the service failed; its log says why")


def methods_at(api: FastAPI, scope: Scope) -> set[str]:
    """Return the methods that the path of a request knows; none if there is nothing at it."""
    methods: set[str] = set()
    for route in api.routes:
        match, _ = route.matches({**scope, "method": ""})
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    if "GET" in methods:
        methods.add("HEAD")
    return {*methods, "OPTIONS"} if methods else methods
