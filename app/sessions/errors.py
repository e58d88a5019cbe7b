"""What can go wrong between a request and the engine: one class per thing that a caller would handle differently.

Ids are attributes as well as text. Messages never hold a state value.
"""

from collections.abc import Mapping

from app.engine.errors import ConditionError
from app.persistence.store import StoreUnavailable

__all__ = [
    "ActionFailed",
    "AnswerTrimmed",
    "ConditionFailed",
    "IdInvalid",
    "KeyReused",
    "MachineChanged",
    "MachineNotHosted",
    "MachineUnknown",
    "MetadataTooLarge",
    "PositionInvalid",
    "PositionTrimmed",
    "RunCancelled",
    "RunFailed",
    "RunHandedOver",
    "RunUnknown",
    "RunUnsettled",
    "ScheduleInvalid",
    "SeqMismatch",
    "SessionBusy",
    "SessionEnded",
    "SessionsError",
    "ShuttingDown",
    "StateInvalid",
    "WebhookInvalid",
]


class SessionsError(Exception):
    """Root of what this layer raises on its own account."""


class MachineUnknown(SessionsError):
    """Somebody named a machine that this service does not host."""

    def __init__(self, machine: str, hosted: list[str]) -> None:
        super().__init__(f"no machine is named {machine!r}; there are {', '.join(hosted) or 'none'}")
        self.machine = machine


class MachineNotHosted(SessionsError):
    """The session is there, but the machine that it was made for is not hosted now."""

    def __init__(self, session_id: str, machine: str) -> None:
        super().__init__(f"session {session_id!r} belongs to machine {machine!r}, which this service does not host now")
        self.session_id = session_id
        self.machine = machine


class MachineChanged(SessionsError):
    """The machine of the session has no action any more that the session stands at."""

    def __init__(self, session_id: str, machine: str, action: str) -> None:
        super().__init__(
            f"session {session_id!r} stands after action {action!r}, which machine {machine!r} does not have any more"
        )
        self.session_id = session_id
        self.machine = machine
        self.action = action


class StateInvalid(SessionsError, ValueError):
    """Values from outside do not fit the typed state of their machine. `errors` names each key and what is wrong with it."""

    def __init__(self, machine: str, wrong: Mapping[str, str]) -> None:
        self.machine = machine
        self.errors = [{"where": f"state.{key}", "message": message} for key, message in wrong.items()]
        super().__init__("; ".join(f"{each['where']}: {each['message']}" for each in self.errors))


class ConditionFailed(SessionsError):
    """A condition of the machine cannot be evaluated on a state from outside, so that nobody knows what comes next."""

    def __init__(self, machine: str, error: BaseException) -> None:
        said = (
            str(error) if isinstance(error, ConditionError) else f"a condition raised {type(error.__cause__ or error).__name__}"
        )
        super().__init__(f"machine {machine!r} cannot tell what comes next after this state: {said}")
        self.machine = machine


class IdInvalid(SessionsError, ValueError):
    """An id that cannot be one."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} must be 1 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ -")
        self.what = what


class SessionBusy(SessionsError):
    """The session has a run already, and one is all it can have."""

    def __init__(self, session_id: str, run_id: str | None) -> None:
        super().__init__(f"session {session_id!r} is busy with {f'run {run_id!r}' if run_id else 'an edit or a deletion'}")
        self.session_id = session_id
        self.run_id = run_id


class SessionEnded(SessionsError):
    """No transition leads on from where the session stands."""

    def __init__(self, session_id: str, seq: int) -> None:
        super().__init__(f"session {session_id!r} has ended: no action follows step {seq}")
        self.session_id = session_id
        self.seq = seq


class SeqMismatch(SessionsError):
    """The session has moved since the caller looked at it."""

    def __init__(self, session_id: str, seq: int) -> None:
        super().__init__(f"session {session_id!r} stands at seq {seq}, not where If-Match says")
        self.session_id = session_id
        self.seq = seq


class RunUnknown(SessionsError):
    """No run with this id belongs to the session."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run has the id {run_id!r}")
        self.run_id = run_id


class PositionInvalid(SessionsError, ValueError):
    """A follower asked to go on after an event that no stream can have sent."""

    def __init__(self) -> None:
        super().__init__("Last-Event-ID must be the id of an event of this stream, or 0")


class PositionTrimmed(SessionsError):
    """A follower asked to go on after an event that is not kept any more: it would miss some without knowing."""

    def __init__(self, session_id: str, last_trimmed: int) -> None:
        super().__init__(
            f"the events of session {session_id!r} up to {last_trimmed} were trimmed: "
            "look at the session, and follow it from there, or from 0 for what is kept"
        )
        self.session_id = session_id


class AnswerTrimmed(SessionsError):
    """A request came again under its key, and the run that it made then is not kept any more. It was carried out, once."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"the first request with this Idempotency-Key was carried out as run {run_id!r}, which was trimmed: "
            "its answer is not kept any more, and it is not carried out again"
        )
        self.run_id = run_id


class ActionFailed(SessionsError):
    """An action raised, or a hook around it; the failure is recorded and the state stands where it stood."""

    def __init__(
        self, session_id: str, run_id: str, seq: int, action: str | None, error_type: str, message: str, steps: int
    ) -> None:
        super().__init__(f"{f'action {action!r}' if action else 'the run'} failed at step {seq} with {error_type}")
        self.session_id = session_id
        self.run_id = run_id
        self.seq = seq
        self.action = action
        self.error_type = error_type
        self.message = message
        self.steps = steps


class RunFailed(SessionsError):
    """The run failed, and not by one of its actions: `cause` says in a word by what."""

    def __init__(self, session_id: str, run_id: str, cause: str, message: str, steps: int) -> None:
        super().__init__(f"run {run_id!r} failed ({cause}){f': {message}' if message else ''}")
        self.session_id = session_id
        self.run_id = run_id
        self.cause = cause
        self.steps = steps


class RunUnsettled(StoreUnavailable):
    """The store could not say what it has of a run: the run goes on, or gets its end, when it can."""

    def __init__(self, session_id: str, run_id: str, cause: Exception | None) -> None:
        super().__init__(
            f"{cause or 'the store does not answer'}; how run {run_id!r} ends is not known yet",
            cause.retry_after_s if isinstance(cause, StoreUnavailable) else 1.0,
        )
        self.session_id = session_id
        self.run_id = run_id


class KeyReused(SessionsError):
    """The Idempotency-Key belongs to a request that asked for something else."""

    def __init__(self) -> None:
        super().__init__("the Idempotency-Key was used with another request: take a new one for a new request")


class RunCancelled(SessionsError):
    """The run was ended from outside; what it had committed stays."""

    def __init__(self, session_id: str, run_id: str, reason: str, seq: int, steps: int) -> None:
        super().__init__(f"run {run_id!r} was cancelled ({reason}) after {steps} steps")
        self.session_id = session_id
        self.run_id = run_id
        self.reason = reason
        self.seq = seq
        self.steps = steps


class ShuttingDown(SessionsError):
    """The service is going down and takes no new work."""

    def __init__(self) -> None:
        super().__init__("the service is shutting down and takes no new work")


class RunHandedOver(ShuttingDown):
    """The service is going down, and the run goes on: at another replica at once, or here at the next start."""

    def __init__(self, session_id: str, run_id: str) -> None:
        SessionsError.__init__(self, f"the service is shutting down; run {run_id!r} goes on when a replica takes it up")
        self.session_id = session_id
        self.run_id = run_id


class WebhookInvalid(SessionsError):
    """A webhook that cannot be, or that is not allowed here. `field` is the part of it that is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"webhook.{field} {reason}")
        self.field = f"webhook.{field}"


class ScheduleInvalid(SessionsError):
    """A schedule that cannot be. `field` is the part of it that is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class MetadataTooLarge(SessionsError):
    """The metadata of a session would have more names, or more bytes as JSON, than the service takes."""

    def __init__(self, names: int, size_bytes: int, most_names: int, most_bytes: int) -> None:
        super().__init__(
            f"metadata may have {most_names} names and {most_bytes} bytes as JSON; "
            f"it would have {names} names{f' and {size_bytes} bytes' if size_bytes else ''}"
        )
        self.most_names = most_names
        self.most_bytes = most_bytes
