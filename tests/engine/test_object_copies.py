"""Objects of a state are copied, the quick way where that is all there is to it."""

import copy
from typing import Any

import pydantic
import pytest

from app.engine.object_copies import copy_flat_model, copy_object, is_immutable


class Flat(pydantic.BaseModel):
    text: str
    number: int = 1


class Nested(pydantic.BaseModel):
    items: list[int]


class Private(pydantic.BaseModel):
    text: str
    _seen: list[int] = pydantic.PrivateAttr(default_factory=lambda: [1])


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    text: str


class Own(pydantic.BaseModel):
    text: str

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> "Own":
        return Own(text="a copy")


def test_a_model_of_unchangeable_values_is_copied_with_all_that_it_knows() -> None:
    model = Flat(text="a")
    copied = copy_flat_model(model)
    assert copied == model
    assert copied is not model
    assert copied.model_fields_set == {"text"}
    assert repr(copied.__getstate__()) == repr(copy.deepcopy(model).__getstate__())
    copied.text, copied.number = "b", 2
    assert (model.text, model.model_fields_set) == ("a", {"text"})


@pytest.mark.parametrize(
    "value", [Nested(items=[1]), Private(text="a"), Loose.model_validate({"text": "a", "more": [1]}), {"a": 1}]
)
def test_what_holds_more_is_copied_in_depth(value: Any) -> None:
    assert copy_flat_model(value) is None
    copied = copy_object(value)
    assert copied == value
    assert copied is not value


def test_a_model_that_copies_itself_is_asked() -> None:
    assert copy_object(Own(text="a")) == Own(text="a copy")


class Odd:
    @property  # type: ignore[misc]  # as lazy proxies have it
    def __class__(self) -> Any:
        raise RuntimeError("no class")


@pytest.mark.parametrize("kind", [Flat, Nested, Odd])
def test_what_cannot_even_be_looked_at_is_copied_if_that_can_be_and_raises_nothing(kind: Any) -> None:
    value = kind.__new__(kind)
    assert type(copy_object(value)) is kind
    assert not is_immutable(value)
