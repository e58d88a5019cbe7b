"""The moments of a step, of an application's making and of a call that advances it: one abstract class per moment and colour.

A hook class has one method, named for its moment, whose arguments are passed by keyword. A user's method takes those it wants
by name and the rest as `**future_kwargs`, so that later versions can pass more. Spans and streams have files of their own;
ready-made hooks are in `hook_defaults`; nothing here calls a hook.
"""

import abc
import enum
from typing import TYPE_CHECKING, Any

from app.engine.hook_moments import hook
from app.engine.pointers import ParentPointer

if TYPE_CHECKING:
    from app.engine.actions import Action
    from app.engine.graph import ApplicationGraph
    from app.engine.state import State

__all__ = [
    "ExecuteMethod",
    "PostApplicationCreateHook",
    "PostApplicationExecuteCallHook",
    "PostApplicationExecuteCallHookAsync",
    "PostRunStepHook",
    "PostRunStepHookAsync",
    "PreApplicationExecuteCallHook",
    "PreApplicationExecuteCallHookAsync",
    "PreRunStepHook",
    "PreRunStepHookAsync",
]


class ExecuteMethod(enum.Enum):
    """The public methods that advance an application: what the execute-call hooks are told was called."""

    step = "step"
    astep = "astep"
    iterate = "iterate"
    aiterate = "aiterate"
    run = "run"
    arun = "arun"
    stream_result = "stream_result"
    astream_result = "astream_result"
    stream_iterate = "stream_iterate"
    astream_iterate = "astream_iterate"


@hook("pre_run_step")
class PreRunStepHook(abc.ABC):
    """Called before the action of a step, with the state as it is then and the inputs that the action will get."""

    @abc.abstractmethod
    def pre_run_step(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        sequence_id: int,
        state: "State[Any]",
        action: "Action",
        inputs: dict[str, Any],
        **future_kwargs: Any,
    ) -> None: ...


@hook("pre_run_step", is_async=True)
class PreRunStepHookAsync(abc.ABC):
    """`PreRunStepHook` for async runs."""

    @abc.abstractmethod
    async def pre_run_step(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        sequence_id: int,
        state: "State[Any]",
        action: "Action",
        inputs: dict[str, Any],
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_run_step")
class PostRunStepHook(abc.ABC):
    """Called after the action of a step. If it failed, `exception` is set and `state` is the one from before the step."""

    @abc.abstractmethod
    def post_run_step(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        sequence_id: int,
        state: "State[Any]",
        action: "Action",
        result: dict[str, Any] | None,
        exception: Exception | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_run_step", is_async=True)
class PostRunStepHookAsync(abc.ABC):
    """`PostRunStepHook` for async runs."""

    @abc.abstractmethod
    async def post_run_step(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        sequence_id: int,
        state: "State[Any]",
        action: "Action",
        result: dict[str, Any] | None,
        exception: Exception | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_application_create")
class PostApplicationCreateHook(abc.ABC):
    """Called once for each application, as the last thing of `build()` or `abuild()`. There is no async form."""

    @abc.abstractmethod
    def post_application_create(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        state: "State[Any]",
        application_graph: "ApplicationGraph",
        parent_pointer: ParentPointer | None,
        spawning_parent_pointer: ParentPointer | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("pre_run_execute_call")
class PreApplicationExecuteCallHook(abc.ABC):
    """Called once for each call of a method that advances the application, before its first step."""

    @abc.abstractmethod
    def pre_run_execute_call(
        self, *, app_id: str, partition_key: str | None, state: "State[Any]", method: ExecuteMethod, **future_kwargs: Any
    ) -> None: ...


@hook("pre_run_execute_call", is_async=True)
class PreApplicationExecuteCallHookAsync(abc.ABC):
    """`PreApplicationExecuteCallHook` for async methods."""

    @abc.abstractmethod
    async def pre_run_execute_call(
        self, *, app_id: str, partition_key: str | None, state: "State[Any]", method: ExecuteMethod, **future_kwargs: Any
    ) -> None: ...


@hook("post_run_execute_call")
class PostApplicationExecuteCallHook(abc.ABC):
    """Called once for each call of a method that advances the application, after its last step or its failure."""

    @abc.abstractmethod
    def post_run_execute_call(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        state: "State[Any]",
        method: ExecuteMethod,
        exception: Exception | None,
        **future_kwargs: Any,
    ) -> None: ...


@hook("post_run_execute_call", is_async=True)
class PostApplicationExecuteCallHookAsync(abc.ABC):
    """`PostApplicationExecuteCallHook` for async methods."""

    @abc.abstractmethod
    async def post_run_execute_call(
        self,
        *,
        app_id: str,
        partition_key: str | None,
        state: "State[Any]",
        method: ExecuteMethod,
        exception: Exception | None,
        **future_kwargs: Any,
    ) -> None: ...
