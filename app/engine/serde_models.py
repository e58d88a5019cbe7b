"""What clients see of a pydantic model: what its own serialisation gives, and what that would hide.

Serializers, aliases, excluded and computed fields are those of the model. But pydantic writes a value by the type that its field
declares: fields that a subclass adds are left out, and bytes that are no UTF-8 are an error. Such fields are given as they are.
"""

import datetime
import decimal
import uuid
from types import NoneType
from typing import Any
from weakref import WeakKeyDictionary

import pydantic

__all__ = ["dumped_fields"]

_FUNCTIONS = ("function-plain", "function-wrap")
# what pydantic writes right by itself, in the form that the model's JSON schema describes
_LEAVES = frozenset(
    {
        NoneType,
        bool,
        int,
        float,
        str,
        bytes,
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    }
)
_WITHHELD = "<withheld>"

_custom: WeakKeyDictionary[type, frozenset[str] | None] = WeakKeyDictionary()


def dumped_fields(value: pydantic.BaseModel) -> Any:
    """Return a dict of names as clients see them and values, or whatever the model's own serializer gives in its place.

    The values may be of any class. Raises what the model's own code raises.
    """
    cls = type(value)
    custom = _custom_fields(cls)
    if custom is None:
        return _dump(value)
    fields, set_values = cls.model_fields, value.__dict__
    extra = value.__pydantic_extra__ or {}
    given = {
        name: item
        for name, item in (*set_values.items(), *extra.items())
        if name not in custom and (name in fields or name in extra) and type(item) not in _LEAVES
    }
    if issubclass(cls, pydantic.RootModel):
        return given["root"] if "root" in given else _dump(value)
    dumped = _dump_without(value, set(given), custom)
    shown: dict[str, Any] = {}
    for name in (*fields, *extra):
        field = fields.get(name)
        alias = name if field is None else field.serialization_alias or name
        if name in given:
            if field is None or not _is_excluded(field, given[name]):
                shown[alias] = given[name]
        elif alias in dumped:
            shown[alias] = dumped[alias]
    return shown | {name: item for name, item in dumped.items() if name not in shown}


def _dump(value: pydantic.BaseModel, **options: Any) -> Any:
    # the document of a model is not checked against its types: what a machine put there is shown
    return value.model_dump(mode="json", by_alias=True, warnings="none", **options)


def _dump_without(value: pydantic.BaseModel, names: set[str], custom: frozenset[str]) -> dict[str, Any]:
    """Return the fields but `names`; one whose own serializer fails is withheld: it may be there to hide something."""
    try:
        dumped: dict[str, Any] = _dump(value, exclude=names)
    except KeyboardInterrupt:
        raise
    except BaseException:  # pydantic's own panics are no Exception
        dumped = {}
        cls = type(value)
        for name, field in (*cls.model_fields.items(), *cls.model_computed_fields.items()):
            if name not in names:
                try:
                    dumped |= _dump(value, include={name})
                except KeyboardInterrupt:
                    raise
                except BaseException:
                    alias = getattr(field, "serialization_alias", None) or getattr(field, "alias", None) or name
                    is_hidden = name in custom or name not in value.__dict__
                    dumped[alias] = _WITHHELD if is_hidden else value.__dict__[name]
    return dumped


def _is_excluded(field: Any, item: Any) -> bool:
    decides = getattr(field, "exclude_if", None)
    return field.exclude is True or (decides is not None and bool(decides(item)))


def _custom_fields(cls: type[pydantic.BaseModel]) -> frozenset[str] | None:
    """Return the fields that have serializers of their own, somewhere; None if the whole model has one."""
    if cls not in _custom:
        _custom[cls] = _found_custom_fields(cls)
    return _custom[cls]


def _found_custom_fields(cls: type[pydantic.BaseModel]) -> frozenset[str] | None:
    schema: Any = cls.__pydantic_core_schema__
    definitions: dict[str, Any] = {}
    while isinstance(schema, dict) and schema.get("type") != "model":
        if schema.get("type") == "definitions":
            definitions = {each["ref"]: each for each in schema["definitions"]}
        if "serialization" in schema:
            return None
        reference = schema.get("schema_ref")
        schema = definitions.get(reference) if reference is not None else schema.get("schema")
    if not isinstance(schema, dict) or schema.get("cls") is not cls or "serialization" in schema:
        return None
    inner: Any = schema["schema"]
    while inner.get("type") not in ("model-fields", None):
        if issubclass(cls, pydantic.RootModel):
            break
        if "serialization" in inner:
            return None
        inner = inner.get("schema", {})
    if issubclass(cls, pydantic.RootModel):
        return None if _has_function(inner, definitions, set()) else frozenset()
    if "serialization" in inner:
        return None
    fields = inner.get("fields", {})
    return frozenset(name for name, field in fields.items() if _has_function(field, definitions, set()))


def _has_function(part: Any, definitions: dict[str, Any], seen: set[str]) -> bool:
    """Whether a function serializes something within this part of a schema; models and dataclasses in it are asked themselves."""
    if isinstance(part, dict):
        serialization = part.get("serialization")
        if isinstance(serialization, dict) and serialization.get("type") in _FUNCTIONS:
            return True
        if part.get("type") in ("model", "dataclass"):
            return False
        reference = part.get("schema_ref")
        if isinstance(reference, str):
            if reference in seen:
                return False
            seen.add(reference)
            return _has_function(definitions.get(reference), definitions, seen)
        return any(_has_function(each, definitions, seen) for name, each in part.items() if name not in ("metadata", "default"))
    if isinstance(part, list | tuple):
        return any(_has_function(each, definitions, seen) for each in part)
    return False
