"""What cannot be stored is refused by name, never by value; what is stored cannot run code or load other classes."""

import dataclasses
import datetime
import decimal
import enum
import threading
from collections import defaultdict
from typing import Any

import pydantic
import pytest

from app.engine.errors import EngineError
from app.engine.serde import TAG, UndecodableValue, UnserializableValue, decode, encode, set_allowlist


class Opaque:
    def __repr__(self) -> str:
        return "SECRET"


@dataclasses.dataclass
class Holder:
    inside: Any


@dataclasses.dataclass
class Failure(Exception):
    reason: str


class Login(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr


class Plain(enum.Enum):
    ONE = 1


@dataclasses.dataclass
class Grown:
    old: int
    new: int = 7
    more: list[int] = dataclasses.field(default_factory=list)


class GrownModel(pydantic.BaseModel):
    old: int
    new: int = 7


def refused(value: Any) -> UnserializableValue:
    with pytest.raises(UnserializableValue) as caught:
        encode(value)
    return caught.value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Opaque(), ()),
        ({"a": [1, {"b": Opaque()}]}, ("['a']", "[1]", "['b']")),
        ({"a": (1, Opaque())}, ("['a']", "[1]")),
        ({"a": Holder(Holder(Opaque()))}, ("['a']", ".inside", ".inside")),
        ({"a": {3: Opaque()}}, ("['a']", "[3]")),
        ({"a": {(1, 2): Opaque()}}, ("['a']", "[<tuple>]")),
        ({"a": {frozenset({Opaque()})}}, ("['a']", "{…}", "{…}")),
        ({"a": defaultdict(int, x=Opaque())}, ("['a']", "['x']")),
        ({"login": Login(user="ada", password="SECRET")}, ("['login']", ".password")),
    ],
)
def test_an_unknown_type_is_refused_with_the_path_to_it(value: Any, path: tuple[str, ...]) -> None:
    error = refused(value)
    assert error.path == path
    assert "".join(path) in str(error)
    assert isinstance(error, EngineError)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("value", [Opaque(), {"a": [Opaque()]}, Holder(Opaque()), Login(user="ada", password="SECRET")])
def test_a_refusal_never_shows_a_value(value: Any) -> None:
    assert "SECRET" not in str(refused(value))


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        lambda: None,
        object,
        Failure("boom"),
        type("Text", (str,), {})("x"),
        type("Table", (dict,), {})(),
        datetime.time(tzinfo=type("Odd", (datetime.tzinfo,), {"utcoffset": lambda *_: None})()),
        defaultdict(lambda: 3),
        pytest,
    ],
)
def test_what_has_no_exact_form_is_refused(value: Any) -> None:
    refused(value)


def test_a_class_inside_a_function_is_refused_because_nobody_could_load_it() -> None:
    @dataclasses.dataclass
    class Local:
        x: int = 0

    assert "cannot be imported again" in str(refused(Local()))


def test_a_list_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "contains itself" in str(refused(endless))
    looped: dict[str, Any] = {}
    looped["tuple"] = (looped,)
    assert "contains itself" in str(refused(looped))


@pytest.mark.parametrize(
    "document",
    [
        {TAG: ["dataclass", "subprocess:Popen", {"args": "true"}]},
        {TAG: ["dataclass", "os:system", {}]},
        {TAG: ["enum", "builtins:eval", None, "1"]},
        {TAG: ["model", "builtins:dict", {"fields": {}}]},
        {TAG: ["namedtuple", "builtins:tuple", {}]},
        {TAG: ["enum", f"{__name__}:Grown", "old"]},
        {TAG: ["model", f"{__name__}:Grown", {"fields": {}}]},
        {TAG: ["dataclass", f"{__name__}:Plain", {}]},
        {TAG: ["dataclass", f"{__name__}:Nowhere", {}]},
        {TAG: ["dataclass", "no.such.module:Thing", {}]},
        {TAG: ["enum", f"{__name__}:Plain", "TWO"]},
        {TAG: ["nonsense", 1]},
        {TAG: []},
        {TAG: "tuple"},
        {TAG: [["tuple"]]},
        {TAG: ["tuple"]},
        {TAG: ["set", [[1]]]},
        {TAG: ["int", "zz"]},
        {TAG: ["bytes", 3]},
        {TAG: ["datetime", "yesterday", None, 0]},
        {TAG: ["datetime", "2024-01-01", "Nowhere/City", 0]},
        {TAG: ["Decimal", "one"]},
        {TAG: ["Fraction", 1, 0]},
        {TAG: ["str", "7aCA7"]},
        {TAG: ["dict", [[[], 1]]]},
        {TAG: ["defaultdict", "eval", []]},
    ],
)
def test_a_damaged_or_hostile_document_is_an_error_and_runs_nothing(document: Any) -> None:
    with pytest.raises(UndecodableValue):
        decode({"at": [document]})


def test_the_error_of_a_damaged_document_does_not_show_it() -> None:
    with pytest.raises(UndecodableValue) as caught:
        decode({TAG: ["Decimal", "SECRET"]})
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_field_that_a_dataclass_gained_since_has_its_default() -> None:
    assert decode({TAG: ["dataclass", f"{__name__}:Grown", {"old": 1}]}) == Grown(1, 7, [])


def test_a_field_that_a_model_gained_or_lost_since_is_left_to_the_model() -> None:
    stored = {TAG: ["model", f"{__name__}:GrownModel", {"fields": {"old": 1, "gone": 2}}]}
    assert decode(stored) == GrownModel(old=1)


def test_a_model_that_refuses_a_stored_value_is_an_error_without_the_value() -> None:
    with pytest.raises(UndecodableValue) as caught:
        decode({TAG: ["model", f"{__name__}:GrownModel", {"fields": {"old": "SECRET"}}]})
    assert "SECRET" not in str(caught.value)


def test_an_allowlist_limits_the_modules_that_classes_come_from() -> None:
    document = encode([Plain.ONE, decimal.Decimal(1)])
    set_allowlist([__name__])
    try:
        assert decode(document) == [Plain.ONE, decimal.Decimal(1)]
        set_allowlist(["some.other.place", __name__[:-1]])
        with pytest.raises(UndecodableValue, match="not in the allowlist"):
            decode(document)
    finally:
        set_allowlist(None)
    assert decode(document) == [Plain.ONE, decimal.Decimal(1)]


class Hostile:
    """Everything that a serialiser may ask of it raises, as an error that is no Exception."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit

    def __repr__(self) -> str:
        raise SystemExit


@dataclasses.dataclass
class Lazy:
    shown: int = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "shown":
            raise GeneratorExit("SECRET")
        return super().__getattribute__(name)


class NoZone(datetime.tzinfo):
    def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
        raise RuntimeError("SECRET")


def with_attribute(name: Any) -> Holder:
    holder = Holder(1)
    holder.__dict__[name] = 1
    return holder


def nested(depth: int) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value,)
    return value


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Hostile(), "not known"),
        (Lazy(), "reading it raised GeneratorExit"),
        (datetime.datetime(2020, 1, 1, tzinfo=NoZone()), "reading it raised RuntimeError"),
        (datetime.time(1, tzinfo=NoZone()), "reading it raised RuntimeError"),
        (nested(3_000), "nested too deeply"),
        (cyclic(), "nested too deeply, or contains itself"),
        (with_attribute(3), "reading it raised TypeError"),
        (with_attribute("a\ud800"), "attribute must be Unicode text"),
    ],
    ids=lambda _: "value",
)
def test_a_value_whose_own_code_fails_is_refused_with_the_path_to_it(value: Any, reason: str) -> None:
    error = refused({"a": [value]})
    assert error.path[:2] == ("['a']", "[0]")
    assert reason in str(error)
    assert "SECRET" not in str(error)


def test_an_interrupt_from_the_keyboard_passes_through() -> None:
    @dataclasses.dataclass
    class Interrupted:
        @property
        def __dict__(self) -> Any:  # type: ignore[override]  # a test's way in
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Interrupted())
