"""Whether values that came as JSON from outside fit a machine's typed state. Only a host asks, as with `input_types`.

A machine has types for its state if it was built with a pydantic typing system, and for the keys that its pydantic actions name.
A value must be what the type says, as JSON has it: a text is no number, whatever it looks like, but a date is a text.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from app.engine.pydantic_models import subset_model

if TYPE_CHECKING:
    from app.engine.actions import Action
    from app.engine.typing import TypingSystem

__all__ = ["StateTypes"]

Model = type[BaseModel]


class StateTypes:
    """What is known of the types of one machine's state. `keys` are those that it may have, None for any."""

    __slots__ = ("_models", "keys")

    def __init__(self, typing_system: "TypingSystem[Any]", actions: Iterable["Action"], default_keys: Iterable[str]) -> None:
        whole, actions = typing_system.state_type(), list(actions)
        parts = [model for action in actions for model in _models_of(action)]
        is_whole = _is_model(whole)
        self._models: list[Model] = [whole, *parts] if is_whole else parts
        is_closed = whole.model_config.get("extra") != "allow" if is_whole else all(map(_models_of, actions))
        declared = {key for action in actions for key in (*action.reads, *action.writes)}
        fields = {key for model in self._models for key in model.model_fields}
        self.keys = frozenset({*declared, *fields, *default_keys}) if self._models and is_closed else None

    def wrong(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return, for each key that does not fit, what is wrong: where in its value and what was expected, never the value."""
        found: dict[str, str] = {}
        for key, value in values.items():
            if self.keys is not None and key not in self.keys:
                found[key] = f"is no key of this machine's state; it has {sorted(self.keys)}"
            else:
                # the whole state is the type of a key; an action has a type of its own for keys that the whole does not know
                model = next((each for each in self._models if key in each.model_fields), None)
                problem = None if model is None else _problem(model, key, value)
                if problem is not None:
                    found[key] = problem
        return found


def _models_of(action: "Action") -> list[Model]:
    model = action.schema.state_input_type()
    return [model] if _is_model(model) else []


def _is_model(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)


def _problem(model: Model, key: str, value: Any) -> str | None:
    default = model.model_fields[key].default
    if default is not PydanticUndefined and type(value) is type(default) and bool(value == default):
        return None  # whatever the annotation says: `name: str = None` may be null
    try:
        _validate(_field_alone(model, key), {key: value})
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = "".join(f"[{part!r}]" for part in first["loc"][1:])
        return f"{where} {first['msg'].removeprefix('Input ')}".strip()
    except Exception as exc:  # the border to the user's validators
        return f"cannot be checked: its validator raised {type(exc).__name__}"
    return None


def _validate(model: Model, values: dict[str, Any]) -> None:
    try:
        text = json.dumps(values)
    except (TypeError, ValueError):  # values that a caller in this process has made
        model.model_validate(values, strict=True, by_alias=False, by_name=True)
    else:
        model.model_validate_json(text, strict=True, by_alias=False, by_name=True)


@lru_cache(maxsize=1024)
def _field_alone(model: Model, key: str) -> Model:
    return subset_model(model, [key], [], f"_{key}")
