"""Actions made of functions: the `@action` and `@streaming_action` decorators, and what they make.

A decorated function stays callable as it is; its action is an attribute of it, which the graph builder takes.
"""

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar, cast

from app.engine.actions import DEFAULT_SCHEMA, Action, SingleStepAction
from app.engine.argument_copies import with_own_defaults
from app.engine.errors import GraphError, kind_of
from app.engine.retry import Retry, as_retry
from app.engine.state import State
from app.engine.streaming import SingleStepStreamingAction
from app.engine.typing import ActionSchema

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "FunctionBasedAction",
    "FunctionBasedActionType",
    "FunctionBasedStreamingAction",
    "FunctionRepresentingAction",
    "action",
    "bind",
    "copy_func",
    "create_action",
    "derive_inputs_from_fn",
    "streaming_action",
]

C = TypeVar("C", bound=Callable[..., Any])
C_co = TypeVar("C_co", bound=Callable[..., Any], covariant=True)
InputSpec: TypeAlias = tuple[list[str], list[str]]


class _FunctionBased(SingleStepAction):
    """What both kinds of function-based action have: a function, its declaration, and values bound to its parameters."""

    ACTION_FUNCTION = "action_function"

    def __init__(
        self,
        fn: Callable[..., Any],
        reads: list[str],
        writes: list[str],
        bound_params: dict[str, Any] | None = None,
        input_spec: InputSpec | None = None,
        originating_fn: Callable[..., Any] | None = None,
        schema: ActionSchema[Any, Any, Any] = DEFAULT_SCHEMA,
        tags: list[str] | None = None,
        timeout_s: float | None = None,
        retry: Retry | int | None = None,
        executor: str | None = None,
    ) -> None:
        super().__init__()
        self._named: dict[str, Self] = {}  # itself under each name that a builder has asked for
        self._fn = fn
        self._reads = _names(reads, "reads", fn)
        self._writes = _names(writes, "writes", fn)
        self._bound_params = dict(bound_params or {})
        required, optional = derive_inputs_from_fn({}, fn) if input_spec is None else input_spec
        self._inputs = (
            [name for name in required if name not in self._bound_params],
            [name for name in optional if name not in self._bound_params],
        )
        self._originating_fn = originating_fn or fn
        self._schema = schema
        self._tags = _names(tags or (), "tags", fn)
        self.timeout_s = timeout_s
        self.retry = as_retry(retry)
        self.executor = executor

    @property
    def fn(self) -> Callable[..., Any]:
        """The function as it was decorated."""
        return self._fn

    @property
    def call(self) -> Callable[..., Any]:
        """The function with the bound values in it: what a step calls with the view and the inputs."""
        call = functools.partial(self._fn, **self._bound_params) if self._bound_params else self._fn
        return with_own_defaults(call, self._originating_fn, self._bound_params)

    @property
    def originating_fn(self) -> Callable[..., Any]:
        """The function as the user wrote it: its annotations are those of the inputs."""
        return self._originating_fn

    @property
    def reads(self) -> list[str]:
        return self._reads

    @property
    def writes(self) -> list[str]:
        return self._writes

    @property
    def inputs(self) -> InputSpec:
        return self._inputs

    @property
    def schema(self) -> ActionSchema[Any, Any, Any]:
        return self._schema

    @property
    def tags(self) -> list[str]:
        return self._tags

    def with_name(self, name: str) -> Self:
        if self._name is not None:
            return super().with_name(name)  # which says what is wrong
        named = copy.copy(self)
        named._name = name
        return named

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_named": {}, "_graphs": {}}  # what was made of it is made again where it is needed

    def named(self, name: str) -> Self:
        """Return what `with_name` does, and the same object each time: builders ask for the same one again and again."""
        if self._name is not None or type(self) not in (FunctionBasedAction, FunctionBasedStreamingAction):
            return self.with_name(name)
        return self._named.get(name) or self._named.setdefault(name, self.with_name(name))

    def with_params(self, /, **kwargs: Any) -> Self:
        """Return the same action with values bound to some of its parameters: they are no inputs any more."""
        return type(self)(
            self._fn,
            self._reads,
            self._writes,
            {**self._bound_params, **kwargs},
            input_spec=self._inputs,
            originating_fn=self._originating_fn,
            schema=self._schema,
            tags=self._tags,
            timeout_s=self.timeout_s,
            retry=self.retry,
            executor=self.executor,
        )

    def get_source(self) -> str:
        return inspect.getsource(self._originating_fn)


class FunctionBasedAction(_FunctionBased):
    """An action that is one call of a function, sync or async: it returns the new state, or a result and the new state."""

    def run_and_update(self, state: State[Any], /, **run_kwargs: Any) -> Any:
        return self.call(state, **run_kwargs)

    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self._fn)


class FunctionBasedStreamingAction(_FunctionBased, SingleStepStreamingAction):
    """An action that is a generator function, sync or async: it yields items, and at its end a result and the new state."""

    def stream_run_and_update(self, state: State[Any], /, **run_kwargs: Any) -> Any:
        return self.call(state, **run_kwargs)

    def is_async(self) -> bool:
        return inspect.isasyncgenfunction(self._fn)


FunctionBasedActionType: TypeAlias = FunctionBasedAction | FunctionBasedStreamingAction


class FunctionRepresentingAction(Protocol[C_co]):
    """A function that `@action` or `@streaming_action` has decorated."""

    action_function: FunctionBasedActionType

    @property
    def __call__(self) -> C_co: ...

    def bind(self, /, **kwargs: Any) -> Self:
        """Return a copy of the function whose action has values bound to some of its parameters."""
        ...

    def with_name(self, name: str) -> FunctionBasedActionType:
        """Return the action under a name of its own."""
        ...


def bind(self: Any, /, **kwargs: Any) -> Any:
    """Return a copy of a decorated function whose action has values bound to some of its parameters.

    Raises GraphError for a name that is no parameter of the function.
    """
    unbound: FunctionBasedActionType = self.action_function
    known = {name for names in unbound.inputs for name in names}
    if unknown := sorted(kwargs.keys() - known - unbound._bound_params.keys()):
        raise GraphError(f"function {unbound.fn.__name__!r} has no parameters {unknown} to bind; it has {sorted(known)}")
    return _represent(copy_func(self), unbound.with_params(**kwargs))


class action:  # noqa: N801  # Burr's name, used as a decorator
    """Decorator that makes an action of a function.

    The function takes the state first; its other parameters are inputs, optional ones if they have defaults, unless `bind` gives
    them values. It returns the new state, or a tuple of a result (a dict) and the new state. `timeout_s`, `retry` (a Retry, or a
    number of attempts) and `executor` say how a step carries it out.
    """

    def __init__(
        self,
        reads: list[str],
        writes: list[str],
        tags: list[str] | None = None,
        *,
        timeout_s: float | None = None,
        retry: Retry | int | None = None,
        executor: str | None = None,
    ) -> None:
        self.reads = reads
        self.writes = writes
        self.tags = tags
        self.timeout_s = timeout_s
        self.retry = retry
        self.executor = executor

    def __call__(self, fn: C) -> "FunctionRepresentingAction[C]":
        made = FunctionBasedAction(
            fn,
            self.reads,
            self.writes,
            tags=self.tags,
            timeout_s=self.timeout_s,
            retry=self.retry,
            executor=self.executor,
        )
        return cast("FunctionRepresentingAction[C]", _represent(fn, made))

    @staticmethod
    def pydantic(
        reads: list[str],
        writes: list[str],
        state_input_type: "type[BaseModel] | None" = None,
        state_output_type: "type[BaseModel] | None" = None,
        tags: list[str] | None = None,
    ) -> Callable[..., Any]:
        """Decorator for a function that takes and returns pydantic models. See `app.engine.pydantic.pydantic_action`."""
        from app.engine.pydantic import pydantic_action  # it needs this module first

        return pydantic_action(
            reads=reads, writes=writes, state_input_type=state_input_type, state_output_type=state_output_type, tags=tags
        )


class streaming_action:  # noqa: N801  # Burr's name, used as a decorator
    """Decorator that makes a streaming action of a generator function, sync or async.

    It yields items: a dict, or a tuple of a dict and None. Its last item is a tuple of the result and the new state.
    The other arguments are those of `action`.
    """

    def __init__(
        self,
        reads: list[str],
        writes: list[str],
        tags: list[str] | None = None,
        *,
        timeout_s: float | None = None,
        retry: Retry | int | None = None,
        executor: str | None = None,
    ) -> None:
        self.reads = reads
        self.writes = writes
        self.tags = tags
        self.timeout_s = timeout_s
        self.retry = retry
        self.executor = executor

    def __call__(self, fn: C) -> "FunctionRepresentingAction[C]":
        made = FunctionBasedStreamingAction(
            fn,
            self.reads,
            self.writes,
            tags=self.tags,
            timeout_s=self.timeout_s,
            retry=self.retry,
            executor=self.executor,
        )
        return cast("FunctionRepresentingAction[C]", _represent(copy_func(fn), made))

    @staticmethod
    def pydantic(
        reads: list[str],
        writes: list[str],
        state_input_type: "type[BaseModel]",
        state_output_type: "type[BaseModel]",
        stream_type: "type[BaseModel] | type[dict[str, Any]]",
        tags: list[str] | None = None,
    ) -> Callable[..., Any]:
        """Decorator for a generator function over pydantic models. See `app.engine.pydantic.pydantic_streaming_action`."""
        from app.engine.pydantic import pydantic_streaming_action  # it needs this module first

        return pydantic_streaming_action(
            reads=reads,
            writes=writes,
            state_input_type=state_input_type,
            state_output_type=state_output_type,
            stream_type=stream_type,
            tags=tags,
        )


def create_action(action_: Any, name: str) -> Action:
    """Return the action that `action_` is or represents, under `name`.

    Raises GraphError for anything else: a function that was not decorated, for example.
    """
    found = getattr(action_, FunctionBasedAction.ACTION_FUNCTION, action_)
    if not isinstance(found, Action):
        kind = f"function {action_.__name__!r}" if inspect.isfunction(action_) else kind_of(action_)
        raise GraphError(f"{name!r} is {kind}, not an action; decorate it with @action or @streaming_action")
    return found.named(name) if isinstance(found, _FunctionBased) else found.with_name(name)


def derive_inputs_from_fn(bound_params: Mapping[str, Any], fn: Callable[..., Any]) -> InputSpec:
    """Return the required and the optional inputs of an action function: its parameters but the first and those bound."""
    required: list[str] = []
    optional: list[str] = []
    for index, (name, parameter) in enumerate(inspect.signature(fn).parameters.items()):
        is_variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if index == 0 or is_variadic or name in bound_params:
            continue
        (required if parameter.default is parameter.empty else optional).append(name)
    return required, optional


def _names(given: Iterable[str], what: str, function: Callable[..., Any]) -> list[str]:
    if isinstance(given, str):
        raise GraphError(f"function {function.__name__!r} declares {what} as the string {given!r}; expected a list of names")
    return list(given)


def _represent(function: Any, made: FunctionBasedActionType) -> Any:
    setattr(function, FunctionBasedAction.ACTION_FUNCTION, made)
    function.bind = types.MethodType(bind, function)
    function.with_name = made.with_name  # Burr's documentation calls it; in 0.43 it is not there
    return function


def copy_func(f: Any) -> Any:
    """Return a function with the same code and attributes of its own."""
    if not inspect.isfunction(f):
        return functools.wraps(f)(functools.partial(f))
    twin = types.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    twin.__kwdefaults__ = f.__kwdefaults__
    return functools.update_wrapper(twin, f)
