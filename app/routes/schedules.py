"""`/v1/schedules`: runs that begin at their time."""

from enum import Enum
from typing import Annotated, Any

from fastapi import Query
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp

from app.persistence.schedules import ScheduleRecord
from app.routes.answers import json_answer, page_answer
from app.routes.docs import IDEMPOTENCY_KEY, answers, described
from app.routes.http.query import query_checked_route
from app.routes.idempotency import key_of
from app.routes.lean import Incoming, LeanRoute
from app.routes.requests import Number, read_body
from app.routes.runs import run_request_of, webhook_of
from app.routes.schedule_schemas import CreateSchedule, PauseSchedule, Schedule, SchedulePage
from app.sessions.host import SessionHost
from app.sessions.ids import check_id
from app.sessions.requests import NewSessionRequest
from app.sessions.rhythm import Rhythm
from app.sessions.schedules import ScheduleRequest
from app.sessions.times import rfc3339
from app.sessions.webhook_messages import shown_url

__all__ = ["schedule_routes"]

_SCHEDULE_ID = {"name": "schedule_id", "in": "path", "required": True, "schema": {"type": "string"}}


class ScheduleRoutes:
    """The endpoints, over one host."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host

    async def create_schedule(self, incoming: Incoming) -> ASGIApp:
        """Let runs begin at given times: on a session, or on a new one each time."""
        body = await read_body(incoming, CreateSchedule)
        made = body.session
        session = None if made is None else NewSessionRequest(made.machine, None, made.state, made.partition_key, made.metadata)
        rhythm = Rhythm(body.cron, body.time_zone, body.every_s, body.at)
        asked = ScheduleRequest(rhythm, run_request_of(body.run), body.session_id, session, webhook_of(body.run), body.paused)
        schedule = await self._host.create_schedule(asked, await key_of(incoming, body))
        return json_answer(schedule_resource(schedule), 201, location=f"/v1/schedules/{schedule.id}")

    async def get_schedule(self, incoming: Incoming) -> ASGIApp:
        """Look at a schedule: when it is due next, and what came of the last time."""
        return json_answer(schedule_resource(await self._host.schedules.get(_id_of(incoming))))

    async def list_schedules(
        self,
        limit: Annotated[Number, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> Response:
        """List schedules, newest first."""
        found = await self._host.schedules.page(limit + 1, None if cursor is None else check_id(cursor, "the cursor"))
        page = found[:limit]
        return page_answer([schedule_resource(each) for each in page], page[-1].id if len(found) > limit else None)

    async def pause_schedule(self, incoming: Incoming) -> ASGIApp:
        """Stop a schedule, or let it go on. What falls into a pause is left out."""
        body = await read_body(incoming, PauseSchedule)
        return json_answer(schedule_resource(await self._host.schedules.pause(_id_of(incoming), body.paused)))

    async def delete_schedule(self, incoming: Incoming) -> ASGIApp:
        """Delete a schedule. Runs that it has begun go on."""
        await self._host.schedules.delete(_id_of(incoming))
        return Response(status_code=204)


def schedule_routes(host: SessionHost) -> list[APIRoute]:
    """Return the routes. Any replica answers them."""
    routes = ScheduleRoutes(host)
    tags: list[str | Enum] = ["schedules"]
    one = "/v1/schedules/{schedule_id}"
    return [
        LeanRoute(
            "/v1/schedules",
            routes.create_schedule,
            methods=["POST"],
            status_code=201,
            tags=tags,
            responses=answers(400, 404, 413, 415, 422, 503, _201=Schedule),
            openapi_extra=described(CreateSchedule, [IDEMPOTENCY_KEY]),
        ),
        query_checked_route(
            "/v1/schedules",
            routes.list_schedules,
            methods=["GET"],
            tags=tags,
            responses=answers(422, 503, _200=SchedulePage),
        ),
        LeanRoute(
            one,
            routes.get_schedule,
            methods=["GET"],
            tags=tags,
            responses=answers(404, 422, 503, _200=Schedule),
            openapi_extra=described(parameters=[_SCHEDULE_ID]),
        ),
        LeanRoute(
            one,
            routes.pause_schedule,
            methods=["PATCH"],
            tags=tags,
            responses=answers(400, 404, 413, 415, 422, 503, _200=Schedule),
            openapi_extra=described(PauseSchedule, [_SCHEDULE_ID]),
        ),
        LeanRoute(
            one,
            routes.delete_schedule,
            methods=["DELETE"],
            status_code=204,
            tags=tags,
            responses=answers(404, 422, 503),
            openapi_extra=described(parameters=[_SCHEDULE_ID]),
        ),
    ]


def schedule_resource(schedule: ScheduleRecord) -> dict[str, Any]:
    """Return a schedule as clients see it: without the secret of its webhook."""
    plan = schedule.plan
    webhook = plan["webhook"]
    return {
        "id": schedule.id,
        "session_id": schedule.session_id,
        "session": None if plan["session"] is None else {"machine": schedule.machine, **plan["session"]},
        "run": {**plan["run"], "webhook": None if webhook is None else {"url": shown_url(webhook["url"])}},
        "cron": plan["cron"],
        "time_zone": plan["time_zone"],
        "every_s": plan["every_s"],
        "at": plan["at"],
        "paused": schedule.is_paused,
        "created_at": rfc3339(schedule.created_at_s),
        "next_at": None if schedule.next_at_s is None else rfc3339(schedule.next_at_s),
        "last_at": None if schedule.last_at_s is None else rfc3339(schedule.last_at_s),
        "last_run_id": schedule.last_run_id,
        "last_error": None if schedule.last_error is None else dict(schedule.last_error),
    }


def _id_of(incoming: Incoming) -> str:
    return check_id(incoming.path_param("schedule_id"), "the schedule id")
