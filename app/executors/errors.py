"""What can go wrong between a run and the place where its sync code is carried out.

Messages name the pool, the machine, the action and the key, never a value.
"""

__all__ = [
    "CannotTravel",
    "ExecutorError",
    "ExecutorsClosed",
    "PoolExhausted",
    "RemoteActionError",
    "RungUnavailable",
    "UnknownRung",
    "WorkerDied",
]


class ExecutorError(Exception):
    """Root of every error of this layer."""


class UnknownRung(ExecutorError, ValueError):
    """An action, a machine or the service asks for an executor that does not exist."""


class PoolExhausted(ExecutorError):
    """No thread is left for the call, or too many calls wait already. Worth another try after `retry_after_s`."""

    def __init__(self, message: str, *, pool: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.pool = pool
        self.retry_after_s = retry_after_s


class ExecutorsClosed(ExecutorError):
    """The service is going down: nothing is started any more."""


class RungUnavailable(ExecutorError):
    """The rung cannot take calls now: its scheduler does not answer, or what it needs is not installed.

    Worth another try after `retry_after_s`; None when only a change of the settings can help.
    """

    def __init__(self, message: str, *, rung: str, retry_after_s: int | None = 5) -> None:
        super().__init__(message)
        self.rung = rung
        self.retry_after_s = retry_after_s


class WorkerDied(ExecutorError):
    """The process that carried out the call ended before it answered. Only that call is lost."""

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CannotTravel(ExecutorError):
    """Something that has to go to another process, or come back, cannot be pickled.

    `where` is "state", "input", "result", "item", "action" or "machine", and `key` the name in it.
    """

    def __init__(self, message: str, *, where: str = "state", key: str | None = None) -> None:
        super().__init__(message)
        self.where = where
        self.key = key


class RemoteActionError(ExecutorError):
    """An action raised, in another process, an exception that cannot be pickled; `type_name` is its class's name."""

    def __init__(self, message: str, type_name: str = "Exception") -> None:
        super().__init__(message)
        self.type_name = type_name
