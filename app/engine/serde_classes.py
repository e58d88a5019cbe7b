"""How instances of a user's classes are written: enums, dataclasses, pydantic models and named tuples.

A class is stored as the path under which it can be found again. Only those four kinds of class are ever taken from such a path,
and reading a value imports no module: its classes are looked for in those that are loaded, or in those that were when a service
started. An allowlist names modules instead, and these are imported if they have to be. An instance is restored field by field; no
constructor is called, and nothing else of the class but its defaults for fields that it gained since.
"""

import contextlib
import dataclasses
import enum
import functools
import importlib
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any
from weakref import WeakSet

import pydantic
from pydantic_core import PydanticUndefined

from app.engine.serde_codec import (
    TOO_DEEP,
    UndecodableValue,
    UnserializableValue,
    decode,
    define_class_kind,
    encode_at,
    is_unicode,
)

__all__ = [
    "class_at",
    "is_cache",
    "is_opaque",
    "is_plain_dataclass",
    "is_plain_named_tuple",
    "path_of",
    "permit_modules",
    "refuse_classes_of_main",
    "set_allowlist",
    "with_colon",
]

_allowlist: tuple[str, ...] | None = None
_opaque: WeakSet[type] = WeakSet()
_main_is_refused = False
_known: frozenset[str] | None = None
_importable: tuple[str, ...] = ()


def set_allowlist(allowlist: Iterable[str] | None) -> None:
    """Permit classes of these modules and their sub-modules only, when values are read back; they are imported if need be.

    None is the default: classes of modules that are loaded already, and no import.
    """
    global _allowlist  # one process, one policy
    _allowlist = None if allowlist is None else tuple(allowlist)


def permit_modules(importable: Iterable[str] | None = ()) -> None:
    """Without an allowlist, permit classes of modules that are loaded now, and of `importable` with their sub-modules.

    Values of other classes are neither read nor written from now on, so that the next process can read what this one writes.
    None returns to the default, by which every loaded module will do.
    """
    global _known, _importable  # one process, one policy
    _known = None if importable is None else frozenset(sys.modules)
    _importable = tuple(importable or ())


def refuse_classes_of_main() -> None:
    """Refuse values of classes of `__main__` from now on: the next process of a service runs another program there."""
    global _main_is_refused  # one process, one policy
    _main_is_refused = True


def path_of(cls: type) -> str:
    """Return `module:qualified.name` of a class. Raises UnserializableValue if another process could not find it there."""
    path = f"{cls.__module__}:{cls.__qualname__}"
    found = None
    with contextlib.suppress(UndecodableValue):
        found = _follow(path)
    if found is not cls:
        raise UnserializableValue(path.replace(":", "."), "its class cannot be imported again: define it at the top of a module")
    if not _is_lasting(cls.__module__):
        raise UnserializableValue(
            path.replace(":", "."),
            f"no other process can import its module {cls.__module__!r}: define it in a file that can be",
        )
    if _known is not None and not _is_permitted(cls.__module__, _allowlist):
        raise UnserializableValue(path.replace(":", "."), _refusal(_allowlist))
    return path


def _is_lasting(module_name: str) -> bool:
    """Whether a process that starts later has this module, too; not one that was made by hand, without a file."""
    if module_name == "__main__":
        return not _main_is_refused
    return getattr(sys.modules[module_name], "__spec__", None) is not None


def class_at(path: str, allowlist: Iterable[str] | None = None) -> type:
    """Return the class at `module:qualified.name`, which must be of a kind that is stored. Raises UndecodableValue."""
    permitted = _allowlist if allowlist is None else tuple(allowlist)
    if not _is_permitted(path.partition(":")[0], permitted):
        raise _gone(path, _refusal(permitted))
    found = _follow(path)
    kinds = _is_enum, _is_model, is_plain_dataclass, is_plain_named_tuple
    if isinstance(found, type) and any(is_of_kind(found) for is_of_kind in kinds):
        return found
    raise _gone(path, "which is no dataclass, pydantic model, enum or named tuple")


def with_colon(dotted: str, allowlist: Iterable[str] | None = None) -> str:
    """Return a path in Burr's form, dots only, in ours: the module is the longest beginning that is one, and is permitted."""
    permitted = _allowlist if allowlist is None else tuple(allowlist)
    names, bracket, arguments = dotted.partition("[")
    parts = names.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:count])
        if not _is_permitted(module, permitted):
            continue
        with contextlib.suppress(ImportError, ValueError):
            _module(module)
            return f"{module}:{'.'.join(parts[count:])}{bracket}{arguments}"
    raise UndecodableValue(f"a stored value is of class {dotted!r}, {_refusal(permitted)}")


def _refusal(allowlist: Iterable[str] | None) -> str:
    if allowlist is not None:
        return "whose module is not in the allowlist"
    if _known is None:
        return "whose module is not loaded: import it before, or name it with `set_allowlist`"
    howto = "import it at the top of the machine's file, or name it in STEPWELL_STATE_MODULES"
    return f"whose module was not loaded when the service started: {howto}"


def _is_permitted(module: str, allowlist: Iterable[str] | None) -> bool:
    """Whether classes of `module` may be read. Without an allowlist that takes no import, unless somebody has asked for it."""
    if allowlist is None and module in (sys.modules if _known is None else _known):
        return True
    return any(module == name or module.startswith(f"{name}.") for name in (_importable if allowlist is None else allowlist))


def _module(name: str) -> ModuleType:
    return sys.modules.get(name) or importlib.import_module(name)


def _follow(path: str) -> Any:
    module_name, _, qualified = path.partition(":")
    try:
        module = _module(module_name)
    except Exception:  # the border to the user's module
        raise _gone(path, "whose module cannot be imported") from None
    # a parametrized pydantic model has dots and brackets in one name, and stands in its module under all of it
    found = vars(module).get(qualified)
    if found is not None:
        return found
    # what stands in a module or a class is looked up; asking for attributes could run code, which may import something
    holder: Any = module
    for name in qualified.split("."):
        if holder is not module and not isinstance(holder, type):
            raise _gone(path, "which is not in a class any more")
        holder = vars(holder).get(name)
    if holder is None:
        raise _gone(path, "which does not exist any more")
    return holder


def _gone(path: str, why: str) -> UndecodableValue:
    return UndecodableValue(f"a stored value is of class {path!r}, {why}", path.replace(":", "."))


def _is_enum(cls: type) -> bool:
    return issubclass(cls, enum.Enum)


def _is_model(cls: type) -> bool:
    return issubclass(cls, pydantic.BaseModel)


def is_opaque(cls: type) -> bool:
    """Whether an instance of `cls` may be stored otherwise than field by field, or with other fields than it has now."""
    return cls in _opaque


def is_plain_dataclass(cls: type) -> bool:
    """Whether instances of `cls` are stored as dataclasses."""
    return dataclasses.is_dataclass(cls) and cls.__new__ is object.__new__


def is_plain_named_tuple(cls: type) -> bool:
    """Whether instances of `cls` are stored as named tuples."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple) and cls.__bases__ == (tuple,)


def _encode_fields(values: Mapping[str, Any], depth: int) -> dict[str, Any]:
    documents = {}
    for name, value in values.items():
        if type(name) is not str or not is_unicode(name):
            raise UnserializableValue(type(name).__name__, "the name of an attribute must be Unicode text")
        try:
            documents[name] = encode_at(value, depth + 1)
        except UnserializableValue as error:
            raise error.under(f".{name}") from None
    return documents


def _decode_fields(documents: Mapping[str, Any]) -> dict[str, Any]:
    return {name: decode(document) for name, document in documents.items()}


def _encode_enum(value: enum.Enum, depth: int) -> list[Any]:
    cls = type(value)
    path = path_of(cls)
    # a combination of flags has no name of its own
    return [path, value.name] if cls.__members__.get(value.name) is value else [path, None, encode_at(value.value, depth + 1)]


def _decode_enum(path: str, name: str | None, *value: Any) -> enum.Enum:
    cls = class_at(path)
    if not issubclass(cls, enum.Enum):
        raise _gone(path, "which is no enum any more")
    return cls[name] if name is not None else cls(decode(value[0]))


def _encode_dataclass(value: Any, depth: int) -> list[Any]:
    cls = type(value)
    fields = {}
    for field in dataclasses.fields(cls):
        try:
            fields[field.name] = getattr(value, field.name)
        except AttributeError:
            raise UnserializableValue(_dotted(cls), f"its field {field.name!r} has no value") from None
    extra = {name: item for name, item in getattr(value, "__dict__", {}).items() if not is_cache(cls, name)}
    return [path_of(cls), _encode_fields({**fields, **extra}, depth + 1)]


def is_cache(cls: type, name: str) -> bool:
    """Whether an attribute of an instance says nothing of its own, and is not stored.

    That is what a cached property has computed, and for what types a generic class was called.
    """
    return name == "__orig_class__" or isinstance(getattr(cls, name, None), functools.cached_property)


def _dotted(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _decode_dataclass(path: str, documents: Mapping[str, Any]) -> Any:
    cls = class_at(path)
    if not is_plain_dataclass(cls):
        raise _gone(path, "which is no dataclass any more")
    value: Any = object.__new__(cls)
    values = _decode_fields(documents)
    if {field.name for field in dataclasses.fields(cls)} - values.keys():
        _opaque.add(cls)
    for field in dataclasses.fields(cls):
        if field.name not in values and field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()  # a field that the class gained after the value was stored
        elif field.name not in values and field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.name not in values:
            raise _gone(path, f"which has a field {field.name!r} now that the value lacks")
    for name, item in values.items():
        with contextlib.suppress(AttributeError):  # a class with slots that lost this field
            object.__setattr__(value, name, item)
    return value


def _encode_model(value: pydantic.BaseModel, depth: int) -> list[Any]:
    cls = type(value)
    path = path_of(cls)
    fields = {name: item for name, item in value.__dict__.items() if name in cls.model_fields}
    if len(fields) != len(cls.model_fields):
        _require_defaults(cls, fields)
    try:
        documents = _encode_fields(fields, depth + 1)
    except UnserializableValue as error:
        if error.reason == TOO_DEEP:  # its JSON form is as deep, and would be made at every level
            raise
        document = _own_json(value)
        if document is None:
            raise
        _opaque.add(cls)
        return [path, {"json": encode_at(document, depth + 1)}]
    names = sorted(name for name in value.model_fields_set if type(name) is str and is_unicode(name))
    rest: dict[str, Any] = {"fields": documents} if names == sorted(fields) else {"fields": documents, "set": names}
    if value.__pydantic_extra__:
        rest["extra"] = _encode_fields(value.__pydantic_extra__, depth + 1)
    if value.__pydantic_private__:
        rest["private"] = _encode_fields(value.__pydantic_private__, depth + 1)
    return [path, rest]


def _require_defaults(cls: type[pydantic.BaseModel], fields: Mapping[str, Any]) -> None:
    """Raise UnserializableValue for a model that lacks a field, unless the class fills it in when the model is read back."""
    try:
        cls.model_validate(fields, by_name=True)
    except Exception:  # the border to the user's validators
        missing = next(name for name in cls.model_fields if name not in fields)
        raise UnserializableValue(_dotted(cls), f"its field {missing!r} has no value") from None


def _own_json(value: pydantic.BaseModel) -> Any:
    """Return the model's own JSON form, if that brings back an equal model: it knows fields that the codec does not."""
    try:
        document = value.model_dump(mode="json", round_trip=True)
        return document if type(value).model_validate(document, by_name=True) == value else None
    except (ValueError, TypeError):
        return None


def _decode_model(path: str, parts: Mapping[str, Any]) -> pydantic.BaseModel:
    cls = class_at(path)
    if not issubclass(cls, pydantic.BaseModel):
        raise _gone(path, "which is no pydantic model any more")
    if "json" in parts:
        _opaque.add(cls)
        return cls.model_validate(decode(parts["json"]), by_name=True)
    values = _decode_fields(parts["fields"])
    if values.keys() != cls.model_fields.keys():  # the class has changed since: let it judge, and fill in its defaults
        _opaque.add(cls)
        try:
            return cls.model_validate(values, by_name=True)
        except pydantic.ValidationError as error:
            where = ", ".join(sorted({repr(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]}))
            raise _gone(path, f"whose fields have changed since: {where or 'the whole'} does not fit") from None
    model = cls.__new__(cls)
    model.__setstate__(
        {
            "__dict__": values,
            "__pydantic_fields_set__": set(parts.get("set", values)),
            "__pydantic_extra__": _decode_fields(parts.get("extra", {})) if cls.model_config.get("extra") == "allow" else None,
            "__pydantic_private__": _decode_fields(parts["private"]) if "private" in parts else _fresh_private(cls),
        }
    )
    return model


def _fresh_private(cls: type[pydantic.BaseModel]) -> dict[str, Any] | None:
    defaults = {name: attribute.get_default() for name, attribute in cls.__private_attributes__.items()}
    return {name: value for name, value in defaults.items() if value is not PydanticUndefined} if defaults else None


def _encode_named_tuple(value: Any, depth: int) -> list[Any]:
    return [path_of(type(value)), _encode_fields(dict(zip(value._fields, value, strict=True)), depth + 1)]


def _decode_named_tuple(path: str, documents: Mapping[str, Any]) -> Any:
    cls: Any = class_at(path)
    if not is_plain_named_tuple(cls):
        raise _gone(path, "which is no named tuple any more")
    values = {**cls._field_defaults, **_decode_fields(documents)}
    if values.keys() != documents.keys():
        _opaque.add(cls)
    return tuple.__new__(cls, [values[name] for name in cls._fields])


define_class_kind(_is_enum, "enum", _encode_enum, _decode_enum)
define_class_kind(_is_model, "model", _encode_model, _decode_model)
define_class_kind(is_plain_dataclass, "dataclass", _encode_dataclass, _decode_dataclass)
define_class_kind(is_plain_named_tuple, "namedtuple", _encode_named_tuple, _decode_named_tuple)
