"""Types that a user teaches the engine to write: Burr's registry, `serialize` by type and `deserializer` by name.

Here are the tables and the treatment of JSON's own values; `serde_codec` asks `registered_serializer` before it looks at a
type itself. Reading back is in `serde`.
"""

import importlib
import warnings
from collections.abc import Callable
from enum import Enum
from functools import singledispatch
from typing import Any, TypeVar

from app.engine.errors import kind_of
from app.engine.working_copies import DICTS

__all__ = [
    "KEY",
    "LossySerializationWarning",
    "StringDispatch",
    "deserializer",
    "register_own",
    "registered_serializer",
    "serialize",
    "serialize_dict",
    "serialize_list",
    "serialize_primitive",
]

KEY = "__burr_serde__"  # as in Burr, so that what it wrote can be read
_EXTENSIONS = {"pandas": "app.engine.serde_pandas"}  # package -> who registers its types; looked at when one is met
_Function = TypeVar("_Function", bound=Callable[..., Any])


class LossySerializationWarning(UserWarning):
    """`serialize` met a type that nobody registered, and kept only its text."""


class StringDispatch:
    """Functions by name: how the deserializer of a stored value is found."""

    def __init__(self) -> None:
        self.func_map: dict[str, Callable[..., Any]] = {}

    def register(self, key: str) -> Callable[[_Function], _Function]:
        """Return a decorator that makes a function the one for `key`."""

        def decorate(function: _Function) -> _Function:
            self.func_map[key] = function
            return function

        return decorate

    def call(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Call the function for `key`. Raises ValueError when there is none."""
        if key not in self.func_map:
            _load_extension(key)
        if key not in self.func_map:
            known = ", ".join(sorted(self.func_map)) or "none"
            raise ValueError(f"no deserializer is registered for {key!r}; registered: {known}. Import the module that does it")
        return self.func_map[key](*args, **kwargs)


deserializer = StringDispatch()


@singledispatch
def serialize(value: Any, **kwargs: Any) -> Any:
    """Return `value` as values that the `json` module can write, as `deserialize` reads them.

    `serialize.register(cls)` teaches it a type: the function returns a dict with its own name under `KEY`. The keyword arguments
    reach every registered function. An unknown type is reduced to its text, with a LossySerializationWarning.
    """
    from app.engine.serde_codec import UnserializableValue, encode  # the codec asks this registry first

    if _load_extension(type(value).__module__):
        return serialize(value, **kwargs)
    try:
        return encode(value)
    except UnserializableValue as error:
        kept = f"only its text is kept: {error.type_name} is not known to app.engine.serde"
        warnings.warn(f"serialize met {kind_of(value)}; {kept}", LossySerializationWarning, stacklevel=3)
        return str(value)


@serialize.register(str)
@serialize.register(int)
@serialize.register(float)
@serialize.register(bool)
def serialize_primitive(value: Any, **kwargs: Any) -> Any:
    """Return a JSON scalar as it is, and an enum that is also a number or a text as an enum."""
    return _serialize_unknown(value, **kwargs) if isinstance(value, Enum) else value


@serialize.register(dict)
def serialize_dict(value: dict[Any, Any], **kwargs: Any) -> dict[str, Any]:
    """Return a dict with its values serialized; one that JSON cannot hold as it is, tagged."""
    from app.engine.serde_codec import TAG, encode_pairs  # the codec asks this registry first

    if type(value) in DICTS and KEY in value:  # a user's own, which must not be taken for the name of a deserializer
        return {TAG: ["dict", encode_pairs(value, 0)]}
    if type(value) in DICTS and TAG not in value and all(type(key) is str for key in value):
        return {key: serialize(item, **kwargs) for key, item in value.items()}
    tagged: dict[str, Any] = _serialize_unknown(value, **kwargs)
    return tagged


@serialize.register(list)
def serialize_list(value: list[Any], **kwargs: Any) -> list[Any]:
    """Return a list with its items serialized."""
    return [serialize(item, **kwargs) for item in value]


_serialize_unknown = serialize.dispatch(object)
_ours: set[Callable[..., Any]] = {_serialize_unknown, serialize_primitive, serialize_dict, serialize_list}


def register_own(cls: type, function: Callable[..., Any]) -> None:
    """Teach `serialize` a type which the codec knows by itself and better."""
    _ours.add(serialize.register(cls, function))


def registered_serializer(cls: type) -> Callable[..., Any] | None:
    """Return the function that a user registered for `cls` or a base of it, or None."""
    if _load_extension(cls.__module__):
        return registered_serializer(cls)
    function = serialize.dispatch(cls)
    return None if function in _ours else function


def _load_extension(name: str) -> bool:
    """Import what knows the types of a package, or the stored name of one. Returns whether that is news."""
    extension = _EXTENSIONS.pop(name.partition(".")[0], None)
    if extension is None:
        return False
    importlib.import_module(extension)
    return True
