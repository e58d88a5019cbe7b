"""What an application asks of the place that keeps its states: base classes in both colours, and the hooks that save.

Implementations in memory are in `app.engine.persisters`; those over a database belong to another layer.
"""

import abc
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from app.engine.hooks import PostRunStepHook, PostRunStepHookAsync

if TYPE_CHECKING:
    from app.engine.actions import Action
    from app.engine.state import State

__all__ = [
    "AsyncBaseStateLoader",
    "AsyncBaseStatePersister",
    "AsyncBaseStateSaver",
    "BaseCopyable",
    "BaseStateLoader",
    "BaseStatePersister",
    "BaseStateSaver",
    "PersistedStateData",
    "PersisterHook",
    "PersisterHookAsync",
]


class PersistedStateData(TypedDict):
    """One saved moment of an application.

    `position` is the action of step `sequence_id`; when `status` is `failed`, `state` is the one from before it. `created_at`
    is an ISO 8601 time.
    """

    partition_key: str
    app_id: str
    sequence_id: int
    position: str
    state: "State[Any]"
    created_at: str
    status: str


class BaseCopyable(abc.ABC):
    """Something that parallel branches take a copy of, because one object cannot serve several threads or tasks."""

    @abc.abstractmethod
    def copy(self) -> Self: ...


class BaseStateLoader(abc.ABC):
    """Reads saved states, for sync applications."""

    @abc.abstractmethod
    def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **kwargs: Any
    ) -> PersistedStateData | None:
        """Return the state after step `sequence_id`, or the latest one saved if that is None; None if there is no such state."""

    @abc.abstractmethod
    def list_app_ids(self, partition_key: str | None, **kwargs: Any) -> list[str]:
        """Return the ids of the applications saved under `partition_key`."""

    def is_async(self) -> bool:
        return False


class AsyncBaseStateLoader(abc.ABC):
    """`BaseStateLoader` for async applications."""

    @abc.abstractmethod
    async def load(
        self, partition_key: str | None, app_id: str | None, sequence_id: int | None = None, **kwargs: Any
    ) -> PersistedStateData | None: ...

    @abc.abstractmethod
    async def list_app_ids(self, partition_key: str | None, **kwargs: Any) -> list[str]: ...

    def is_async(self) -> bool:
        return True


class BaseStateSaver(abc.ABC):
    """Writes states, for sync applications."""

    def initialize(self) -> None:  # noqa: B027  # most savers have nothing to prepare
        """Prepare the place of storage. Does nothing unless overridden."""

    def is_initialized(self) -> bool:
        """Return whether `initialize` is not needed any more. The builder does not ask a saver that leaves this out."""
        raise NotImplementedError(f"{type(self).__name__} does not say whether it is initialized")

    @abc.abstractmethod
    def save(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: "State[Any]",
        status: Literal["completed", "failed"],
        **kwargs: Any,
    ) -> None:
        """Keep `state` as that of step `sequence_id`, whose action is `position`. A failed step leaves the state as it was."""

    def is_async(self) -> bool:
        return False


class AsyncBaseStateSaver(abc.ABC):
    """`BaseStateSaver` for async applications."""

    async def initialize(self) -> None:  # noqa: B027  # most savers have nothing to prepare
        """Prepare the place of storage. Does nothing unless overridden."""

    async def is_initialized(self) -> bool:
        """Return whether `initialize` is not needed any more. The builder does not ask a saver that leaves this out."""
        raise NotImplementedError(f"{type(self).__name__} does not say whether it is initialized")

    @abc.abstractmethod
    async def save(
        self,
        partition_key: str | None,
        app_id: str,
        sequence_id: int,
        position: str,
        state: "State[Any]",
        status: Literal["completed", "failed"],
        **kwargs: Any,
    ) -> None: ...

    def is_async(self) -> bool:
        return True


class BaseStatePersister(BaseStateLoader, BaseStateSaver, abc.ABC):
    """Reads and writes states, for sync applications."""


class AsyncBaseStatePersister(AsyncBaseStateLoader, AsyncBaseStateSaver, abc.ABC):
    """Reads and writes states, for async applications."""


class PersisterHook(PostRunStepHook):
    """Saves after every step, failed ones too."""

    def __init__(self, persister: BaseStateSaver) -> None:
        self.persister = persister

    def post_run_step(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        sequence_id: int,
        state: "State[Any]",
        action: "Action",
        exception: Exception | None,
        **_: Any,
    ) -> None:
        self.persister.save(partition_key, app_id, sequence_id, action.name, state, _status(exception))


class PersisterHookAsync(PostRunStepHookAsync):
    """`PersisterHook` for an async saver."""

    def __init__(self, persister: AsyncBaseStateSaver) -> None:
        self.persister = persister

    async def post_run_step(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        sequence_id: int,
        state: "State[Any]",
        action: "Action",
        exception: Exception | None,
        **_: Any,
    ) -> None:
        await self.persister.save(partition_key, app_id, sequence_id, action.name, state, _status(exception))


def _status(exception: Exception | None) -> Literal["completed", "failed"]:
    return "completed" if exception is None else "failed"
