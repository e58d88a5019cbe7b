"""Changes of several keys at once, under the names that Burr gives them. `State.apply_operation` takes them.

The engine itself works with `app.engine.operations`; these are for code that was written against Burr's.
"""

import abc
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from app.engine.operations import Append, Delete, Extend, Increment, Operation, Set

__all__ = ["AppendFields", "DeleteField", "ExtendFields", "IncrementFields", "SetFields", "StateDelta"]


class StateDelta(abc.ABC):
    """A change of a state as a value that can be written down."""

    @classmethod
    @abc.abstractmethod
    def name(cls) -> str:
        """Return the name under which the change is written down."""

    @abc.abstractmethod
    def operations(self) -> list[Operation]:
        """Return the change as operations, one per key."""

    @abc.abstractmethod
    def reads(self) -> list[str]:
        """Return the keys that the change looks at."""

    @abc.abstractmethod
    def writes(self) -> list[str]:
        """Return the keys that have a value afterwards."""

    def serialize(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]  # every delta is a dataclass

    def base_serialize(self) -> dict[str, Any]:
        """Return the change with its name."""
        return {"name": self.name(), "operation": self.serialize()}

    @classmethod
    def deserialize(cls, json_dict: dict[str, Any]) -> Self:
        return cls(**json_dict)

    def base_deserialize(self, json_dict: dict[str, Any]) -> Self:
        return self.deserialize(json_dict)

    def validate(self, input_state: dict[str, Any]) -> None:
        """Raise OperationError if the change does not fit `input_state`."""
        self.apply_mutate(dict(input_state))

    def apply_mutate(self, inputs: MutableMapping[str, Any]) -> None:
        """Carry the change out on `inputs`, in place."""
        for operation in self.operations():
            operation.apply(inputs)


@dataclass
class _FieldsDelta(StateDelta):
    values: Mapping[str, Any]

    def reads(self) -> list[str]:
        return list(self.values)

    def writes(self) -> list[str]:
        return list(self.values)


@dataclass
class SetFields(_FieldsDelta):
    @classmethod
    def name(cls) -> str:
        return "set"

    def operations(self) -> list[Operation]:
        return [Set(key, value) for key, value in self.values.items()]


@dataclass
class AppendFields(_FieldsDelta):
    @classmethod
    def name(cls) -> str:
        return "append"

    def operations(self) -> list[Operation]:
        return [Append(key, value) for key, value in self.values.items()]


@dataclass
class ExtendFields(_FieldsDelta):
    @classmethod
    def name(cls) -> str:
        return "extend"

    def operations(self) -> list[Operation]:
        return [Extend(key, tuple(items)) for key, items in self.values.items()]


@dataclass
class IncrementFields(_FieldsDelta):
    @classmethod
    def name(cls) -> str:
        return "increment"

    def operations(self) -> list[Operation]:
        return [Increment(key, by) for key, by in self.values.items()]


@dataclass
class DeleteField(StateDelta):
    keys: list[str]

    @classmethod
    def name(cls) -> str:
        return "delete"

    def operations(self) -> list[Operation]:
        return [Delete(key) for key in self.keys]

    def reads(self) -> list[str]:
        return list(self.keys)

    def writes(self) -> list[str]:
        return []
