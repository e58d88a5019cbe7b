"""What would not come back from a store is refused when it is encoded; what cannot be read any more is kept as it was stored."""

import dataclasses
import datetime
import enum
import io
import sys
import types
import zoneinfo
from typing import Any, Generic, TypeVar

import pydantic
import pytest

from app.engine import serde_classes
from app.engine.serde import (
    KEY,
    UndecodableValue,
    UnreadableValue,
    UnserializableValue,
    as_shown,
    decode,
    decode_readable,
    deserializer,
    encode,
    first_unreadable,
    serialize,
    unreadable_keys,
)

T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


@dataclasses.dataclass(frozen=True)
class FrozenBox(Generic[T]):
    content: T


@dataclasses.dataclass(slots=True)
class Task:
    name: str
    result: str = dataclasses.field(init=False)


@dataclasses.dataclass
class Note:
    text: str


class Person(pydantic.BaseModel):
    name: str
    age: int = 0


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class OneWay:
    pass


class Fickle:
    pass


def without(value: Any, name: str) -> Any:
    object.__delattr__(value, name)
    return value


@pytest.mark.parametrize("kind", [Box, FrozenBox])
def test_a_generic_dataclass_comes_back(kind: Any) -> None:
    for value in (kind[int](1), kind[list[Note]]([Note("a")]), kind("plain")):
        assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Task("a"), "result"),
        (without(Note("a"), "text"), "text"),
        (Person.model_construct(age=1), "name"),
        (without(Person(name="a"), "name"), "name"),
        ([{"deep": Person.model_construct()}], "name"),
        (Box[Task](Task("a")), "result"),
    ],
)
def test_a_half_made_value_is_refused_and_its_class_and_field_named(value: Any, field: str) -> None:
    with pytest.raises(UnserializableValue, match=f"field '{field}' has no value"):
        encode(value)


def test_a_model_that_lacks_a_field_with_a_default_comes_back_with_it() -> None:
    assert decode(encode(Person.model_construct(name="a"))) == Person(name="a")


def test_a_class_of_a_module_that_was_made_by_hand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_by_hand")
    monkeypatch.setitem(sys.modules, "made_by_hand", module)
    cls = dataclasses.make_dataclass("Order", ["item"])
    cls.__module__, module.Order = "made_by_hand", cls  # type: ignore[attr-defined]
    with pytest.raises(UnserializableValue, match="no other process can import its module 'made_by_hand'"):
        encode(cls("tea"))


def test_a_class_of_the_main_program_is_refused_in_a_service_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = dataclasses.make_dataclass("OrderOfMain", ["item"])
    cls.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "OrderOfMain", cls, raising=False)
    monkeypatch.setattr(serde_classes, "_main_is_refused", False)
    assert decode(encode(cls("tea"))) == cls("tea")
    monkeypatch.setattr(serde_classes, "_main_is_refused", False)
    serde_classes.refuse_classes_of_main()
    with pytest.raises(UnserializableValue, match="'__main__'"):
        encode(cls("tea"))


def test_a_registered_type_without_a_way_back_is_refused() -> None:
    serialize.register(OneWay, lambda value, **_: {KEY: "one way"})
    with pytest.raises(UnserializableValue, match=r"could not be read back: .*one way"):
        encode([OneWay()])


def test_a_registered_value_that_its_own_function_does_not_bring_back_is_refused() -> None:
    serialize.register(Fickle, lambda value, **_: {KEY: "fickle"})

    @deserializer.register("fickle")
    def back(value: Any, **_: Any) -> Any:
        raise RuntimeError("secret")

    with pytest.raises(UnserializableValue, match="RuntimeError") as refused:
        encode(Fickle())
    assert "secret" not in str(refused.value)


def test_a_time_zone_of_a_file_of_ones_own_is_refused() -> None:
    with open(next(p for p in (f"{root}/Europe/Berlin" for root in zoneinfo.TZPATH)), "rb") as file:
        zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(file.read()), key="Own/Zone")
    with pytest.raises(UnserializableValue, match="no time zone is known"):
        encode(datetime.datetime(2026, 1, 1, tzinfo=zone))


def test_a_combination_of_flags_comes_back() -> None:
    assert decode(encode(Rights.READ | Rights.WRITE)) == Rights.READ | Rights.WRITE


def lost(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A document of a class that has gone since."""
    document = encode(Note("secret"))
    monkeypatch.delattr(sys.modules[__name__], "Note")
    return document


def test_everything_but_the_lost_value_is_read_and_the_lost_one_written_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    document = lost(monkeypatch)
    tagged = {"$": ["dict", [[1, [document]], ["$", {"$": ["tuple", [1]]}]]]}
    whole = {"a": [1, document], "b": {"$": ["tuple", [1, 2]]}, "c": tagged, "d": {"$": ["tuple", [document]]}}
    with pytest.raises(UndecodableValue) as error:
        decode(whole)
    assert error.value.type_name == f"{__name__}.Note"
    value = decode_readable(whole)
    assert (value["a"][0], value["b"], value["c"]["$"]) == (1, (1, 2), (1,))
    assert unreadable_keys(value).keys() == {"a", "c", "d"}
    found = first_unreadable(value)
    assert isinstance(found, UnreadableValue)
    assert "secret" not in repr(found)
    assert encode(value) == whole
    assert as_shown(value)["a"] == [1, {"unreadable": f"{__name__}.Note"}]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, RecursionError, ImportError])
def test_whatever_a_class_does_while_it_is_read_is_one_error(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(enum.Enum):
        @classmethod
        def _missing_(cls, value: object) -> Any:
            raise error("secret")

    monkeypatch.setattr(sys.modules[__name__], "Broken", Broken, raising=False)
    with pytest.raises(UndecodableValue) as found:
        decode({"$": ["enum", f"{__name__}:Broken", None, 3]})
    assert "secret" not in str(found.value)
    assert found.value.type_name == f"{__name__}.Broken"
