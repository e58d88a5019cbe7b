"""What `encode` takes comes back from `decode` equal and of the same types, through real JSON bytes."""

import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.serde import TAG, decode, encode


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Word(enum.StrEnum):
    HELLO = "hello"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Tree:
    name: str
    children: list["Tree"] = dataclasses.field(default_factory=list)
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.size = 1 + sum(child.size for child in self.children)
        self.label = f"tree {self.name}"


class Address(pydantic.BaseModel):
    street: str
    number: int = 1


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    name: str = pydantic.Field(alias="fullName")
    address: Address | None = None
    born: datetime.date | None = None
    tags: set[str] = set()
    _seen: int = pydantic.PrivateAttr(default=0)


ItemType = TypeVar("ItemType")


class Box(pydantic.BaseModel, Generic[ItemType]):
    content: ItemType


IntBox = Box[int]


class Pair(NamedTuple):
    left: Any
    right: Any


def round_trip(value: Any) -> Any:
    return decode(orjson.loads(orjson.dumps(encode(value))))


def same(left: Any, right: Any) -> bool:
    """Equal, of the same types all the way down, and telling -0.0 from 0.0 and NaN from nothing."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (left == right and math.copysign(1, left) == math.copysign(1, right))
    if isinstance(left, decimal.Decimal):
        return str(left) == str(right)
    if isinstance(left, dict):
        return len(left) == len(right) and all(same(a, b) and same(left[a], right[b]) for a, b in zip(left, right, strict=True))
    if isinstance(left, list | tuple | deque):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Point):
        return same(left.x, right.x) and same(left.y, right.y)
    if isinstance(left, datetime.datetime | datetime.time):
        return left == right and left.fold == right.fold and left.utcoffset() == right.utcoffset()
    return bool(left == right)


texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(["", TAG, "\ud800", "\x00", "é"])
zones = (
    st.none()
    | st.timezones()
    | st.builds(datetime.timezone, st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)))
)
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(allow_nan=False),
    texts,
    st.binary(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.sampled_from([*Colour, *Level, *Word, Rights.READ | Rights.WRITE, Rights(0)]),
)
scalars = st.one_of(
    hashable_scalars,
    st.floats(),
    st.times(),
    st.binary().map(bytearray),
    st.complex_numbers(allow_nan=False),
    st.builds(range, st.integers(), st.integers(), st.integers(min_value=1)),
)
keys = st.one_of(hashable_scalars, st.tuples(texts, st.integers()), st.frozensets(st.integers()))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(texts, inner),
        st.dictionaries(keys, inner),
        st.lists(inner).map(tuple),
        st.sets(keys),
        st.frozensets(keys),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 3])),
        st.dictionaries(texts, inner).map(OrderedDict),
        st.dictionaries(texts, inner).map(lambda items: defaultdict(list, items)),
    ),
    max_leaves=12,
)


@given(values)
def test_every_supported_value_comes_back_as_it_was(value: Any) -> None:
    assert same(round_trip(value), value)


@given(st.dictionaries(st.sampled_from([TAG, "a", "b"]), st.lists(st.sampled_from(["tuple", "set", 1, {TAG: ["set", []]}]))))
def test_a_dict_that_looks_like_a_tag_stays_a_dict(value: dict[str, Any]) -> None:
    assert same(round_trip(value), value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != TAG), inner),
)


@given(json_values)
def test_plain_json_is_passed_through_without_a_copy(value: Any) -> None:
    assert encode(value) is value
    assert decode(value) is value


@given(st.integers(min_value=1, max_value=20_000))
def test_an_integer_of_any_size_keeps_every_digit(bits: int) -> None:
    assert round_trip(1 << bits) == 1 << bits
    assert round_trip(-(1 << bits) + 1) == -(1 << bits) + 1


def test_encoding_does_not_change_its_argument() -> None:
    inner = {"when": datetime.date(2024, 1, 1)}
    value = {"list": [1, inner], "tuple": (inner,)}
    encode(value)
    assert value == {"list": [1, {"when": datetime.date(2024, 1, 1)}], "tuple": (inner,)}
    assert value["list"][1] is inner


def test_a_time_zone_keeps_its_name() -> None:
    berlin = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1)
    back = round_trip(berlin)
    assert back.tzinfo == zoneinfo.ZoneInfo("Europe/Berlin")
    assert back.utcoffset() == datetime.timedelta(hours=1)


def test_a_named_offset_keeps_its_name() -> None:
    when = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "CET"))
    assert round_trip(when).tzname() == "CET"


def test_a_time_zone_of_a_foreign_kind_is_kept_as_its_offset() -> None:
    class Odd(datetime.tzinfo):
        def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
            return datetime.timedelta(hours=3)

        def dst(self, _: datetime.datetime | None) -> None:
            return None

    when = datetime.datetime(2024, 1, 1, tzinfo=Odd())
    assert round_trip(when) == when
    assert round_trip(when).utcoffset() == datetime.timedelta(hours=3)


def test_a_dataclass_comes_back_without_its_constructor_being_called() -> None:
    tree = Tree("root", [Tree("leaf")])
    tree.size = 99
    back = round_trip(tree)
    assert back == tree
    assert (back.size, back.label, back.children[0].label) == (99, "tree root", "tree leaf")


def test_a_pydantic_model_keeps_what_was_set_its_extra_fields_and_its_private_ones() -> None:
    person = Person(fullName="Ada", tags={"a"}, shoe=39)  # type: ignore[call-arg]  # an extra field, allowed by the model
    person._seen = 3
    back = round_trip(person)
    assert back == person
    assert (back._seen, back.model_extra, back.model_fields_set) == (3, {"shoe": 39}, person.model_fields_set)


def test_a_field_of_a_model_keeps_the_type_of_the_value_in_it() -> None:
    class_of_field = round_trip({"p": Person(fullName="Ada", address=Address(street="Main"))})["p"].address
    assert class_of_field == Address(street="Main")
    assert class_of_field.model_fields_set == {"street"}


def test_a_parametrized_model_finds_its_class_again() -> None:
    back = round_trip(IntBox(content=3))
    assert type(back) is IntBox
    assert back.content == 3


def test_a_model_with_fields_that_only_pydantic_knows_goes_through_its_own_json() -> None:
    site = Site(url="https://example.org/a")  # type: ignore[arg-type]  # pydantic parses it
    back = round_trip({"site": site})["site"]
    assert back == site
    assert type(back.url) is type(site.url)


class Site(pydantic.BaseModel):
    url: pydantic.HttpUrl


def test_a_counter_keeps_its_counts_and_a_path_its_kind() -> None:
    assert same(round_trip(Counter("abca")), Counter("abca"))
    assert round_trip(pathlib.Path("a/b")) == pathlib.Path("a/b")
    assert round_trip(pathlib.PureWindowsPath("c:/x")) == pathlib.PureWindowsPath("c:/x")


@pytest.mark.parametrize("text", ["NaN", "sNaN", "-0", "Infinity", "1.10"])
def test_a_decimal_keeps_its_form(text: str) -> None:
    assert str(round_trip(decimal.Decimal(text))) == str(decimal.Decimal(text))


def test_ids_and_fractions_keep_their_type() -> None:
    values = [uuid.UUID(int=7), fractions.Fraction(1, 3), complex(0.0, -0.0), range(5, 1, -1)]
    assert same(round_trip(values), values)


@pytest.mark.parametrize(
    "value",
    [
        pathlib.PurePosixPath("/a/\udcff"),
        datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "a\ud800")),
        "a\ud800",
        {"a\ud800": 1},
        16**5_000,
    ],
    ids=["path", "zone", "text", "key", "number"],
)
def test_what_no_json_text_can_hold_as_it_is_comes_back(value: Any) -> None:
    assert decode(orjson.loads(orjson.dumps(encode([value])))) == [value]
