"""States as pydantic models, and back: whole ones for typed state, parts of them for the actions that use those.

Names and meaning as in Burr's pydantic integration. Which function becomes which action is in `app.engine.pydantic`.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional, TypeVar

import pydantic
from pydantic_core import PydanticUndefined

from app.engine.object_copies import copy_flat_model, copy_flat_models, copy_object
from app.engine.state import State
from app.engine.typing import TypingSystem
from app.engine.view import is_view
from app.engine.working_copies import DICTS, LISTS, SETS

if TYPE_CHECKING:
    from app.engine.actions import Action
    from app.engine.graph import Graph

__all__ = ["PydanticTypingSystem", "merge_to_state", "model_from_state", "model_to_dict", "subset_model"]

_MANY = 16

ModelType = TypeVar("ModelType", bound=pydantic.BaseModel)


def model_to_dict(model: pydantic.BaseModel, include: list[str] | None = None) -> dict[str, Any]:
    """Return the fields of `model`, or those in `include`, as a dict of the values themselves: nested models stay models."""
    return {name: getattr(model, name) for name in type(model).model_fields if include is None or name in include}


def subset_model(
    model: type[ModelType], fields: list[str], force_optional_fields: list[str], model_name_suffix: str
) -> type[ModelType]:
    """Return a model with some fields of `model`, named after it.

    `fields` are taken as they are. `force_optional_fields` are taken too, and may be missing: they are None then, unless they
    have a default of their own. Validators over several fields are not taken.
    """
    chosen: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if name in fields:
            chosen[name] = (info.annotation, info)
        elif name in force_optional_fields:
            chosen[name] = _optional(info)
    made: type[ModelType] = pydantic.create_model(model.__name__ + model_name_suffix, __config__=model.model_config, **chosen)
    return made


def _optional(info: Any) -> tuple[Any, Any]:
    if info.default_factory is not None or info.default is not PydanticUndefined:
        return info.annotation, info
    loose = copy.copy(info)
    loose.default = None
    loose.annotation = Optional[info.annotation]  # noqa: UP045  # an annotation made at run time
    return loose.annotation, loose


def merge_to_state(model: pydantic.BaseModel, write_keys: list[str], state: State[Any]) -> State[Any]:
    """Return `state` with those fields of `model` that are in `write_keys`."""
    return state.update(**model_to_dict(model, include=write_keys))


def model_from_state(model: type[ModelType], state: State[Any]) -> ModelType:
    """Return a `model` of the fields that `state` has. Raises pydantic.ValidationError if they do not fit or do not suffice."""
    present = set(state.keys())
    return model_from_values(model, {name: state[name] for name in model.model_fields if name in present})


def model_from_values(model: type[ModelType], values: Mapping[str, Any]) -> ModelType:
    """Return a validated `model` that shares no list, dict, set or model with `values`: an action may change it in place."""
    return model.model_validate({name: _unshared(value) for name, value in values.items()}, by_name=True)


def _unshared(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        if (copied := copy_flat_model(value)) is not None:
            return copied
        return value.model_copy(update={name: _unshared(item) for name, item in value.__dict__.items()})
    kind = type(value)
    if kind in LISTS:
        items: list[Any] = list.copy(value)
        copies = copy_flat_models(items) if len(items) >= _MANY else None
        return [_unshared(item) for item in items] if copies is None else copies
    if kind in DICTS:
        return {key: _unshared(item) for key, item in dict.items(value)}
    if kind in SETS:
        return set(value)
    if kind is tuple:
        return tuple(_unshared(item) for item in value)
    return copy_object(value)


class PydanticTypingSystem(TypingSystem[ModelType]):
    """Typed state: `state.data` is a `model_type`.

    Inside an action it has the fields that the action reads, and no others: asking for another one is an AttributeError.
    """

    def __init__(self, model_type: type[ModelType]) -> None:
        self.model_type = model_type

    def state_type(self) -> type[ModelType]:
        return self.model_type

    def state_pre_action_run_type(self, action: "Action", graph: "Graph") -> type[ModelType]:  # noqa: ARG002
        return subset_model(self.model_type, action.reads, _others(action.writes, action.reads), f"_before_{action.name}")

    def state_post_action_run_type(self, action: "Action", graph: "Graph") -> type[ModelType]:  # noqa: ARG002
        return subset_model(self.model_type, action.writes, _others(action.reads, action.writes), f"_after_{action.name}")

    def validate_state(self, state: State[Any]) -> None:
        """Raise pydantic.ValidationError if the state's values do not make a model."""
        model_from_state(self.model_type, state)

    def construct_data(self, state: State[ModelType]) -> ModelType:
        if not is_view(state):
            return model_from_state(self.model_type, state)
        part = model_from_state(subset_model(self.model_type, list(state), [], "_part"), state)
        data = self.model_type.__new__(self.model_type)
        data.__setstate__({**part.__getstate__(), "__pydantic_private__": None})
        return data

    def construct_state(self, data: ModelType) -> State[ModelType]:
        return State(model_to_dict(data), typing_system=self)


def _others(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    return [name for name in names if name not in set(taken)]
