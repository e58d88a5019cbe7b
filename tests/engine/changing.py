"""Values of many kinds, and changes of them: what the tests of differences and of their storage have in common."""

import dataclasses
import datetime
import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from typing import Any, NamedTuple

import pydantic
from hypothesis import strategies as st

from app.engine.serde import decode, encode


class Message(pydantic.BaseModel):
    role: str
    content: str


class Memory(pydantic.BaseModel):
    messages: list[Message] = []
    facts: dict[str, Any] = {}
    _seen: int = pydantic.PrivateAttr(default=0)


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    items: list[Any] = []


@dataclasses.dataclass
class Board:
    cells: list[Any]
    moves: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    items: list[Any]
    note: Any = None


class Point(NamedTuple):
    x: Any
    rest: list[Any]


def exact(value: Any) -> str:
    """A text that two values share only if they are stored as the same; sets have no order."""

    def ordered(document: Any) -> Any:
        match document:
            case {"$": ["set", list(members)]}:
                return {"$": ["set", sorted(members, key=repr)]}
            case dict():
                return {key: ordered(item) for key, item in document.items()}
            case list():
                return [ordered(item) for item in document]
        return document

    return repr(ordered(encode(value)))


LONG = "a long text of which there is only one"
SCALARS = st.one_of(
    st.sampled_from(
        [0, 1, True, False, 1.0, 0.0, -0.0, math.nan, math.inf, None, "", "1", LONG, LONG + LONG, "\ud800", 2**70, b"x"]
    ),
    st.integers(-3, 3),
    st.text(max_size=3),
    st.sampled_from(
        [Decimal("1.0"), Decimal("1.00"), datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)]
    ),
)
KEYS = st.sampled_from(["a", "b", "c", "$", "odd \ud800", 1, True, 1.5, None, (1, 2), LONG])


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=6)
    pairs = st.lists(st.tuples(KEYS, inner), max_size=5)
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(lambda items: deque(items, 4)),
        pairs.map(dict),
        pairs.map(OrderedDict),
        pairs.map(lambda items: defaultdict(list, items)),
        st.lists(st.sampled_from("abc")).map(Counter),
        st.sets(st.one_of(st.text(max_size=2), st.integers(0, 2)), max_size=5),
        st.builds(Board, lists, lists.map(tuple)),
        st.builds(Slotted, lists, inner),
        st.builds(Point, inner, lists),
        st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=st.sampled_from([LONG, "b", "c"])),
        st.builds(lambda items, facts: Memory.model_construct(messages=items, facts=facts), lists, pairs.map(dict)),
        st.builds(lambda items, more: Loose.model_validate({"items": items, "more": more}), lists, inner),
    )


VALUES = st.recursive(SCALARS, _containers, max_leaves=12)


def changed(value: Any, draw: random.Random, other: Any) -> Any:
    """A copy of `value` in which something was added, removed, moved or replaced, somewhere."""

    def again(part: Any) -> Any:
        return changed(part, draw, other) if draw.random() < 0.7 else other

    match value:
        case list() | tuple() | deque() if not hasattr(value, "_fields"):
            items = list(value)
            for _ in range(draw.randrange(1, 3)):
                place = draw.randrange(len(items) + 1)
                match draw.randrange(5):
                    case 0:
                        items.append(other)
                    case 1:
                        items[place:place] = [other]
                    case 2:
                        del items[:place]
                    case 3 if items:
                        items[place - 1] = again(items[place - 1])
                    case _ if items:
                        items = [*items[1:], other]
            return deque(items, value.maxlen) if isinstance(value, deque) else type(value)(items)
        case dict():
            copy = value.copy()
            keys = list(copy)
            match draw.randrange(4):
                case 0 if keys:
                    copy[draw.choice(keys)] = again(copy[draw.choice(keys)]) if type(copy) is not Counter else 3
                case 1 if keys:
                    copy.pop(draw.choice(keys))
                case 2 if keys:
                    key = draw.choice(keys)
                    copy[key] = copy.pop(key)
                case _:
                    copy[draw.choice(["a", "new", "$", 1, LONG])] = other if type(copy) is not Counter else 2
            return copy
        case set():
            return {*value, draw.choice(["z", 7])}
        case Memory():
            return value.model_copy(update={"messages": again(value.messages)})
        case Loose():
            return value.model_copy(update={"items": again(value.items)})
        case Board():
            return dataclasses.replace(value, cells=again(value.cells))
        case Slotted():
            return dataclasses.replace(value, items=again(value.items))
        case Point():
            return value._replace(rest=again(value.rest))
        case str():
            return value + "more"
    return other


@st.composite
def pairs_of_values(draw: st.DrawFn) -> tuple[Any, Any]:
    old = draw(VALUES)
    other = draw(VALUES)
    if draw(st.booleans()):
        return old, other
    new = old
    chance = draw(st.randoms(use_true_random=False))
    for _ in range(draw(st.integers(1, 3))):
        new = changed(new, chance, other)
    return (old, decode(encode(new))) if draw(st.booleans()) else (old, new)  # the same objects, or none of them
