"""How a state is seen as a value of one type: the port that typed state goes through, and its plain form, a dict.

The pydantic form is in `app.engine.pydantic`. A typing system holds no state of its own.
"""

import abc
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from app.engine.actions import Action
    from app.engine.graph import Graph
    from app.engine.state import State

__all__ = ["ActionSchema", "DefaultSchema", "DictBasedTypingSystem", "TypingSystem"]

BaseType = TypeVar("BaseType", default=Any)
StateInputType = TypeVar("StateInputType")
StateOutputType = TypeVar("StateOutputType")
IntermediateResultType = TypeVar("IntermediateResultType")


class TypingSystem(abc.ABC, Generic[BaseType]):
    """Turns a state into a value of `BaseType` and back. The type must bear missing values: keys appear as actions write them."""

    @abc.abstractmethod
    def state_type(self) -> type[BaseType]:
        """Return the type of the state at any moment."""

    @abc.abstractmethod
    def state_pre_action_run_type(self, action: "Action", graph: "Graph") -> type[BaseType]:
        """Return the type of the state that `action` reads."""

    @abc.abstractmethod
    def state_post_action_run_type(self, action: "Action", graph: "Graph") -> type[BaseType]:
        """Return the type of the state that `action` leaves."""

    def validate_state(self, state: "State[Any]") -> None:  # a system that cannot judge accepts everything
        """Raise if `state` does not fit. Accepts everything unless overridden."""

    @abc.abstractmethod
    def construct_data(self, state: "State[BaseType]") -> BaseType:
        """Return `state` as a value of the type."""

    @abc.abstractmethod
    def construct_state(self, data: BaseType) -> "State[BaseType]":
        """Return the state that `data` stands for, with this typing system."""


class DictBasedTypingSystem(TypingSystem[dict[str, Any]]):
    """State as a plain dict: what an application has unless it asks for more."""

    def state_type(self) -> type[dict[str, Any]]:
        return dict

    def state_pre_action_run_type(self, action: "Action", graph: "Graph") -> type[dict[str, Any]]:  # noqa: ARG002
        return dict

    def state_post_action_run_type(self, action: "Action", graph: "Graph") -> type[dict[str, Any]]:  # noqa: ARG002
        return dict

    def construct_data(self, state: "State[dict[str, Any]]") -> dict[str, Any]:
        return state.get_all()

    def construct_state(self, data: dict[str, Any]) -> "State[dict[str, Any]]":
        from app.engine.state import State  # the state module needs this one first

        return State(data, typing_system=self)


class ActionSchema(abc.ABC, Generic[StateInputType, StateOutputType, IntermediateResultType]):
    """The types of an action: the state that it takes, the state that it leaves, and what it yields or returns beside."""

    @abc.abstractmethod
    def state_input_type(self) -> type[StateInputType]: ...

    @abc.abstractmethod
    def state_output_type(self) -> type[StateOutputType]: ...

    @abc.abstractmethod
    def intermediate_result_type(self) -> type[IntermediateResultType]: ...


class DefaultSchema(ActionSchema[Any, Any, Any]):
    """The schema of an action that names no types: states are states, results are dicts."""

    def state_input_type(self) -> type[Any]:
        from app.engine.state import State  # the state module needs this one first

        return State

    def state_output_type(self) -> type[Any]:
        from app.engine.state import State  # the state module needs this one first

        return State

    def intermediate_result_type(self) -> type[Any]:
        return dict
