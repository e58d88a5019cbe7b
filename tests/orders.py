"""Classes of a user's that a test takes away, renames or changes while values of them are stored."""

import dataclasses
import enum
from typing import Any

import pydantic

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine

__all__ = ["Address", "Half", "Item", "Order", "Urgency", "shop"]


class Urgency(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclasses.dataclass
class Order:
    item: str


class Item(pydantic.BaseModel):
    name: str


@dataclasses.dataclass
class Address:
    street: str


@dataclasses.dataclass(slots=True)
class Half:
    name: str
    result: str = dataclasses.field(init=False)


def shop(name: str = "shop") -> Machine:
    """Each step writes what its input names: `kind` of a value, `key` it goes to; `where` says state, result or a list."""

    values: dict[str, Any] = {
        "dataclass": lambda: Order("secret-tea"),
        "model": lambda: Item(name="secret-tea"),
        "enum": lambda: Urgency.HIGH,
        "nested": lambda: {"list": [1, {"order": Order("secret-tea")}]},
        "plain": lambda: 1,
        "half": lambda: Half("secret-tea"),
        "half model": lambda: Item.model_construct(),
    }

    @action(reads=["n"], writes=["n", "order"])
    async def put(state: State, kind: str = "plain", where: str = "state") -> tuple[dict[str, Any], State]:
        made = values[kind]()
        state = state.increment(n=1)
        if where == "result":
            return {"made": made}, state.update(order=0)
        if where == "append":
            return {}, state.append(order=made)
        return {}, state.update(order=made)

    return Machine(
        name,
        lambda: (
            ApplicationBuilder()
            .with_actions(put)
            .with_transitions(("put", "put"))
            .with_state(n=0, other="kept")
            .with_entrypoint("put")
        ),
    )
