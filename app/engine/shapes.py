"""Which values can be compared part by part, and what their parts are. Only types that the codec stores part by part are here.

Equality is that of what is stored: of type and content, in order. An `__eq__` or `__hash__` of a user's class is never called.
"""

import dataclasses
import enum
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import pydantic

from app.engine.frozen import frozen
from app.engine.frozen_values import PLAIN
from app.engine.serde_classes import is_cache, is_opaque, is_plain_dataclass, is_plain_named_tuple
from app.engine.serde_codec import UnserializableValue, encode, is_standard_type
from app.engine.serde_registry import registered_serializer

__all__ = ["Shape", "Shapes", "plain_type", "same_key"]

_MAX_DEPTH = 60

Kind: TypeAlias = Literal["scalar", "float", "text", "items", "members", "pairs", "fields", "model", "document"]


@frozen
class Shape:
    """How values of one class are compared. `parts` gives what they consist of.

    `rest` gives all else that is stored of them, as values that are compared, too; None if that is nothing.
    """

    kind: Kind
    parts: Callable[[Any], Any]
    rest: Callable[[Any], Any] | None


def _itself(value: Any) -> Any:
    return value


def _shape(kind: Kind, parts: Callable[[Any], Any] = _itself, rest: Callable[[Any], Any] | None = None) -> Shape:
    return Shape(kind, parts, rest)


_SCALAR: Final = _shape("scalar")
_DOCUMENT: Final = _shape("document")
_KNOWN: Final[dict[type, Shape]] = {
    type(None): _SCALAR,
    bool: _SCALAR,
    int: _SCALAR,
    bytes: _SCALAR,
    float: _shape("float"),
    str: _shape("text"),
    list: _shape("items"),
    tuple: _shape("items"),
    deque: _shape("items", list, lambda value: value.maxlen),
    set: _shape("members"),
    frozenset: _shape("members"),
    dict: _shape("pairs"),
    OrderedDict: _shape("pairs"),
    Counter: _shape("pairs"),
    # the factory is a built-in type, or the value is not stored
    defaultdict: _shape("pairs", rest=lambda value: str(value.default_factory)),
}
_HASHED_BY_VALUE: Final = frozenset({str, int, bool, float, bytes, type(None)})


def plain_type(value: Any) -> type:
    """Return the type of a value as it is stored."""
    cls = type(value)
    return PLAIN.get(cls, cls)


class Shapes:
    """The shapes of the classes that one comparison meets: what a class is may change from one comparison to the next."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[type, Shape | None] = {}

    def common(self, old: Any, new: Any) -> Shape | None:
        """Return the shape of both values, None if they are of two types, or of one that cannot be looked into."""
        cls = plain_type(new)
        if plain_type(old) is not cls:
            return None
        shape = _KNOWN.get(cls)
        if shape is None:
            if cls not in self._found:
                self._found[cls] = _shape_of_class(cls)
            shape = self._found[cls]
        elif shape.kind == "members":
            return shape if all(type(member) in _HASHED_BY_VALUE for values in (old, new) for member in values) else None
        return shape

    def same(self, old: Any, new: Any, depth: int = 0) -> bool:
        """Whether both are stored as the same. False for what cannot be looked into, unless it is the same object."""
        if old is new:
            return True
        cls = plain_type(new)
        if plain_type(old) is not cls:
            return False
        if cls is str:
            return bool(old == new)
        if cls is dict and depth <= _MAX_DEPTH:
            return self._same_pairs(old, new, depth)
        shape = self.common(old, new)
        if shape is None or depth > _MAX_DEPTH:
            return False
        match shape.kind:
            case "text" | "scalar":
                return bool(old == new)
            case "float":
                return float.hex(old) == float.hex(new)  # nan is nan, and -0.0 is not 0.0
            case "items":
                return self.same_rest(shape, old, new, depth) and self._same_items(shape.parts(old), shape.parts(new), depth)
            case "members":
                return len(old) == len(new) and {(type(one), one) for one in old} == {(type(one), one) for one in new}
            case "pairs":
                return self.same_rest(shape, old, new, depth) and self._same_pairs(old, new, depth)
            case "fields":
                return self._same_pairs(shape.parts(old), shape.parts(new), depth) and self.same_rest(shape, old, new, depth)
            case "model":
                return self._same_models(shape, old, new, depth)
            case "document":
                return self._same_documents(old, new, depth)

    def same_rest(self, shape: Shape, old: Any, new: Any, depth: int = 0) -> bool:
        """Whether all is the same that is stored of two values of this shape beside their parts."""
        rest = shape.rest
        return rest is None or self.same(rest(old), rest(new), depth + 1)

    def _same_items(self, old: Sequence[Any], new: Sequence[Any], depth: int) -> bool:
        if len(old) != len(new):
            return False
        same = self.same
        return all(one is other or same(one, other, depth + 1) for one, other in zip(old, new, strict=True))

    def _same_pairs(self, old: Mapping[Any, Any], new: Mapping[Any, Any], depth: int) -> bool:
        if len(old) != len(new):
            return False
        same = self.same
        for (key, one), (other_key, other) in zip(old.items(), new.items(), strict=True):
            if key is not other_key and not same_key(key, other_key, self):
                return False
            if one is not other and not (type(one) is type(other) is str and one == other) and not same(one, other, depth + 1):
                return False
        return True

    def _same_models(self, shape: Shape, old: pydantic.BaseModel, new: pydantic.BaseModel, depth: int) -> bool:
        if old.__pydantic_extra__ or old.__pydantic_private__ or new.__pydantic_extra__ or new.__pydantic_private__:
            return self.same_rest(shape, old, new, depth) and self._same_pairs(shape.parts(old), shape.parts(new), depth)
        # what is in an instance beside its fields, a cached property, is the same or does no harm
        return old.__pydantic_fields_set__ == new.__pydantic_fields_set__ and self._same_pairs(old.__dict__, new.__dict__, depth)

    def _same_documents(self, old: Any, new: Any, depth: int) -> bool:
        try:
            return self.same(encode(old), encode(new), depth + 1)
        except UnserializableValue:
            return False


def same_key(old: Any, new: Any, shapes: Shapes) -> bool:
    """Whether two keys of dicts are stored as the same."""
    return old is new or (type(old) is type(new) and shapes.same(old, new))


def _shape_of_class(cls: type) -> Shape | None:
    if registered_serializer(cls) is not None:
        return None
    if is_standard_type(cls) or issubclass(cls, enum.Enum):
        return _DOCUMENT
    if is_opaque(cls):
        return None
    if issubclass(cls, pydantic.BaseModel):
        return _model_shape(cls)
    if is_plain_dataclass(cls):
        return _dataclass_shape(cls)
    if is_plain_named_tuple(cls):
        return _shape("fields", lambda value: dict(zip(cls._fields, value, strict=True)))  # type: ignore[attr-defined]
    return None


def _model_shape(cls: type[pydantic.BaseModel]) -> Shape:
    names = cls.model_fields

    def fields(value: pydantic.BaseModel) -> dict[str, Any]:
        own = value.__dict__
        return own if own.keys() == names.keys() else {name: item for name, item in own.items() if name in names}

    def rest(value: pydantic.BaseModel) -> Any:
        return [value.__pydantic_fields_set__, value.__pydantic_extra__ or None, value.__pydantic_private__ or None]

    return _shape("model", fields, rest)


def _dataclass_shape(cls: type) -> Shape:
    names = [field.name for field in dataclasses.fields(cls)]

    def fields(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in names if hasattr(value, name)}

    def rest(value: Any) -> Any:
        attributes = getattr(value, "__dict__", {})
        return {name: item for name, item in attributes.items() if name not in names and not is_cache(cls, name)}

    return _shape("fields", fields, rest)
