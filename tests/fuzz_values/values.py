"""Values as awkward as users' values get, made from recipes that fit into JSON, and machines that write them.

`LEAVES` are made by name; a recipe puts them into containers and classes.
"""

import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any, NamedTuple

import pydantic

from app.engine import ApplicationBuilder, State, action, streaming_action
from app.engine.serde import KEY, deserialize, deserializer, serialize

__all__ = ["CONTAINERS", "LEAVES", "PLACES", "build", "deep", "put", "put_process", "put_sync", "stream", "stream_sync"]


@dataclasses.dataclass(slots=True)
class Task:
    name: Any
    result: Any = dataclasses.field(init=False)


@dataclasses.dataclass
class Note:
    text: Any
    _own: Any = None


@dataclasses.dataclass
class Lazy:
    shown: Any = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "shown":
            raise SystemExit
        return super().__getattribute__(name)


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Animal(pydantic.BaseModel):
    name: Any


class Dog(Animal):
    tricks: list[Any] = []


class Zoo(pydantic.BaseModel):
    best: Animal
    extra: Any = None


class Loose(pydantic.BaseModel, extra="allow"):
    pass


class Raw(pydantic.BaseModel):
    content: bytes
    when: datetime.datetime | None = None


class Login(pydantic.BaseModel):
    password: pydantic.SecretStr


class Colour(enum.Enum):
    RED = "red"

    @property
    def value(self) -> Any:
        raise RuntimeError


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    A = 1
    B = 2


class Text(str):
    def __str__(self) -> str:
        raise RuntimeError


class Whole(int):
    def __repr__(self) -> str:
        raise RuntimeError


class Map(dict[Any, Any]):
    def items(self) -> Any:
        raise GeneratorExit


class Row(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise KeyboardInterrupt


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit

    def __hash__(self) -> int:
        return 1

    def __eq__(self, _: object) -> bool:
        raise GeneratorExit


class Anything:
    def __getattr__(self, _: str) -> Any:
        return Anything()

    def __reduce__(self) -> Any:
        raise SystemExit


class Temperature:
    def __init__(self, degrees: Any) -> None:
        self.degrees = degrees


class NoZone(datetime.tzinfo):
    def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
        raise RuntimeError


class OddZone(datetime.tzinfo):
    def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(hours=3)


@serialize.register(Temperature)
def _write(value: Temperature, **_: Any) -> dict[str, Any]:
    return {KEY: "fuzzed temperature", "degrees": serialize(value.degrees)}


deserializer.register("fuzzed temperature")(lambda value, **_: Temperature(deserialize(value["degrees"])))


def without_field() -> Task:
    task = Task("half made")
    del task.name
    return task


def cyclic_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def cyclic_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = [value]
    return value


def cyclic_object() -> Note:
    value = Note(1)
    value.text = {"note": value}
    return value


def with_attribute(name: Any) -> Note:
    value = Note(1)
    value.__dict__[name] = 2
    return value


def endless() -> Iterator[int]:
    while True:
        yield 1


def deep(kind: str, depth: int) -> Any:
    """A value so many levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = CONTAINERS[kind](value)
    return value


LEAVES: dict[str, Callable[[], Any]] = {
    "unset field": lambda: Task("x"),
    "deleted field": without_field,
    "model without a field": Animal.model_construct,
    "odd fields set": lambda: Animal.model_construct({Whole(3), "name"}, name=1),  # type: ignore[arg-type]  # what users do
    "raising property": Lazy,
    "raising zone": lambda: datetime.datetime(2020, 1, 1, tzinfo=NoZone()),
    "zone of the user's": lambda: datetime.datetime(2020, 1, 1, tzinfo=OddZone()),
    "named zone": lambda: datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "a\ud800")),
    "last moment": lambda: datetime.datetime.max.replace(tzinfo=datetime.UTC),
    "longest time": lambda: datetime.timedelta.max,
    "raising enum": lambda: Colour.RED,
    "int enum": lambda: Level.LOW,
    "flags": lambda: Mode.A | Mode.B,
    "text of a subclass": lambda: Text("x"),
    "number of a subclass": lambda: Whole(3),
    "dict of a subclass": lambda: Map(a=1),
    "list of a subclass": lambda: Row([1]),
    "surrogate": lambda: "a\ud800b",
    "surrogate key": lambda: {"a\ud800b": 1},
    "nul": lambda: "a\0b",
    "long number": lambda: 10**4_000,
    "longer number": lambda: -(16**9_000),
    "2**64": lambda: 2**64,
    "nan": lambda: math.nan,
    "infinity": lambda: -math.inf,
    "decimal": lambda: decimal.Decimal("1e400"),
    "signalling nan": lambda: decimal.Decimal("sNaN"),
    "fraction": lambda: fractions.Fraction(10**30, 7),
    "complex": lambda: complex(math.nan, 1),
    "half a uuid": lambda: uuid.UUID.__new__(uuid.UUID),
    "range": lambda: range(10**30),
    "bytes": lambda: b"\xff\x00",
    "bytes in a model": lambda: Raw(content=b"\xff"),
    "raising zone in a model": lambda: Raw(content=b"", when=datetime.datetime(2020, 1, 1, tzinfo=NoZone())),
    "path": lambda: pathlib.Path("/a/\udcff"),
    "secret": lambda: Login(password=pydantic.SecretStr("x")),
    "cyclic list": cyclic_list,
    "cyclic dict": cyclic_dict,
    "cyclic object": cyclic_object,
    "number as an attribute": lambda: with_attribute(3),
    "surrogate as an attribute": lambda: with_attribute("a\ud800"),
    "function": lambda: build,
    "lambda": lambda: lambda: 1,
    "generator": endless,
    "class": lambda: Note,
    "module": lambda: math,
    "error": lambda: ValueError("x"),
    "hostile": Hostile,
    "hostile key": lambda: {Hostile(): 1},
    "anything": Anything,
    "memory": lambda: memoryview(b"x"),
    "namespace": lambda: types.SimpleNamespace(a=1),
    "keys of one text": lambda: {1: "a", "1": "b", None: 2},
    "tag": lambda: {"$": ["set", [1]]},
    "tag of Burr": lambda: {KEY: "pickle", "value": "x"},
    "tuple key": lambda: {(1, ("a",)): 1},
    "frozenset key": lambda: {frozenset({1}): 1},
    "late class": lambda: dataclasses.make_dataclass("Late", ["a"])(1),
}
CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: [value, 1],
    "tuple": lambda value: (value,),
    "dict": lambda value: {"k": value, "l": 1},
    "odd dict": lambda value: {1: value},
    "set": lambda value: {value},
    "frozenset": lambda value: frozenset({value}),
    "deque": lambda value: deque([value], 3),
    "OrderedDict": lambda value: OrderedDict(a=value),
    "defaultdict": lambda value: defaultdict(list, a=value),
    "Counter": lambda value: Counter({"a": value}),
    "Task": lambda value: Task(value),
    "Note": lambda value: Note(value, value),
    "Pair": lambda value: Pair(value),
    "Dog": lambda value: Dog(name=value, tricks=[value]),
    "Zoo": lambda value: Zoo(best=Dog(name=value), extra=value),
    "Loose": lambda value: Loose(more=value),
    "made": lambda value: Zoo.model_construct(best=value),
    "Temperature": lambda value: Temperature(value),
}
PLACES = ("state", "append", "result")


def build(recipe: Any) -> Any:
    """Return the value of a recipe: `["json", value]`, `["leaf", name]`, `["deep", kind, depth]` or `[kind, recipe]`."""
    kind, what, *more = recipe
    if kind == "json":
        return what
    if kind == "leaf":
        return LEAVES[what]()
    if kind == "deep":
        return deep(what, more[0])
    return CONTAINERS[kind](build(what))


def _written(state: State[Any], place: str, recipe: Any) -> tuple[dict[str, Any], State[Any]]:
    value = build(recipe)
    if place == "result":
        return {"v": value}, state.update(n=1)
    return {}, (state.append(log=value) if place == "append" else state.update(v=value)).update(n=1)


@action(reads=["log"], writes=["v", "log", "n"])
async def _put(state: State[Any], place: str, recipe: Any, other: Any = None) -> tuple[dict[str, Any], State[Any]]:
    result, after = _written(state.update(v=None, log=state["log"]), place, recipe)
    return {**result, "other": other}, after


@action(reads=["log"], writes=["v", "log", "n"])
def _put_sync(state: State[Any], place: str, recipe: Any) -> tuple[dict[str, Any], State[Any]]:
    return _written(state.update(v=None, log=state["log"]), place, recipe)


@action(reads=["log"], writes=["v", "log", "n"], executor="process")
def _put_process(state: State[Any], place: str, recipe: Any) -> tuple[dict[str, Any], State[Any]]:
    return _written(state.update(v=None, log=state["log"]), place, recipe)


@streaming_action(reads=[], writes=["n"])
async def _stream(state: State[Any], recipe: Any) -> AsyncGenerator[tuple[dict[str, Any], State[Any] | None], None]:
    yield {"item": build(recipe)}, None
    yield {"last": 1}, state.update(n=1)


@streaming_action(reads=[], writes=["n"])
def _stream_sync(state: State[Any], recipe: Any) -> Generator[tuple[dict[str, Any], State[Any] | None], None, None]:
    yield {"item": build(recipe)}, None
    yield {"last": 1}, state.update(n=1)


def _looping(one: Any) -> ApplicationBuilder[Any]:
    builder = ApplicationBuilder().with_actions(step=one).with_transitions(("step", "step"))
    return builder.with_entrypoint("step").with_state(n=0, log=[])


def put() -> ApplicationBuilder[Any]:
    return _looping(_put)


def put_sync() -> ApplicationBuilder[Any]:
    return _looping(_put_sync)


def put_process() -> ApplicationBuilder[Any]:
    return _looping(_put_process)


def stream() -> ApplicationBuilder[Any]:
    return _looping(_stream)


def stream_sync() -> ApplicationBuilder[Any]:
    return _looping(_stream_sync)
