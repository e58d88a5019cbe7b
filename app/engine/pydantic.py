"""Actions whose functions take and return pydantic models instead of states.

The function gets a model of the keys that it reads (and, as far as they exist, of those that it writes), may change it in place,
and returns a model from which its writes are taken. Models and typed state as such are in `pydantic_models`.
"""

import inspect
import types
import typing
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Generic, TypeVar

import pydantic

from app.engine.errors import GraphError
from app.engine.function_actions import FunctionBasedAction, FunctionBasedStreamingAction, bind, derive_inputs_from_fn
from app.engine.pydantic_models import (
    PydanticTypingSystem,
    merge_to_state,
    model_from_state,
    model_from_values,
    model_to_dict,
    subset_model,
)
from app.engine.retry import Retry
from app.engine.state import State
from app.engine.typing import ActionSchema, IntermediateResultType, StateInputType, StateOutputType
from app.engine.view import present_values

__all__ = [
    "PydanticActionSchema",
    "PydanticTypingSystem",
    "merge_to_state",
    "model_from_state",
    "model_to_dict",
    "pydantic_action",
    "pydantic_streaming_action",
    "subset_model",
]

Model = type[pydantic.BaseModel]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class PydanticActionSchema(
    ActionSchema[StateInputType, StateOutputType, IntermediateResultType],
    Generic[StateInputType, StateOutputType, IntermediateResultType],
):
    """The models of a pydantic action: parts of the whole one, with the keys that the action reads and writes."""

    def __init__(
        self,
        input_type: type[StateInputType],
        output_type: type[StateOutputType],
        intermediate_result_type: type[IntermediateResultType],
    ) -> None:
        self._input_type = input_type
        self._output_type = output_type
        self._intermediate_result_type = intermediate_result_type

    def state_input_type(self) -> type[StateInputType]:
        return self._input_type

    def state_output_type(self) -> type[StateOutputType]:
        return self._output_type

    def intermediate_result_type(self) -> type[IntermediateResultType]:
        return self._intermediate_result_type


def pydantic_action(
    reads: list[str],
    writes: list[str],
    state_input_type: Model | None = None,
    state_output_type: Model | None = None,
    tags: list[str] | None = None,
    *,
    timeout_s: float | None = None,
    retry: Retry | int | None = None,
    executor: str | None = None,
) -> Callable[[_Function], _Function]:
    """Return a decorator that makes an action of a function from one pydantic model to another.

    The models are those of the parameter `state` and of the return annotation, unless both are given. Raises GraphError if they
    are not models, or have not the keys that the action declares.
    """

    def decorate(fn: _Function) -> _Function:
        given = (state_input_type, state_output_type)
        takes, gives = _models(fn, reads, writes, _annotated(fn) if _neither(fn, *given) else given)

        def call(state: State[Any], /, **inputs: Any) -> State[Any]:
            return _settle(gives, fn(_part(takes, state), **inputs), writes, state)

        async def acall(state: State[Any], /, **inputs: Any) -> State[Any]:
            return _settle(gives, await fn(_part(takes, state), **inputs), writes, state)

        made = FunctionBasedAction(
            acall if inspect.iscoroutinefunction(fn) else call,
            reads,
            writes,
            input_spec=derive_inputs_from_fn({}, fn),
            originating_fn=fn,
            schema=PydanticActionSchema(takes, gives, dict),
            tags=tags,
            timeout_s=timeout_s,
            retry=retry,
            executor=executor,
        )
        return _represent(fn, made)

    return decorate


def pydantic_streaming_action(
    reads: list[str],
    writes: list[str],
    state_input_type: Model,
    state_output_type: Model,
    stream_type: Model | type[dict[str, Any]],
    tags: list[str] | None = None,
    *,
    timeout_s: float | None = None,
    retry: Retry | int | None = None,
    executor: str | None = None,
) -> Callable[[_Function], _Function]:
    """Return a decorator that makes a streaming action of a generator function, sync or async, over pydantic models.

    The function yields tuples of an item of `stream_type` and None, at its end of an item and the model after it. Raises
    GraphError if the models have not the keys that the action declares.
    """

    def decorate(fn: _Function) -> _Function:
        if stream_type is None:
            raise _refused(fn, "stream_type is missing")
        takes, gives = _models(fn, reads, writes, (state_input_type, state_output_type))

        def stream(state: State[Any], /, **inputs: Any) -> Generator[tuple[Any, State[Any] | None], None, None]:
            for item, model in fn(_part(takes, state), **inputs):
                yield item, None if model is None else _settle(gives, model, writes, state)

        async def astream(state: State[Any], /, **inputs: Any) -> AsyncGenerator[tuple[Any, State[Any] | None], None]:
            async for item, model in fn(_part(takes, state), **inputs):
                yield item, None if model is None else _settle(gives, model, writes, state)

        made = FunctionBasedStreamingAction(
            astream if inspect.isasyncgenfunction(fn) else stream,
            reads,
            writes,
            input_spec=derive_inputs_from_fn({}, fn),
            originating_fn=fn,
            schema=PydanticActionSchema(takes, gives, stream_type),
            tags=tags,
            timeout_s=timeout_s,
            retry=retry,
            executor=executor,
        )
        return _represent(fn, made)

    return decorate


def _part(takes: Model, state: State[Any]) -> pydantic.BaseModel:
    return model_from_values(takes, present_values(state, takes.model_fields))


def _settle(gives: Model, result: pydantic.BaseModel, writes: list[str], state: State[Any]) -> State[Any]:
    output = gives.model_validate(model_to_dict(result, include=writes), by_name=True)
    return merge_to_state(output, writes, state)


def _neither(fn: Callable[..., Any], *given: Model | None) -> bool:
    if given.count(None) == 1:
        raise _refused(fn, "state_input_type and state_output_type are given both or not at all")
    return given[0] is None


def _annotated(fn: Callable[..., Any]) -> tuple[Any, Any]:
    if "state" not in inspect.signature(fn).parameters:
        raise _refused(fn, "it has no parameter `state`")
    hints = typing.get_type_hints(fn)
    return hints.get("state"), hints.get("return")


def _models(fn: Callable[..., Any], reads: list[str], writes: list[str], whole: tuple[Any, Any]) -> tuple[Model, Model]:
    """Return the models that `fn` takes and gives: the parts of the `whole` ones that it declares."""
    for role, model, keys in (("takes", whole[0], reads), ("returns", whole[1], writes)):
        if not (isinstance(model, type) and issubclass(model, pydantic.BaseModel)):
            raise _refused(fn, f"what it {role} is annotated as {model!r}, not as a pydantic model")
        if missing := [key for key in keys if key not in model.model_fields]:
            raise _refused(fn, f"its model {model.__name__!r} has no fields {missing}; it has {sorted(model.model_fields)}")
    takes = subset_model(whole[0], reads, [key for key in writes if key not in reads], f"{fn.__name__}_input")
    return takes, subset_model(whole[1], writes, [], f"{fn.__name__}_output")


def _refused(fn: Callable[..., Any], reason: str) -> GraphError:
    return GraphError(f"function {fn.__qualname__!r} cannot be a pydantic action: {reason}")


def _represent(fn: _Function, made: FunctionBasedAction | FunctionBasedStreamingAction) -> _Function:
    setattr(fn, FunctionBasedAction.ACTION_FUNCTION, made)
    setattr(fn, "bind", types.MethodType(bind, fn))  # noqa: B010  # a function has no such attribute for a type checker
    return fn
