"""The engine's serialisation: `encode` and `decode` for stores, and Burr's `serialize`, `deserialize` and their registries.

`encode`/`decode` are exact and refuse what they cannot restore. `serialize`/`deserialize` are what code written for Burr calls;
they use the same forms, and read what Burr wrote. Pickle and data frames register themselves from files of their own.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pydantic

from app.engine import serde_types as _standard_types  # noqa: F401  # importing it fills the table of kinds
from app.engine.errors import kind_of
from app.engine.serde_classes import class_at, path_of, permit_modules, refuse_classes_of_main, set_allowlist, with_colon
from app.engine.serde_codec import TAG, UndecodableValue, UnserializableValue, decode, decode_hosted, encode
from app.engine.serde_registry import (
    KEY,
    LossySerializationWarning,
    StringDispatch,
    deserializer,
    register_own,
    serialize,
    serialize_dict,
    serialize_list,
    serialize_primitive,
)
from app.engine.serde_unreadable import UnreadableValue, as_shown, decode_readable, first_unreadable, unreadable_keys

__all__ = [
    "FIELD_SERIALIZATION",
    "KEY",
    "TAG",
    "LossySerializationWarning",
    "StringDispatch",
    "UndecodableValue",
    "UnreadableValue",
    "UnserializableValue",
    "as_shown",
    "decode",
    "decode_hosted",
    "decode_readable",
    "deserialize",
    "deserialize_fields",
    "deserializer",
    "encode",
    "first_unreadable",
    "permit_modules",
    "refuse_classes_of_main",
    "register_field_serde",
    "serialize",
    "serialize_dict",
    "serialize_fields",
    "serialize_list",
    "serialize_primitive",
    "set_allowlist",
    "unreadable_keys",
]

FieldSerializer = Callable[..., dict[str, Any]]
FieldDeserializer = Callable[..., Any]

FIELD_SERIALIZATION: dict[str, tuple[FieldSerializer, FieldDeserializer]] = {}


def deserialize(value: Any, **kwargs: Any) -> Any:
    """Return what `serialize` was given. The keyword arguments reach every registered function.

    Raises ValueError for a name that nobody registered, UndecodableValue for a damaged value.
    """
    if isinstance(value, dict):
        if value.get(KEY) is not None:
            return deserializer.call(value[KEY], value, **kwargs)
        return decode(value) if TAG in value else {key: deserialize(item, **kwargs) for key, item in value.items()}
    return [deserialize(item, **kwargs) for item in value] if isinstance(value, list) else value


def register_field_serde(field_name: str, serializer: FieldSerializer, deserializer: FieldDeserializer) -> None:
    """Let these two functions write and read the state's key `field_name`, everywhere in the process.

    Both must take `**kwargs`; the serializer must return a dict. Raises ValueError otherwise.
    """
    for role, function in (("serializer", serializer), ("deserializer", deserializer)):
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
            raise ValueError(f"the {role} of field {field_name!r} must take **kwargs")
    FIELD_SERIALIZATION[field_name] = (serializer, deserializer)


def serialize_fields(values: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Return a state's values serialized, each by its field's function or by its type. Raises ValueError naming the field."""
    return {key: _serialize_field(key, value, kwargs) for key, value in values.items()}


def deserialize_fields(document: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Return the values that `serialize_fields` was given. Raises ValueError naming the field."""
    return {key: _deserialize_field(key, value, kwargs) for key, value in document.items()}


def _serialize_field(key: str, value: Any, kwargs: dict[str, Any]) -> Any:
    try:
        if key not in FIELD_SERIALIZATION:
            return serialize(value, **kwargs)
        document = FIELD_SERIALIZATION[key][0](value, **kwargs)
    except Exception as error:  # a user's function may raise anything; its message may hold the value
        kind = f"a value of type {type(value).__name__}"
        raise ValueError(f"state field {key!r}, {kind}, cannot be serialized: {type(error).__name__}") from error
    if not isinstance(document, dict):
        raise ValueError(f"the serializer of field {key!r} returned {kind_of(document)}, but must return a dict")
    return document


def _deserialize_field(key: str, document: Any, kwargs: dict[str, Any]) -> Any:
    try:
        if key in FIELD_SERIALIZATION:
            return FIELD_SERIALIZATION[key][1](document, **kwargs)
        return deserialize(document, **kwargs)
    except Exception as error:  # a user's function may raise anything; its message may hold the value
        raise ValueError(f"state field {key!r} cannot be deserialized: {type(error).__name__}") from error


def _serialize_model(value: pydantic.BaseModel, **kwargs: Any) -> dict[str, Any]:
    module, _, name = path_of(type(value)).partition(":")
    fields = {name: serialize(item, **kwargs) for name, item in value.model_dump().items()}
    return {**fields, KEY: "pydantic", "__pydantic_class": f"{module}.{name}"}


@deserializer.register("pydantic")
def _deserialize_model(value: Mapping[str, Any], allowlist: Iterable[str] | None = None, **kwargs: Any) -> pydantic.BaseModel:
    cls = class_at(with_colon(value["__pydantic_class"], allowlist), allowlist)
    if not issubclass(cls, pydantic.BaseModel):
        raise UndecodableValue(f"{value['__pydantic_class']!r} is no pydantic model")
    fields = {name: deserialize(item, **kwargs) for name, item in value.items() if name not in (KEY, "__pydantic_class")}
    return cls.model_validate(fields, by_name=True)


register_own(pydantic.BaseModel, _serialize_model)
