"""The base classes of actions: what an action declares, and how it is called.

Function-based actions are in `function_actions`, streaming ones in `streaming`. Nothing here runs an action.
"""

import abc
import copy
import inspect
from collections.abc import Callable
from typing import Any, Self

from app.engine.errors import BuildError, InvalidInputs
from app.engine.retry import Retry
from app.engine.state import State
from app.engine.typing import ActionSchema, DefaultSchema

__all__ = ["DEFAULT_SCHEMA", "Action", "Function", "Input", "Reducer", "Result", "SingleStepAction", "type_eraser"]

DEFAULT_SCHEMA = DefaultSchema()


class Function(abc.ABC):
    """The part of an action that computes: it reads the state and gives a result."""

    @property
    @abc.abstractmethod
    def reads(self) -> list[str]:
        """The keys of the state that it may see."""

    @abc.abstractmethod
    def run(self, state: State[Any], **run_kwargs: Any) -> Any:
        """Return the result, a dict. `state` shows the keys in `reads`; `run_kwargs` are the inputs."""

    @property
    def inputs(self) -> list[str] | tuple[list[str], list[str]]:
        """The names of the inputs: a list of required ones, or a tuple of required and optional ones."""
        return []

    @property
    def optional_and_required_inputs(self) -> tuple[set[str], set[str]]:
        """The required inputs and the optional ones, in this order."""
        inputs = self.inputs
        required, optional = inputs if isinstance(inputs, tuple) else (inputs, [])
        return set(required), set(optional)

    def validate_inputs(self, inputs: dict[str, Any] | None) -> None:
        """Raise InvalidInputs if an input is missing or not expected."""
        required, optional = self.optional_and_required_inputs
        given = set(inputs or ())
        missing, unexpected = required - given, given - required - optional
        if missing or unexpected:
            name = getattr(self, "name", None) or type(self).__name__
            raise InvalidInputs(name, missing=missing, unexpected=unexpected, accepted=required | optional)

    def is_async(self) -> bool:
        """Whether `run` is a coroutine function."""
        return inspect.iscoroutinefunction(self.run)


class Reducer(abc.ABC):
    """The part of an action that brings a result into the state."""

    @property
    @abc.abstractmethod
    def writes(self) -> list[str]:
        """The keys of the state that it writes, all of them, and no others."""

    @abc.abstractmethod
    def update(self, result: Any, state: State[Any]) -> State[Any]:
        """Return `state` after `result`. It shows the keys that the action reads or writes."""


class Action(Function, Reducer, abc.ABC):
    """A node of the graph. It has a name once it belongs to one.

    `timeout_s`, `retry` and `executor` are what a class or an object sets to have a time limit, to be tried again after an
    error, and to choose where a sync action runs.
    """

    timeout_s: float | None = None
    retry: Retry | None = None
    executor: str | None = None
    _name: str | None = None

    def __init__(self) -> None:
        self._name = None

    def with_name(self, name: str) -> Self:
        """Return a copy with the given name. Raises BuildError if the action has one."""
        if self._name is not None:
            raise BuildError(f"action {self._name!r} has a name already and cannot be named {name!r}")
        named = copy.copy(self)
        named._name = name
        return named

    @property
    def name(self) -> str:
        return self._name  # type: ignore[return-value]  # None until with_name; every action of a graph has a name

    @property
    def single_step(self) -> bool:
        """Whether one call gives both the result and the state."""
        return False

    @property
    def streaming(self) -> bool:
        """Whether the action gives items before its result."""
        return False

    @property
    def schema(self) -> ActionSchema[Any, Any, Any]:
        return DEFAULT_SCHEMA

    @property
    def tags(self) -> list[str]:
        """Other names, which several actions may share; `@tag:x` in a halt condition stands for all of them."""
        return []

    def get_source(self) -> str:
        """Return the source code of the action's class, or a sentence that says that there is none."""
        try:
            return inspect.getsource(type(self))
        except (OSError, TypeError):
            return "No source available"

    def input_schema(self) -> Any:
        """Return a type that describes the inputs, if the action has one."""
        return None

    def __repr__(self) -> str:
        return f"{self._name}: {', '.join(self.reads) or '{}'} -> {', '.join(self.writes) or '{}'}"


class SingleStepAction(Action, abc.ABC):
    """An action that computes and updates in one call."""

    @property
    def single_step(self) -> bool:
        return True

    @abc.abstractmethod
    def run_and_update(self, state: State[Any], /, **run_kwargs: Any) -> Any:
        """Return the new state, or a tuple of the result and the new state."""

    def run(self, state: State[Any], **run_kwargs: Any) -> Any:  # noqa: ARG002
        raise ValueError(f"action {self._name!r} computes and updates in one: call run_and_update")

    def update(self, result: Any, state: State[Any]) -> State[Any]:  # noqa: ARG002
        raise ValueError(f"action {self._name!r} computes and updates in one: call run_and_update")

    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.run_and_update)


class Result(Action):
    """Gives some fields of the state as its result and changes nothing."""

    def __init__(self, *fields: str) -> None:
        super().__init__()
        self._fields = fields

    @property
    def reads(self) -> list[str]:
        return list(self._fields)

    @property
    def writes(self) -> list[str]:
        return []

    def run(self, state: State[Any], **run_kwargs: Any) -> dict[str, Any]:  # noqa: ARG002
        return {key: value for key, value in state.get_all().items() if key in self._fields}

    def update(self, result: Any, state: State[Any]) -> State[Any]:  # noqa: ARG002
        return state


class Input(Action):
    """Takes some inputs and writes them into the state under the same names."""

    def __init__(self, *fields: str) -> None:
        super().__init__()
        self._fields = fields

    @property
    def reads(self) -> list[str]:
        return []

    @property
    def writes(self) -> list[str]:
        return list(self._fields)

    @property
    def inputs(self) -> list[str]:
        return list(self._fields)

    def run(self, state: State[Any], **run_kwargs: Any) -> dict[str, Any]:  # noqa: ARG002
        return {key: run_kwargs[key] for key in self._fields}

    def update(self, result: Any, state: State[Any]) -> State[Any]:
        return state.update(**result)


def type_eraser(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return `func` with a signature that takes anything, for `run` and its kin with named parameters.

    Without it a type checker objects to an override that names its inputs where the base has `**run_kwargs`. The kind of
    function (plain, coroutine, generator) and the signature seen by `inspect` stay as they are.
    """
    return func
