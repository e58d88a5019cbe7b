"""What happened in a session: its steps, its state after any of them, and its events as they happen."""

from enum import Enum
from typing import Annotated

from fastapi import Path, Query
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse
from starlette.responses import Response
from starlette.types import ASGIApp

from app.routes.answers import json_answer, page_answer
from app.routes.docs import LAST_EVENT_ID, LAST_EVENT_ID_IN_QUERY, SESSION_ID, answers, described
from app.routes.event_stream import EventStreams
from app.routes.http.query import query_checked_route
from app.routes.lean import Incoming, LeanRoute
from app.routes.requests import Number, last_event_id, session_id_of
from app.routes.resources import step_resource
from app.routes.schemas import StepPage, StepWithState, Trimmed
from app.sessions.host import SessionHost
from app.sessions.ids import check_id

__all__ = ["history_routes"]

_LARGEST = 2**63 - 1


class HistoryRoutes:
    """The endpoints, over one host."""

    def __init__(self, host: SessionHost, streams: EventStreams) -> None:
        self._host = host
        self._streams = streams

    async def list_steps(
        self,
        session_id: str,
        limit: Annotated[Number, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[Number | None, Query(ge=0, le=_LARGEST)] = None,
    ) -> Response:
        """List the committed steps of a session, oldest first."""
        after_seq = -1 if cursor is None else cursor
        steps = await self._host.history.steps(check_id(session_id, "the session id"), after_seq=after_seq, limit=limit + 1)
        page = steps[:limit]
        return page_answer([step_resource(each) for each in page], str(page[-1].seq) if len(steps) > limit else None)

    async def get_step(self, session_id: str, seq: Annotated[Number, Path(ge=0, le=_LARGEST)]) -> Response:
        """Look at one step, and at the state as of it."""
        step, state = await self._host.history.step_with_state(check_id(session_id, "the session id"), seq)
        return json_answer({**step_resource(step), "state": state})

    async def trim_steps(self, session_id: str, before_seq: Annotated[Number, Query(ge=0, le=_LARGEST)]) -> Response:
        """Forget the steps below `before_seq`. The state, later steps and forks of them stay as they are."""
        session_id = check_id(session_id, "the session id")
        first_seq = await self._host.history.trim(session_id, before_seq)
        return json_answer({"session_id": session_id, "first_seq": first_seq})

    async def follow_session(self, incoming: Incoming) -> ASGIApp:
        """Follow a session: what happens from now on, or everything after Last-Event-ID (0: from the beginning)."""
        session_id = session_id_of(incoming)
        await self._host.history.require_readable(session_id)
        now = await self._host.history.position(session_id)
        asked = last_event_id(incoming)
        if asked is not None:
            await self._host.history.require_kept(session_id, asked)
        after = now if asked is None else asked
        return self._streams.response(session_id, after=after, tells_position=True)


def history_routes(host: SessionHost, streams: EventStreams) -> list[APIRoute]:
    """Return the routes."""
    routes = HistoryRoutes(host, streams)
    one = "/v1/sessions/{session_id}"
    tags: list[str | Enum] = ["history"]
    return [
        query_checked_route(
            f"{one}/steps",
            routes.list_steps,
            methods=["GET"],
            tags=tags,
            responses=answers(404, 409, 422, 503, _200=StepPage),
        ),
        query_checked_route(
            f"{one}/steps",
            routes.trim_steps,
            methods=["DELETE"],
            tags=tags,
            responses=answers(404, 422, 503, _200=Trimmed),
        ),
        query_checked_route(
            f"{one}/steps/{{seq}}",
            routes.get_step,
            methods=["GET"],
            tags=tags,
            responses=answers(404, 409, 410, 422, 503, _200=StepWithState),
        ),
        LeanRoute(
            f"{one}/events",
            routes.follow_session,
            methods=["GET"],
            tags=tags,
            response_class=EventSourceResponse,
            responses=answers(400, 404, 409, 410, 422, 503),
            openapi_extra=described(parameters=[SESSION_ID, LAST_EVENT_ID, LAST_EVENT_ID_IN_QUERY]),
        ),
    ]
