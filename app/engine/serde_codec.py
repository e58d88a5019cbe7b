"""Values to JSON and back, exactly: what goes in comes out, with its types.

JSON's own values stand for themselves; everything else is an object with the one key `$`, whose value is a list: the name of a
kind, then what that kind needs. A dict that has a `$` of its own is written as a list of pairs. This file holds the walk,
the JSON-like kinds and the table; other kinds are added by `serde_types` and `serde_classes`. It reads and writes no bytes.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from app.engine.errors import EngineError
from app.engine.serde_registry import KEY, deserializer, registered_serializer
from app.engine.working_copies import DICTS, LISTS

__all__ = [
    "MAX_DEPTH",
    "TAG",
    "TOO_DEEP",
    "UndecodableValue",
    "UnserializableValue",
    "decode",
    "decode_hosted",
    "define_class_kind",
    "define_document",
    "define_type",
    "encode",
    "encode_at",
    "encode_pairs",
    "encode_text",
    "is_standard_type",
    "is_unicode",
    "name_of_type",
]

TAG = "$"
MAX_DEPTH = 230
"""How many levels of JSON a stored value may have: a list or dict takes one, a tuple or set three, an object of a class four.

The JSON library stops at 254, and what is stored wraps values a few levels deep; Python's stack holds several times as many.
"""
TOO_DEEP = "it is nested too deeply, or contains itself"
_SHOWN_STEPS = 10  # of the path to a value, in a message
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

Encoder: TypeAlias = Callable[[Any, int], list[Any]]  # value, depth -> what follows the name of the kind
Decoder: TypeAlias = Callable[..., Any]  # what follows the name of the kind -> value


class UnserializableValue(EngineError, ValueError):
    """A value cannot be stored. `path` leads to it from where encoding began; `type_name` is its type. Never the value.

    `writer` is what wants it stored, if that is known: an action, say.
    """

    def __init__(
        self, type_name: str, reason: str = "its type is not known", path: tuple[str, ...] = (), writer: str = ""
    ) -> None:
        super().__init__(type_name, reason, path, writer)
        self.type_name = type_name
        self.reason = reason
        self.path = path
        self.writer = writer

    def under(self, step: str) -> "UnserializableValue":
        """Return the same error, one step further out."""
        return UnserializableValue(self.type_name, self.reason, (step, *self.path), self.writer)

    def of(self, writer: str) -> "UnserializableValue":
        """Return the same error, with what wants the value stored."""
        return UnserializableValue(self.type_name, self.reason, self.path, writer)

    def __str__(self) -> str:
        path = self.path if len(self.path) <= _SHOWN_STEPS else (*self.path[:_SHOWN_STEPS], "…")  # in a cycle it is long
        place = "".join(path) or "the value itself"
        writer = f"{self.writer} " if self.writer else ""
        return (
            f"{writer}cannot store {place}, a {self.type_name}: {self.reason}. Use JSON values, dataclasses, pydantic models, "
            "enums or the standard types for times, ids and numbers, or register the type with app.engine.serde"
        )


class UndecodableValue(EngineError, ValueError):
    """A stored value is damaged, or of a class or kind that is not known here. `type_name` is that class, if it is known."""

    def __init__(self, message: str, type_name: str | None = None) -> None:
        super().__init__(message)
        self.type_name = type_name


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    encode: Encoder


_NATIVE: dict[type, Callable[[Any, int], Any]] = {}
_TYPES: dict[type, _Kind] = {}
_CLASS_KINDS: list[tuple[Callable[[type], bool], _Kind]] = []
_KIND_OF_CLASS: WeakKeyDictionary[type, _Kind] = WeakKeyDictionary()
_DECODERS: dict[str, Decoder] = {}


def define_type(cls: type, name: str, encoder: Encoder, decoder: Decoder) -> None:
    """Say how values whose type is exactly `cls` are written, under the name `name`."""
    _TYPES[cls] = _Kind(name, encoder)
    _DECODERS[name] = decoder


def define_class_kind(matches: Callable[[type], bool], name: str, encoder: Encoder, decoder: Decoder) -> None:
    """Say how instances of every class for which `matches` holds are written. The first kind that matches is taken."""
    _CLASS_KINDS.append((matches, _Kind(name, encoder)))
    _DECODERS[name] = decoder


def define_document(cls: type, document_of: Callable[[Any], Any]) -> None:
    """Say that values whose type is exactly `cls` have a document already, and how to get it."""
    _NATIVE[cls] = lambda value, _: document_of(value)


def encode(value: Any) -> Any:
    """Return a document of JSON values for `value`; containers that are plain JSON already are returned as they are, not copied.

    The document holds nothing of a user's class, so the JSON library never looks at an object that it does not know.
    Raises UnserializableValue, also for what the value's own code raises.
    """
    try:
        return encode_at(value, 0)
    except UnserializableValue:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a value that changes meanwhile, or whose class has code of its own
        raise _raised_by(value, error) from None


def decode(document: Any) -> Any:
    """Return the value that `document` stands for; plain containers are returned as they are. Raises UndecodableValue."""
    kind = type(document)
    if kind is list:
        return _decode_list(document)
    if kind is dict:
        return _decode_tagged(document[TAG]) if TAG in document else _decode_dict(document)
    return document


def decode_hosted(document: Any) -> Any:
    """`decode` for a service, where a KeyboardInterrupt comes from the code of a class, never from a keyboard."""
    try:
        return decode(document)
    except KeyboardInterrupt as error:
        tagged = document.get(TAG) if isinstance(document, dict) else None
        raise _undecodable(tagged if isinstance(tagged, list) and tagged else ["value"], error) from None


def is_standard_type(cls: type) -> bool:
    """Whether values of this very class are written by a pair of functions of its own (`define_type`)."""
    return cls in _TYPES


def encode_at(value: Any, depth: int) -> Any:
    """`encode` for a part of a value, `depth` levels of JSON below the top."""
    native = _NATIVE.get(type(value))
    return native(value, depth) if native is not None else _encode_other(value, depth)


def encode_pairs(value: Mapping[Any, Any], depth: int) -> list[Any]:
    """Return the items of a dict as a list of encoded pairs, which stands `depth` levels of JSON below the top."""
    pairs = []
    for key, item in value.items():
        shown = repr(key) if isinstance(key, str | int | float) else f"<{type(key).__name__}>"
        try:
            pairs.append([encode_at(key, depth + 2), encode_at(item, depth + 2)])
        except UnserializableValue as error:
            raise error.under(f"[{shown}]") from None
    return pairs


def _encode_other(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _too_deep(value)
    cls = type(value)
    try:
        serializer = registered_serializer(cls)
        if serializer is not None:
            return _read_back(value, {TAG: ["registered", encode_at(serializer(value), depth + 2)]})
        kind = _TYPES.get(cls) or _kind_of_class(cls)
        return {TAG: [kind.name, *kind.encode(value, depth + 2)]}
    except UnserializableValue:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # here, so that the path to the value is told
        raise _raised_by(value, error) from None


def _read_back(value: Any, document: Any) -> Any:
    """Return `document` after reading it: whether functions of the user's bring a value back cannot be told from its type."""
    try:
        decode(document)
    except UndecodableValue as error:
        raise UnserializableValue(name_of_type(type(value)), f"it could not be read back: {error}") from None
    return document


def _kind_of_class(cls: type) -> _Kind:
    kind = _KIND_OF_CLASS.get(cls)
    if kind is None:
        kind = next((kind for matches, kind in _CLASS_KINDS if matches(cls)), None)
        if kind is None:
            raise UnserializableValue(name_of_type(cls))
        _KIND_OF_CLASS[cls] = kind
    return kind


def _encode_same(value: Any, _: int) -> Any:
    return value


def _encode_int(value: int, _: int) -> Any:
    return value if _INT_MIN <= value <= _INT_MAX else {TAG: ["int", hex(value)]}


def _encode_float(value: float, _: int) -> Any:
    return value if isfinite(value) else {TAG: ["float", str(value)]}


def encode_text(value: str, _: int = 0) -> Any:
    """Return the document of a str."""
    return value if is_unicode(value) else {TAG: ["str", base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()]}


def is_unicode(text: str) -> bool:
    """Whether JSON text can hold `text` as it is: it has no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no JSON text can hold
        return False
    return True


def _encode_list(value: list[Any], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _too_deep(value)
    changed: list[Any] | None = None
    index = 0
    try:
        for index, item in enumerate(value):  # read by the handler below
            native = _NATIVE.get(type(item))
            document = native(item, depth + 1) if native is not None else _encode_other(item, depth + 1)
            if document is not item:
                if changed is None:
                    changed = list(value)
                changed[index] = document
    except UnserializableValue as error:
        raise error.under(f"[{index}]") from None
    return value if changed is None else changed


def _encode_dict(value: dict[Any, Any], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _too_deep(value)
    if TAG in value:
        return {TAG: ["dict", encode_pairs(value, depth + 2)]}
    changed: dict[str, Any] | None = None
    key = None
    try:
        for key, item in value.items():
            if type(key) is not str or not (key.isascii() or is_unicode(key)):
                break
            native = _NATIVE.get(type(item))
            document = native(item, depth + 1) if native is not None else _encode_other(item, depth + 1)
            if document is not item:
                if changed is None:
                    changed = dict(value)
                changed[key] = document
        else:
            return value if changed is None else changed
    except UnserializableValue as error:
        raise error.under(f"[{key!r}]") from None
    return {TAG: ["dict", encode_pairs(value, depth + 2)]}  # a key that a JSON object cannot have


def _too_deep(value: Any) -> UnserializableValue:
    return UnserializableValue(type(value).__name__, TOO_DEEP)


def _raised_by(value: Any, error: BaseException) -> UnserializableValue:
    if isinstance(error, RecursionError):
        return _too_deep(value)
    # the class of the error, not its message: that may hold the value
    return UnserializableValue(name_of_type(type(value)), f"reading it raised {type(error).__name__}")


def name_of_type(cls: type) -> str:
    """Return the class's name with its module; a class may have odd ideas of both."""
    try:
        return f"{cls.__module__}.{cls.__qualname__}"
    except Exception:
        return "class without a name"


def _decode_list(document: list[Any]) -> Any:
    changed: list[Any] | None = None
    for index, item in enumerate(document):
        if type(item) is dict or type(item) is list:
            value = decode(item)
            if value is not item:
                if changed is None:
                    changed = list(document)
                changed[index] = value
    return document if changed is None else changed


def _decode_dict(document: dict[str, Any]) -> Any:
    changed: dict[str, Any] | None = None
    for key, item in document.items():
        if type(item) is dict or type(item) is list:
            value = decode(item)
            if value is not item:
                if changed is None:
                    changed = dict(document)
                changed[key] = value
    return document if changed is None else changed


def _decode_tagged(parts: Any) -> Any:
    name = parts[0] if isinstance(parts, list) and parts and isinstance(parts[0], str) else None
    decoder = _DECODERS.get(name) if name is not None else None
    if decoder is None:
        raise UndecodableValue(f"a stored value is of the unknown kind {name!r}")
    try:
        return decoder(*parts[1:])
    except UndecodableValue:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a class has code of its own, and importing one runs a module
        raise _undecodable(parts, error) from None  # the message of the cause may hold the value


def _undecodable(parts: list[Any], error: BaseException) -> UndecodableValue:
    named = _type_of(parts)
    of = f"value of the registered type {named!r}" if parts[0] == "registered" else f"{parts[0]} of class {named!r}"
    return UndecodableValue(f"a stored {of} cannot be read back ({type(error).__name__})", named)


def _type_of(parts: list[Any]) -> str:
    """Return what the value in a tagged document is: its class, the name of its deserializer, or its kind."""
    match parts:
        case ["registered", dict(document)] if isinstance(document.get(KEY), str):
            return str(document[KEY])
        case [_, str(path), *_] if ":" in path:
            return path.replace(":", ".")
    return str(parts[0])


def _decode_registered(document: Any) -> Any:
    value = decode(document)
    return deserializer.call(value[KEY], value) if isinstance(value, dict) and KEY in value else value


_NATIVE |= {
    type(None): _encode_same,
    bool: _encode_same,
    int: _encode_int,
    float: _encode_float,
    str: encode_text,
}
for _list_type in LISTS:
    _NATIVE[_list_type] = _encode_list
for _dict_type in DICTS:
    _NATIVE[_dict_type] = _encode_dict
_DECODERS |= {
    "int": lambda text: int(text, 16),
    "float": float,
    "str": lambda text: base64.b64decode(text).decode("utf-8", "surrogatepass"),
    "dict": lambda pairs: {decode(key): decode(value) for key, value in pairs},
    "registered": _decode_registered,
}
