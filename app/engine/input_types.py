"""Whether inputs that came as JSON have the types that an action declares for them. Only a host asks: its clients are far away.

Looked at are annotations that JSON can satisfy as it is: numbers, texts, booleans, null, literals, and lists, objects and unions
of these. Inputs of other types, and those without one, are the action's own business. What is the parameter's default is right,
whatever the annotation says: `limit: int = None` takes null.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

__all__ = ["InputTypes", "input_types", "mistyped"]


@dataclass(frozen=True, slots=True)
class _Expected:
    adapter: TypeAdapter[Any]
    default: Any  # `inspect.Parameter.empty` if there is none


InputTypes: TypeAlias = Mapping[str, _Expected]

_PLAIN: Final = frozenset({int, float, str, bool, types.NoneType, list, dict, Any})
_OF_PLAIN: Final = frozenset({list, dict, Union, types.UnionType})
_STRICT: Final = ConfigDict(strict=True)  # a text is no number, whatever it looks like


def input_types(function: Callable[..., Any], names: frozenset[str]) -> InputTypes:
    """Return what to check the inputs `names` of `function` with; those that are not looked at are left out."""
    try:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
    except Exception:  # the border to the user's annotations: they may name what does not exist at run time
        return {}
    return {
        name: _Expected(TypeAdapter(hints[name], config=_STRICT), parameters[name].default)
        for name in names
        if name in hints and name in parameters and _is_plain(hints[name])
    }


def mistyped(expected: InputTypes, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return, for each input of a wrong type, what is wrong: where in it and what was expected, never the value."""
    found = {}
    for name in expected.keys() & inputs.keys():
        try:
            expected[name].adapter.validate_python(inputs[name])
        except ValidationError as exc:
            if _is_same(inputs[name], expected[name].default):
                continue
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            where = "".join(f"[{part!r}]" for part in first["loc"] if isinstance(part, int))
            found[name] = f"{where} {first['msg'].removeprefix('Input ')}".strip()
    return found


def _is_same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)  # true is not 1


def _is_plain(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is None:
        return annotation in _PLAIN
    if origin is Literal:
        return True
    if origin is Annotated:  # with limits of its own, perhaps
        return _is_plain(get_args(annotation)[0])
    return origin in _OF_PLAIN and all(_is_plain(each) for each in get_args(annotation))
