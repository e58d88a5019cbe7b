"""Schedules as clients send and get them."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.routes.schemas import Body, Id, MachineName, Metadata, PartitionKey, StartRun, StateValues, Time

__all__ = ["CreateSchedule", "PauseSchedule", "Schedule", "SchedulePage"]

Cron = Annotated[
    str | None,
    Field(
        max_length=200,
        description="Five fields: minute, hour, day of the month, month, day of the week.",
        examples=["30 7 * * MON-FRI"],
    ),
]
TimeZone = Annotated[
    str | None,
    Field(max_length=64, description="Of `cron`; UTC by default. Times that a change of the clock leaves out move behind it."),
]
Every = Annotated[float | None, Field(description="Seconds from one run to the next, counted from the schedule's creation.")]
At = Annotated[str | None, Field(max_length=64, description="Once, at this time; RFC 3339, with an offset.")]


class ScheduledSession(Body):
    machine: MachineName
    state: StateValues = Field(default_factory=dict, description="Laid over the machine's own initial state.")
    partition_key: PartitionKey | None = None
    metadata: Metadata = Field(default_factory=dict)


class CreateSchedule(Body):
    session_id: Annotated[Id | None, Field(description="The session to run; or")] = None
    session: Annotated[ScheduledSession | None, Field(description="the session to create each time.")] = None
    run: StartRun = StartRun()
    cron: Cron = None
    time_zone: TimeZone = None
    every_s: Every = None
    at: At = None
    paused: bool = False


class PauseSchedule(Body):
    paused: bool


class Schedule(BaseModel):
    id: str
    session_id: str | None
    session: dict[str, Any] | None
    run: dict[str, Any]
    cron: Cron
    time_zone: TimeZone
    every_s: Every
    at: At
    paused: bool
    created_at: Time
    next_at: Annotated[Time | None, Field(description="Null while it is paused, and when nothing is to come any more.")]
    last_at: Annotated[Time | None, Field(description="The last time that was due.")]
    last_run_id: str | None
    last_error: Annotated[
        dict[str, Any] | None, Field(description="Why there was no run the last time, or why the schedule was paused.")
    ]


class SchedulePage(BaseModel):
    items: list[Schedule]
    next_cursor: str | None
