"""Steps and runs: what moves a session, and what became of it."""

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

from fastapi import Query
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import ASGIApp

from app.routes.answers import json_answer, page_answer
from app.routes.docs import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    LAST_EVENT_ID,
    LAST_EVENT_ID_IN_QUERY,
    RESPOND_ASYNC,
    SESSION_ID,
    answers,
    described,
)
from app.routes.event_stream import EventStreams
from app.routes.http.query import query_checked_route
from app.routes.idempotency import key_of
from app.routes.lean import Endpoint, Incoming, LeanRoute
from app.routes.requests import (
    Number,
    expected_seqs,
    last_event_id,
    read_body,
    run_id_of,
    session_id_of,
    wants_minimal,
    wants_no_wait,
    wants_stream,
)
from app.routes.resources import run_answer, run_resource, step_answer
from app.routes.schemas import Run, RunAnswer, RunPage, StartRun, StepAnswer, TakeStep
from app.sessions.host import SessionHost
from app.sessions.ids import check_id
from app.sessions.requests import Durability, OnBusy, RunRequest
from app.sessions.run_desk import RunHandle

__all__ = ["RunRoutes", "run_request_of", "run_routes", "webhook_of"]

_RUN_ID = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}
_ON_BUSY = {each.value: each for each in OnBusy}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


class RunRoutes:
    """The endpoints, over one host."""

    def __init__(self, host: SessionHost, streams: EventStreams) -> None:
        self._host = host
        self._streams = streams

    async def take_step(self, incoming: Incoming) -> ASGIApp:
        """Run the next action, and answer when it is committed."""
        body = await read_body(incoming, TakeStep)
        asked = RunRequest(body.inputs, max_steps=1, on_busy=_ON_BUSY[body.on_busy])
        if wants_no_wait(incoming):
            return await self._accepted(incoming, asked, body)
        run = await self._started(incoming, asked, body)
        outcome = await self._host.step_of(run)
        is_minimal = wants_minimal(incoming)
        return json_answer(step_answer(outcome, with_state=not is_minimal), seq=outcome.seq, is_minimal=is_minimal)

    async def start_run(self, incoming: Incoming) -> ASGIApp:
        """Run actions until a halt condition, the end, or a limit. Answers then, or streams with `Accept: text/event-stream`."""
        body = await read_body(incoming, StartRun)
        asked = run_request_of(body)
        if wants_no_wait(incoming):
            return await self._accepted(incoming, asked, body)
        run = await self._started(incoming, asked, body)
        if wants_stream(incoming):
            await run.begun()
            record, after = await self._host.history.run_with_position(run.id)
            return self._streams.response(record.session_id, after=after, run_id=run.id, location=f"/v1/runs/{run.id}")
        outcome = await run.outcome()
        is_minimal = wants_minimal(incoming)
        return json_answer(
            run_answer(outcome, with_state=not is_minimal),
            seq=outcome.seq,
            is_minimal=is_minimal,
            location=f"/v1/runs/{run.id}",
        )

    async def _started(self, incoming: Incoming, asked: RunRequest, body: BaseModel) -> RunHandle:
        run = await self._host.start(
            session_id_of(incoming),
            asked,
            expected_seqs(incoming),
            run_id=incoming.run_id,
            may_be_known=incoming.attempt > 1,
            key=await key_of(incoming, body),
            webhook=webhook_of(body),
        )
        incoming.run_id = run.id
        return run

    async def _accepted(self, incoming: Incoming, asked: RunRequest, body: BaseModel) -> ASGIApp:
        queued = await self._host.queue(
            session_id_of(incoming), asked, expected_seqs(incoming), key=await key_of(incoming, body), webhook=webhook_of(body)
        )
        return json_answer(run_resource(queued), 202, is_accepted=True, location=f"/v1/runs/{queued.id}")

    async def list_runs(
        self,
        session_id: str,
        limit: Annotated[Number, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> Response:
        """List the runs of a session as they have ended, and then those that have not, the oldest first."""
        page = await self._host.history.list_runs(check_id(session_id, "the session id"), limit=limit, cursor=cursor)
        return page_answer([run_resource(each) for each in page.runs], page.next_cursor)

    async def get_run(self, incoming: Incoming) -> ASGIApp:
        """Look at a run, under way or past."""
        return json_answer(run_resource(await self._host.history.get_run(run_id_of(incoming))))

    async def cancel_run(self, incoming: Incoming) -> ASGIApp:
        """End a run. What it has committed stays; one that has ended already stays as it is."""
        return json_answer(run_resource(await self._host.cancel_run(run_id_of(incoming))))

    async def follow_run(self, incoming: Incoming) -> ASGIApp:
        """Follow a run from its first event, or from Last-Event-ID on, to its last one."""
        record, after = await self._host.history.run_with_position(run_id_of(incoming), last_event_id(incoming))
        if record.finished_event_id is not None and after >= record.finished_event_id:
            return Response(status_code=204)  # tells an EventSource not to come back
        await self._host.history.require_readable(record.session_id)
        return self._streams.response(record.session_id, after=after, run_id=record.id)


def run_request_of(body: StartRun) -> RunRequest:
    """Return what a body asks for."""
    return RunRequest(
        body.inputs,
        tuple(body.halt_before),
        tuple(body.halt_after),
        body.max_steps,
        body.timeout_s,
        Durability(body.durability),
        _ON_BUSY[body.on_busy],
    )


def webhook_of(body: BaseModel) -> dict[str, Any] | None:
    """Return the webhook that a body names, if it can and does."""
    return body.webhook.model_dump() if isinstance(body, StartRun) and body.webhook is not None else None


def run_routes(routes: RunRoutes, anywhere: Callable[[Endpoint], Endpoint]) -> list[APIRoute]:
    """Return the routes, the busiest first: they are tried in this order. `anywhere` lets sessions be on other replicas."""
    one = "/v1/runs/{run_id}"
    tags: list[str | Enum] = ["runs"]
    streamed = {"description": "The answer, or the run's events with `Accept: text/event-stream`.", "content": _STREAM}
    return [
        LeanRoute(
            "/v1/sessions/{session_id}/steps",
            anywhere(routes.take_step),
            methods=["POST"],
            tags=tags,
            responses=answers(400, 404, 409, 410, 412, 413, 415, 422, 424, 503, _200=StepAnswer, _202=Run),
            openapi_extra=described(TakeStep, [SESSION_ID, IF_MATCH, RESPOND_ASYNC, IDEMPOTENCY_KEY]),
        ),
        LeanRoute(
            "/v1/sessions/{session_id}/runs",
            anywhere(routes.start_run),
            methods=["POST"],
            tags=tags,
            responses={
                **answers(400, 404, 409, 410, 412, 413, 415, 422, 424, 503, _202=Run),
                200: {"model": RunAnswer, **streamed},
            },
            openapi_extra=described(StartRun, [SESSION_ID, IF_MATCH, RESPOND_ASYNC, IDEMPOTENCY_KEY]),
        ),
        query_checked_route(
            "/v1/sessions/{session_id}/runs",
            routes.list_runs,
            methods=["GET"],
            tags=tags,
            responses=answers(404, 422, 503, _200=RunPage),
        ),
        LeanRoute(
            one,
            anywhere(routes.get_run),
            methods=["GET"],
            tags=tags,
            responses=answers(404, 422, 503, _200=Run),
            openapi_extra=described(parameters=[_RUN_ID]),
        ),
        LeanRoute(
            f"{one}/cancel",
            anywhere(routes.cancel_run),
            methods=["POST"],
            tags=tags,
            responses=answers(404, 422, 503, _200=Run),
            openapi_extra=described(parameters=[_RUN_ID]),
        ),
        LeanRoute(
            f"{one}/events",
            anywhere(routes.follow_run),
            methods=["GET"],
            tags=tags,
            response_class=EventSourceResponse,
            responses={
                **answers(400, 404, 409, 410, 422, 503),
                204: {"description": "The run has ended, and everything of it was seen."},
            },
            openapi_extra=described(parameters=[_RUN_ID, LAST_EVENT_ID, LAST_EVENT_ID_IN_QUERY]),
        ),
    ]
