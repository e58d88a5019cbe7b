"""Bodies that clients send, checked by these models, and answers that they get, described by them for OpenAPI."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.engine.burr_keys import BURR_KEYS

__all__ = [
    "Body",
    "CreateSession",
    "EditSession",
    "Fork",
    "Id",
    "Machine",
    "MachineName",
    "MachinePage",
    "Metadata",
    "PartitionKey",
    "Run",
    "RunAnswer",
    "RunPage",
    "Session",
    "SessionPage",
    "SessionSummary",
    "StartRun",
    "StateValues",
    "Step",
    "StepAnswer",
    "StepPage",
    "StepWithState",
    "TakeStep",
    "Time",
    "Trimmed",
]

Inputs = Annotated[dict[str, Any], Field(description="Inputs of the first action, by name.")]


def _without_position(state: dict[str, Any]) -> dict[str, Any]:
    for key in BURR_KEYS:
        if key in state:
            raise PydanticCustomError("reserved_key", "may not hold {key}, which is no part of a state here", {"key": key})
    return state


StateValues = Annotated[dict[str, Any], AfterValidator(_without_position)]
Metadata = Annotated[
    dict[str, Any],
    Field(description="Anything of yours, up to 64 names and 16 kB as JSON; lists of sessions filter by its texts."),
]
SessionStatus = Literal["idle", "running", "ended", "failed"]
RunStatus = Literal["queued", "running", "finished", "failed", "cancelled"]
Reason = Literal["halt_before", "halt_after", "end", "max_steps"]
Id = Annotated[str, Field(description="1 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ -", examples=["order-4711"])]
OnBusy = Annotated[
    Literal["reject", "enqueue", "interrupt", "rollback"],
    Field(
        description="If the session already runs: 409; wait; cancel the other run and keep what it has committed; or cancel "
        "it and return to where it began."
    ),
]
Ttl = Annotated[
    float | None,
    Field(gt=0, le=3_153_600_000, description="The session expires after so many seconds in which nothing happens; null: never."),
]
Time = Annotated[str, Field(description="RFC 3339, UTC.", examples=["2026-01-31T12:00:00.000000Z"])]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


MachineName = Annotated[str, Field(min_length=1, max_length=200)]
PartitionKey = str


class CreateSession(Body):
    machine: MachineName
    id: Id | None = None
    state: Annotated[StateValues, Field(description="Laid over the machine's own initial state.")] = {}
    partition_key: PartitionKey | None = None
    metadata: Metadata = {}
    ttl_s: Annotated[Ttl, Field(description="That of the machine, or of the service, by default.")] = None


class StateEdit(Body):
    set: StateValues = {}
    delete: list[str] = []

    @field_validator("delete")
    @classmethod
    def _is_not_set(cls, delete: list[str], info: ValidationInfo) -> list[str]:
        if not info.data.get("set", {}).keys().isdisjoint(delete):
            raise PydanticCustomError("set_and_delete", "names a key that `set` names too")
        return delete


class EditSession(Body):
    state: StateEdit = StateEdit()
    metadata: Annotated[dict[str, Any], Field(description="A merge patch (RFC 7396): null removes a name.")] = {}
    partition_key: PartitionKey | None = None
    ttl_s: Ttl = None

    @model_validator(mode="after")
    def _changes_something(self) -> "EditSession":
        if not self.model_fields_set:
            raise ValueError("name at least one of state, metadata, partition_key, ttl_s")
        return self


class Fork(Body):
    seq: Annotated[int | None, Field(ge=0, le=2**63 - 1, description="The step to begin after; the last one by default.")] = None
    id: Id | None = None
    partition_key: Annotated[PartitionKey | None, Field(description="That of the parent by default.")] = None
    metadata: Annotated[dict[str, Any] | None, Field(description="That of the parent by default.")] = None
    ttl_s: Annotated[Ttl, Field(description="That of the parent by default.")] = None


class TakeStep(Body):
    inputs: Inputs = {}
    on_busy: OnBusy = "reject"


class Webhook(Body):
    url: Annotated[str, Field(max_length=2048, description="Where to POST to, http or https.")]
    secret: Annotated[
        str | None,
        Field(
            repr=False,
            max_length=1024,
            description="Signs the message: `whsec_` and the base64 of 24 to 64 bytes, or a text. Never shown.",
        ),
    ] = None


class StartRun(Body):
    inputs: Inputs = {}
    halt_before: Annotated[list[str], Field(max_length=1000, description="Actions, or `@tag:name` for all that have a tag.")] = []
    halt_after: Annotated[list[str], Field(max_length=1000, description="Actions, or `@tag:name` for all that have a tag.")] = []
    max_steps: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    timeout_s: Annotated[float | None, Field(gt=0, le=31_536_000, description="The run is cancelled after that.")] = None
    durability: Annotated[
        Literal["sync", "async", "exit"],
        Field(description="Steps are committed before the next action starts, while it runs, or when the run ends."),
    ] = "sync"
    on_busy: OnBusy = "reject"
    webhook: Annotated[Webhook | None, Field(description="Whom to tell of the end of the run.")] = None


class Delivery(BaseModel):
    url: str
    status: Annotated[
        Literal["waiting", "pending", "delivered", "failed"],
        Field(description="The run has not ended; to be tried (again) at `next_at`; accepted with a 2xx; given up."),
    ]
    attempts: int
    last_at: Time | None
    last_answer: Annotated[str | None, Field(description="The HTTP status of the last answer, or what kept it from coming.")]
    next_at: Time | None


class SessionSummary(BaseModel):
    id: Id
    machine: str
    machine_version: str
    partition_key: str | None
    metadata: dict[str, Any]
    status: SessionStatus
    seq: Annotated[int, Field(ge=-1, description="The last committed step; -1 before the first.")]
    prior_action: str | None
    next_action: str | None
    created_at: Time
    updated_at: Time
    parent_session_id: str | None
    parent_seq: int | None
    ttl_s: Ttl
    expires_at: Annotated[Time | None, Field(description="Unless something happens before; null while a run is under way.")]


class Session(SessionSummary):
    state: dict[str, Any]
    unreadable: Annotated[
        dict[str, str],
        Field(description="Keys that `state` lacks because they cannot be read back, each with its class."),
    ] = {}


class SessionPage(BaseModel):
    items: list[SessionSummary]
    next_cursor: str | None


class StepAnswer(BaseModel):
    session_id: str
    run_id: str
    seq: int
    action: str | None
    result: Any
    status: SessionStatus
    next_action: str | None
    state: Annotated[dict[str, Any], Field(description="Left out with `Prefer: return=minimal`.")] = {}


class RunAnswer(StepAnswer):
    reason: Reason
    steps: int


class Edit(BaseModel):
    op: Literal["put", "remove", "splice", "grow"]
    path: Annotated[list[Any], Field(description="Keys, indexes and fields that lead from the value to the part; may be empty.")]
    value: Any = None
    index: int | None = None
    removed: Annotated[int | None, Field(description="The number of items from `index` on that make room for `items`.")] = None
    items: list[Any] | None = None
    text: Annotated[str | None, Field(description="What the text at `path` gained at its end.")] = None


class Operation(BaseModel):
    op: Literal["set", "append", "extend", "increment", "delete", "patch"]
    key: str
    value: Any = None
    items: list[Any] | None = None
    by: float | None = None
    edits: Annotated[list[Edit] | None, Field(description="In order; none if the value is what it was before.")] = None


class Step(BaseModel):
    session_id: str
    seq: int
    kind: Annotated[
        Literal["action", "edit", "rollback", "fork"],
        Field(description="`edit`: the state was changed by hand; `rollback`: a run was taken back."),
    ]
    run_id: str | None
    action: str | None
    result: Any
    operations: list[Operation]
    next_action: str | None
    started_at: Time
    finished_at: Time


class StepWithState(Step):
    state: dict[str, Any]


class StepPage(BaseModel):
    items: list[Step]
    next_cursor: str | None


class Trimmed(BaseModel):
    session_id: str
    first_seq: Annotated[int, Field(description="The first step that is kept.")]


class Run(BaseModel):
    id: str
    session_id: str
    status: RunStatus
    reason: Annotated[str | None, Field(description="Why it finished, or why it was cancelled.")]
    error: dict[str, Any] | None
    steps: int
    parameters: dict[str, Any]
    started_at: Time | None
    finished_at: Time | None
    webhook: Delivery | None


class RunPage(BaseModel):
    items: list[Run]
    next_cursor: str | None


class MachineAction(BaseModel):
    name: str
    reads: list[str]
    writes: list[str]
    inputs: dict[Literal["required", "optional"], list[str]]
    tags: list[str]
    is_async: bool
    is_streaming: bool
    executor: Annotated[str, Field(description="Where it is to run: `loop`, `thread`, `process`, `dask`, `auto`, `private_loop`")]
    runs_in: Annotated[str, Field(description="Where it runs now: what `auto` and `isolate_blocking` have made of it")]
    calls: Annotated[int, Field(description="Sync calls so far, in this process")]
    mean_wait_ms: Annotated[float, Field(description="Time in the queue")]
    mean_wall_ms: Annotated[float, Field(description="Time on the clock")]
    mean_cpu_ms: Annotated[float, Field(description="Time on the CPU")]


class MachineTransition(BaseModel):
    source: str
    target: str
    condition: str


class MachineWarning(BaseModel):
    kind: str
    action: str | None
    message: str
    details: dict[str, Any]


class MachineSummary(BaseModel):
    name: str
    version: str
    description: str
    entrypoint: str


class Machine(MachineSummary):
    actions: list[MachineAction]
    transitions: list[MachineTransition]
    state_schema: Annotated[dict[str, Any] | None, Field(description="JSON schema of the state, if the machine has typed state.")]
    warnings: list[MachineWarning]


class MachinePage(BaseModel):
    items: list[MachineSummary]
    next_cursor: str | None
