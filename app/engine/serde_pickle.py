"""Pickle for the types that a user names, and for no others.

Reading a pickle runs code that its writer chose: whoever can write to the store can then run code here. Prefer dataclasses.
"""

import base64
import pickle
from collections.abc import Mapping
from typing import Any

from app.engine.errors import kind_of
from app.engine.serde_registry import KEY, deserializer, serialize

__all__ = ["register_type_to_pickle"]

_PICKLED: set[type] = set()


def register_type_to_pickle(cls: type) -> None:
    """Write values of `cls` and its subclasses as pickles. `pickle_kwargs` of `serialize` and `deserialize` reach pickle."""
    _PICKLED.add(cls)
    serialize.register(cls, _serialize_pickle)
    deserializer.register("pickle")(_deserialize_pickle)


def _serialize_pickle(value: Any, pickle_kwargs: Mapping[str, Any] | None = None, **_: Any) -> dict[str, Any]:
    return {KEY: "pickle", "value": base64.b64encode(pickle.dumps(value, **(pickle_kwargs or {}))).decode()}


def _deserialize_pickle(value: Mapping[str, Any], pickle_kwargs: Mapping[str, Any] | None = None, **_: Any) -> Any:
    stored = value["value"]  # Burr leaves bytes, which JSON cannot hold
    loaded = pickle.loads(base64.b64decode(stored) if isinstance(stored, str) else stored, **(pickle_kwargs or {}))  # noqa: S301
    if not isinstance(loaded, tuple(_PICKLED)):
        raise ValueError(f"a pickle held {kind_of(loaded)}, which is not registered with register_type_to_pickle")
    return loaded
