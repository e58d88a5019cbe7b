"""`/v1/sessions`: create, look at, list, change, fork and delete sessions."""

import math
from collections.abc import Callable
from enum import Enum
from typing import Annotated

from fastapi import Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from app.persistence.records import SessionFilter, SessionStatus
from app.routes.answers import json_answer, page_answer
from app.routes.docs import IDEMPOTENCY_KEY, IF_MATCH, SESSION_ID, answers, described
from app.routes.http.query import query_checked_route
from app.routes.idempotency import key_of
from app.routes.lean import Endpoint, Incoming, LeanRoute
from app.routes.requests import Number, expected_seqs, read_body, session_id_of
from app.routes.resources import session_resource, session_with_state
from app.routes.schemas import CreateSession, EditSession, Fork, Session, SessionPage
from app.sessions.host import SessionHost
from app.sessions.requests import UNCHANGED, ForkRequest, NewSessionRequest, SessionEdit

__all__ = ["session_routes"]

_MOST_LABELS = 16  # in one filter: each is looked up for each session that a list comes to

_METADATA = {
    "name": "metadata",
    "in": "query",
    "style": "form",
    "explode": True,
    "schema": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:"}, "maxItems": _MOST_LABELS},
    "example": ["customer:4711"],
    "description": "`metadata=customer:4711` shows the sessions whose metadata has that text there; repeated, all must hold. "
    "`metadata[customer]=4711` is the same.",
}

Limit = Annotated[Number, Query(ge=1, le=1000)]


class SessionRoutes:
    """The endpoints, over one host."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host

    async def create_session(self, incoming: Incoming) -> ASGIApp:
        """Create a session of a machine; nothing runs yet."""
        body = await read_body(incoming, CreateSession)
        asked = NewSessionRequest(body.machine, body.id, body.state, body.partition_key, body.metadata, _ttl_s(body))
        loaded = await self._host.create(asked, await key_of(incoming, body))
        document = session_with_state(loaded)
        return json_answer(document, 201, seq=loaded.record.seq, location=f"/v1/sessions/{loaded.record.id}")

    async def get_session(self, incoming: Incoming) -> ASGIApp:
        """Look at a session: where it stands, and its state."""
        loaded = await self._host.get(session_id_of(incoming))
        return json_answer(session_with_state(loaded), seq=loaded.record.seq)

    async def list_sessions(
        self,
        request: Request,
        machine: str | None = None,
        status: SessionStatus | None = None,
        partition_key: str | None = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> Response:
        """List sessions without their states, newest first."""
        which = SessionFilter(machine, status, partition_key, _metadata_filter(request))
        page = await self._host.list_sessions(which, limit, cursor)
        return page_answer([session_resource(each) for each in page.sessions], page.next_cursor)

    async def edit_session(self, incoming: Incoming) -> ASGIApp:
        """Change the state, the metadata, or when it expires. The change is a step of the kind `edit` in its history."""
        body = await read_body(incoming, EditSession)
        ttl_s = _ttl_s(body)
        edit = SessionEdit(
            body.state.set,
            tuple(body.state.delete),
            body.metadata,
            body.partition_key if "partition_key" in body.model_fields_set else UNCHANGED,
            UNCHANGED if ttl_s is None else ttl_s,
        )
        loaded = await self._host.edit(session_id_of(incoming), edit, expected_seqs(incoming))
        return json_answer(session_with_state(loaded), seq=loaded.record.seq)

    async def delete_session(self, incoming: Incoming) -> ASGIApp:
        """Delete a session with its history. A run of it is cancelled."""
        await self._host.delete(session_id_of(incoming), expected_seqs(incoming))
        return Response(status_code=204)

    async def fork_session(self, incoming: Incoming) -> ASGIApp:
        """Create a session that begins where this one stood after a step."""
        body = await read_body(incoming, Fork)
        fork = ForkRequest(body.seq, body.id, body.partition_key, body.metadata, _ttl_s(body))
        loaded = await self._host.fork(session_id_of(incoming), fork, await key_of(incoming, body))
        document = session_with_state(loaded)
        return json_answer(document, 201, seq=loaded.record.seq, location=f"/v1/sessions/{loaded.record.id}")


def session_routes(host: SessionHost, anywhere: Callable[[Endpoint], Endpoint]) -> list[APIRoute]:
    """Return the routes. `anywhere` lets sessions be on other replicas."""
    routes = SessionRoutes(host)
    one = "/v1/sessions/{session_id}"
    tags: list[str | Enum] = ["sessions"]
    return [
        LeanRoute(
            "/v1/sessions",
            routes.create_session,
            methods=["POST"],
            status_code=201,
            tags=tags,
            responses=answers(400, 404, 409, 413, 415, 422, 503, _201=Session),
            openapi_extra=described(CreateSession, [IDEMPOTENCY_KEY]),
        ),
        query_checked_route(
            "/v1/sessions",
            routes.list_sessions,
            methods=["GET"],
            tags=tags,
            responses=answers(422, 503, _200=SessionPage),
            openapi_extra=described(parameters=[_METADATA]),
            repeatable=["metadata"],
        ),
        LeanRoute(
            one,
            routes.get_session,
            methods=["GET"],
            tags=tags,
            responses=answers(404, 409, 422, 503, _200=Session),
            openapi_extra=described(parameters=[SESSION_ID]),
        ),
        LeanRoute(
            one,
            anywhere(routes.edit_session),
            methods=["PATCH"],
            tags=tags,
            responses=answers(400, 404, 409, 412, 413, 415, 422, 503, _200=Session),
            openapi_extra=described(EditSession, [SESSION_ID, IF_MATCH]),
        ),
        LeanRoute(
            one,
            anywhere(routes.delete_session),
            methods=["DELETE"],
            status_code=204,
            tags=tags,
            responses=answers(400, 404, 409, 412, 422, 503),
            openapi_extra=described(parameters=[SESSION_ID, IF_MATCH]),
        ),
        LeanRoute(
            f"{one}/fork",
            routes.fork_session,
            methods=["POST"],
            status_code=201,
            tags=tags,
            responses=answers(400, 404, 409, 410, 413, 415, 422, 503, _201=Session),
            openapi_extra=described(Fork, [SESSION_ID, IDEMPOTENCY_KEY]),
        ),
    ]


def _ttl_s(body: CreateSession | EditSession | Fork) -> float | None:
    """Return what the client says of it: None if nothing, infinity for never."""
    if "ttl_s" not in body.model_fields_set:
        return None
    return math.inf if body.ttl_s is None else body.ttl_s


def _metadata_filter(request: Request) -> dict[str, str]:
    """Return what `metadata[name]=text` and `metadata=name:text` ask for. Raises RequestValidationError."""
    found: dict[str, str] = {}
    for parameter, value in request.query_params.multi_items():
        if parameter == "metadata":
            name, colon, text = value.partition(":")
            if not colon or not name:
                raise _invalid_metadata("must be name:text, or metadata[name]=text")
        elif parameter.startswith("metadata["):
            name, text = parameter.removeprefix("metadata[").removesuffix("]"), value
        else:
            continue
        if found.setdefault(name, text) != text:
            raise _invalid_metadata("asks for two values of one name")
    if len(found) > _MOST_LABELS:
        raise _invalid_metadata(f"a list can be filtered by {_MOST_LABELS} names of metadata, not by {len(found)}")
    return found


def _invalid_metadata(message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("query", "metadata"), "msg": message}])
