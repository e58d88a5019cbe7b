"""What clients see of a value is plain JSON, whatever the value is, and no value can end the process that shows it."""

import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import subprocess
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Annotated, Any

import orjson
import pydantic
import pytest

from app.engine.serde import KEY, deserializer, serialize
from app.engine.serde_plain import TooLarge, plain

Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = "red"

    @property
    def value(self) -> Any:  # orjson reads it, and crashes
        raise RuntimeError


class Text(str):
    def __str__(self) -> str:
        raise RuntimeError


class Map(dict[str, Any]):
    def items(self) -> Any:
        raise SystemExit


class Whole(int):
    pass


@dataclasses.dataclass(slots=True)
class Task:
    name: str
    result: str = dataclasses.field(init=False)
    _own: int = 3


@dataclasses.dataclass
class Open:
    name: str


class Animal(pydantic.BaseModel):
    name: str


class Dog(Animal):
    tricks: list[str] = []


class Zoo(pydantic.BaseModel):
    best: Animal
    others: list[Animal] = []
    secret: str = pydantic.Field("hidden", exclude=True)
    hidden_animal: Animal | None = pydantic.Field(None, exclude=True)
    masked: Annotated[str, pydantic.PlainSerializer(lambda _: "***")] = "hidden"
    masked_list: list[Annotated[str, pydantic.PlainSerializer(lambda _: "***")]] = ["hidden"]
    since: datetime.date = pydantic.Field(datetime.date(2020, 1, 2), serialization_alias="openedAt")
    map: bytes = b"north"

    @pydantic.computed_field
    def count(self) -> int:
        return 1 + len(self.others)


class Masked(pydantic.BaseModel):
    token: str

    @pydantic.model_serializer
    def mask(self) -> dict[str, Any]:
        return {"token": "***"}


class Many(pydantic.RootModel[list[Animal]]):
    pass


class Temperature:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


class Odd:
    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit

    def __repr__(self) -> str:
        raise KeyError


class NoZone(datetime.tzinfo):
    def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
        raise RuntimeError


def changed(task: Open) -> Open:
    task.__dict__["more"] = 5
    return task


def without_its_field() -> Animal:
    return Animal.model_construct()


def nested(kind: Any, depth: int) -> Any:
    value: Any = kind()
    for _ in range(depth):
        value = kind([value])
    return value


def cycle() -> list[Any]:
    inner: list[Any] = []
    inner.append({"again": inner})
    return inner


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [1, 1.5, "x", None, True]}, {"a": [1, 1.5, "x", None, True]}),
        ((1, {2}, frozenset({3}), deque([4])), [1, [2], [3], [4]]),
        (OrderedDict(a=1), {"a": 1}),
        (Counter(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Point(1, 2), [1, 2]),
        (math.nan, None),
        (-math.inf, None),
        ("\ud83d\ude00", "😀"),
        ("a\ud800b", "a\ufffdb"),
        ({"a\ud800": 1}, {"a\ufffd": 1}),
        ({1: 2, None: 3, 1.5: 4, (1, "b"): 5}, {"1": 2, "None": 3, "1.5": 4, "1,b": 5}),
        ({True: 1}, {"true": 1}),
        ({1: "a", "1": "b"}, [[1, "a"], ["1", "b"]]),
        ({frozenset({1}): "a"}, [[[1], "a"]]),
        ({Text("k"): Text("v")}, {"k": "v"}),
        (Map(a=1), {"a": 1}),
        (Whole(3), 3),
        (Colour.RED, "red"),
        (b"\xff\xfe\xfd", "__79"),
        (datetime.datetime(2020, 1, 2, 3, 4, tzinfo=datetime.UTC), "2020-01-02T03:04:00+00:00"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(days=1, seconds=5), "P1DT5S"),
        (datetime.datetime(2020, 1, 2, tzinfo=NoZone()), "<datetime.datetime>"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (uuid.UUID.__new__(uuid.UUID), "<uuid.UUID>"),
        (decimal.Decimal("1.50"), "1.50"),
        (fractions.Fraction(1, 3), "1/3"),
        (1 + 2j, "1+2j"),
        (range(3), {"start": 0, "stop": 3, "step": 1}),
        (pathlib.PurePosixPath("/a/\udcff"), "/a/\ufffd"),
        (Task("tidy up"), {"name": "tidy up"}),
        (changed(Open("a")), {"name": "a", "more": 5}),
        (without_its_field(), {}),
        (Odd(), f"<{__name__}.Odd>"),
        (open, "<builtins.builtin_function_or_method>"),
        (Masked(token="hidden"), {"token": "***"}),
        (Many([Dog(name="Rex")]), [{"name": "Rex", "tricks": []}]),
    ],
    ids=lambda _: "value",  # pytest would look into the values
)
def test_a_value_has_a_plain_form(value: Any, shown: Any) -> None:
    assert orjson.loads(orjson.dumps(plain({"state": value})))["state"] == shown


def test_a_model_is_shown_as_it_serializes_itself_with_the_fields_that_subclasses_add() -> None:
    zoo = Zoo(best=Dog(name="Rex", tricks=["sit"]), others=[Dog(name="Ace")], hidden_animal=Dog(name="hidden"))
    shown = plain(zoo)
    assert shown == {
        "best": {"name": "Rex", "tricks": ["sit"]},
        "others": [{"name": "Ace", "tricks": []}],
        "masked": "***",
        "masked_list": ["***"],
        "openedAt": "2020-01-02",
        "map": "north",
        "count": 2,
    }
    zoo.map = b"\xff"
    assert plain(zoo) == {**shown, "map": "_w=="}
    assert "hidden" not in str(plain(zoo))


def test_a_registered_type_is_shown_without_the_marks_of_its_stored_form() -> None:
    @serialize.register(Temperature)
    def _write(value: Temperature, **_: Any) -> dict[str, Any]:
        return {KEY: "temperature", "degrees": value.degrees}

    deserializer.register("temperature")(lambda value, **_: Temperature(value["degrees"]))
    assert plain({"t": Temperature(21.5)}) == {"t": {"degrees": 21.5}}


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**4_000, -(10**4_000)])
def test_a_large_number_keeps_all_its_digits(number: int) -> None:
    assert orjson.dumps(plain([number])) == b"[%d]" % number


def test_a_number_beyond_what_python_writes_in_decimal_is_shown_in_hexadecimal() -> None:
    number = 16**5_000
    assert plain(number) == hex(number)


def test_what_is_plain_already_is_not_copied() -> None:
    value = {"a": [1, {"b": None}]}
    assert plain(value) is value


@pytest.mark.parametrize(
    "value", [nested(tuple, 100_000), nested(list, 100_000), nested(frozenset, 300), cycle()], ids=lambda _: "value"
)
def test_depth_and_cycles_end_in_the_name_of_a_type(value: Any) -> None:
    text = orjson.dumps(plain({"items": [{"state": value}]}))
    assert b"<builtins." in text


def test_more_than_the_caller_wants_to_wait_for_is_not_converted() -> None:
    for large in ({"a": [1] * 100}, {"a": {str(n): n for n in range(100)}}, {"a": "x" * 200_000}, {"a": b"x" * 200_000}):
        with pytest.raises(TooLarge):
            plain(large, 99)
        plain(large, 500)


CRASHES = """
import dataclasses, datetime, enum, orjson
from app.engine.serde_plain import plain

@dataclasses.dataclass(slots=True)
class Task:
    name: str
    result: str = dataclasses.field(init=False)

class NoZone(datetime.tzinfo):
    def utcoffset(self, _): raise RuntimeError

class Colour(enum.Enum):
    RED = 1
    @property
    def value(self): raise RuntimeError

deep = ()
for _ in range(3_000): deep = (deep,)
print(orjson.dumps(plain([Task("a"), datetime.datetime(2020, 1, 1, tzinfo=NoZone()), Colour.RED, deep]))[:41])
"""


def test_what_the_json_library_crashes_on_is_shown_by_a_process_that_lives_on() -> None:
    shown = subprocess.run([sys.executable, "-c", CRASHES], capture_output=True, text=True, timeout=60, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("""b'[{"name":"a"},"<datetime.datetime>",1,[[[""")
