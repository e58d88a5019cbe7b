"""Whether inputs that came as JSON have the types that an action declares for them. Only a host asks: its clients are far away.

Looked at are annotations that JSON can satisfy as it is: numbers, texts, booleans, null, literals, and lists, objects and unions
of these. Inputs of other types, and those without one, are the action's own business.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

__all__ = ["InputTypes", "input_types", "mistyped"]

InputTypes: TypeAlias = Mapping[str, TypeAdapter[Any]]

_PLAIN: Final = frozenset({int, float, str, bool, types.NoneType, list, dict, Any})
_OF_PLAIN: Final = frozenset({list, dict, Union, types.UnionType})
_STRICT: Final = ConfigDict(strict=True)  # a text is no number, whatever it looks like


def input_types(function: Callable[..., Any], names: frozenset[str]) -> InputTypes:
    """Return what to check the inputs `names` of `function` with; those that are not looked at are left out."""
    try:
        hints = get_type_hints(function)
    except Exception:  # the border to the user's annotations: they may name what does not exist at run time
        return {}
    return {name: TypeAdapter(hints[name], config=_STRICT) for name in names if name in hints and _is_plain(hints[name])}


def mistyped(expected: InputTypes, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return, for each input of a wrong type, what is wrong: where in it and what was expected, never the value."""
    found = {}
    for name in expected.keys() & inputs.keys():
        try:
            expected[name].validate_python(inputs[name])
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            where = "".join(f"[{part!r}]" for part in first["loc"] if isinstance(part, int))
            found[name] = f"{where} {first['msg'].removeprefix('Input ')}".strip()
    return found


def _is_plain(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is None:
        return annotation in _PLAIN
    if origin is Literal:
        return True
    return origin in _OF_PLAIN and all(_is_plain(each) for each in get_args(annotation))
