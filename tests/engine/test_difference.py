"""What has changed from one value to the next is found, however it was written, and leads to exactly that value."""

import dataclasses
from collections import deque
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.difference import difference, refine
from app.engine.edits import Grow, Put, Remove, Splice
from app.engine.operations import Append, Delete, Extend, Increment, Patch, Set, StoredOperation, apply_all
from app.engine.serde import decode, encode
from tests.engine.changing import LONG, Board, Memory, Message, Point, Slotted, exact, pairs_of_values


@given(pairs_of_values())
def test_a_difference_leads_to_exactly_the_new_value(pair: tuple[Any, Any]) -> None:
    old, new = pair
    before, whole = exact(old), {"k": new}
    operations = refine({"k": old}, (Set("k", new),), whole)
    assert exact(apply_all({"k": old}, operations)) == exact(whole)
    assert exact(old) == before  # and is made of a copy


@given(st.dictionaries(st.sampled_from("abc"), pairs_of_values()), st.permutations("abcd"), st.sets(st.sampled_from("abc")))
def test_a_difference_of_states_leads_from_one_to_the_other(
    pairs: dict[str, tuple[Any, Any]], order: list[str], gone: set[str]
) -> None:
    before = {key: old for key, (old, _) in pairs.items()}
    after = {key: pairs[key][1] for key in order if key in pairs and key not in gone} | {"d": 1}
    found = apply_all(before, difference(before, after))
    assert {key: exact(value) for key, value in found.items()} == {key: exact(value) for key, value in after.items()}


@pytest.mark.parametrize(
    ("before", "after", "operations"),
    [
        ({}, {"a": 1}, (Set("a", 1),)),
        ({"a": 1}, {}, (Delete("a"),)),
        ({"a": 1}, {"a": 1}, ()),
        ({"a": 1}, {"a": True}, (Set("a", True),)),
        ({"a": [1, "x"]}, {"a": [1, "x", 2, 3]}, (Extend("a", (2, 3)),)),
        ({"a": [1, 2]}, {"a": [1]}, (Set("a", [1]),)),
        ({"a": [1, 2]}, {"a": [1, 2]}, ()),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1}, 2]}, (Append("a", 2),)),
        ({"a": {"x": 1}}, {"a": {"x": 1}}, ()),
        ({"a": (1,)}, {"a": [1]}, (Set("a", [1]),)),
    ],
)
def test_a_difference_of_small_states_says_what_changed(
    before: dict[str, Any], after: dict[str, Any], operations: tuple[StoredOperation, ...]
) -> None:
    assert difference(before, after) == operations


OLD = [{"role": "user", "content": f"{number} {LONG}"} for number in range(30)]
NEW = {"role": "assistant", "content": LONG}
MODELS = [Message(**message) for message in OLD]


def copied(value: Any) -> Any:
    return decode(encode(value)) if not isinstance(value, list) else [dict(item) for item in value]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (OLD, [*OLD, NEW], Append("k", NEW)),
        (OLD, [*OLD, NEW, NEW], Extend("k", (NEW, NEW))),
        (OLD, [*copied(OLD), NEW], Append("k", NEW)),
        (OLD, list(OLD), Patch("k", ())),
        (OLD, [NEW, *OLD], Patch("k", (Splice((), 0, 0, (NEW,)),))),
        (OLD, OLD[:-1], Patch("k", (Splice((), 29, 1, ()),))),
        (OLD, [*OLD[1:], NEW], Patch("k", (Splice((), 0, 1, ()), Splice((), 29, 0, (NEW,))))),
        (OLD, [OLD[0], *OLD[3:], NEW], Patch("k", (Splice((), 1, 2, ()), Splice((), 28, 0, (NEW,))))),
        (OLD, [*OLD[:-1], {**OLD[-1], "done": True}], Patch("k", (Put((29, "done"), True),))),
        (OLD, [*OLD[:-1], {**OLD[-1], "done": True}, NEW], Patch("k", (Put((29, "done"), True), Splice((), 30, 0, (NEW,))))),
        ({"a": {"b": OLD}}, {"a": {"b": [*OLD, NEW]}}, Patch("k", (Splice(("a", "b"), 30, 0, (NEW,)),))),
        ({"a": OLD}, {"a": OLD, "b": 1}, Patch("k", (Put(("b",), 1),))),
        ({"a": OLD, "b": 1}, {"a": OLD}, Patch("k", (Remove(("b",)),))),
        ({"a": 1, "b": OLD}, {"b": OLD, "a": 1}, Patch("k", (Remove(("a",)), Put(("a",), 1)))),
        ({1: OLD, (2, 3): 1}, {1: OLD, (2, 3): 2}, Patch("k", (Put(((2, 3),), 2),))),
        (LONG, LONG + " and more", Patch("k", (Grow((), " and more"),))),
        ({"text": LONG}, {"text": LONG + "!"}, Patch("k", (Grow(("text",), "!"),))),
        (tuple(OLD), (*OLD, NEW), Patch("k", (Splice((), 30, 0, (NEW,)),))),
        (deque(OLD, 30), deque([*OLD, NEW], 30), Patch("k", (Splice((), 0, 1, ()), Splice((), 29, 0, (NEW,))))),
        (set("abcdefghijklmnop"), set("abcdefghijklmnopq"), Patch("k", (Splice((), 16, 0, ("q",)),))),
        (MODELS, [*MODELS, MODELS[0]], Append("k", MODELS[0])),
        (MODELS, [message.model_copy() for message in (*MODELS, MODELS[0])], Append("k", MODELS[0])),
        (
            Memory(messages=MODELS),
            Memory(messages=[*MODELS, MODELS[0]]),
            Patch("k", (Splice(("messages",), 30, 0, (MODELS[0],)),)),
        ),
        (Board(OLD), Board([*OLD, NEW]), Patch("k", (Splice(("cells",), 30, 0, (NEW,)),))),
        (Slotted(OLD), Slotted(OLD, 5), Patch("k", (Put(("note",), 5),))),
        (Point(1, OLD), Point(2, OLD), Patch("k", (Put(("x",), 2),))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_added_is_what_is_stored(old: Any, new: Any, expected: StoredOperation) -> None:
    assert refine({"k": old}, (Set("k", new),), {"k": new}) == (expected,)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD, tuple(OLD)),
        (OLD, [NEW, NEW]),
        (OLD, []),
        ([1] * 20, [True] * 20),
        ([0.0] * 20, [-0.0] * 20),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (list(range(1000)), [number + 1 if number % 2 else number for number in range(1000)]),
        (Memory(messages=MODELS), Board(OLD)),
        (5, OLD),
    ],
    ids=repr,
)
def test_what_has_too_little_in_common_is_stored_as_a_whole(old: Any, new: Any) -> None:
    assert refine({"k": old}, (Set("k", new),), {"k": new}) == (Set("k", new),)


class Odd:
    """Equal to everything, and no key of anything."""

    def __eq__(self, _: object) -> bool:
        raise AssertionError("a user's equality is not asked")

    __hash__ = None  # type: ignore[assignment]  # that is the point


def test_no_equality_of_the_users_is_asked() -> None:
    old, new = {"a": OLD, "odd": Odd()}, {"a": OLD, "odd": Odd()}
    (change,) = refine({"k": old}, (Set("k", new),), {"k": new})
    assert isinstance(change, Patch)
    assert [edit.path for edit in change.edits] == [("odd",)]


@dataclasses.dataclass
class Raising:
    items: list[Any]

    def __getattribute__(self, name: str) -> Any:
        if name == "items":
            raise GeneratorExit("not now")
        return super().__getattribute__(name)


def test_a_value_whose_class_raises_is_left_to_those_who_store_it() -> None:
    old, new = {"a": OLD, "x": Raising(items=[1])}, {"a": [*OLD, NEW], "x": Raising(items=[2])}
    assert refine({"k": old}, (change := Set("k", new),), {"k": new}) == (change,)


def test_a_list_that_contains_itself_is_left_to_those_who_refuse_it() -> None:
    old: list[Any] = [1]
    old.append(old)
    new: list[Any] = [1]
    new.append(new)
    assert refine({"k": old}, (change := Set("k", new),), {"k": new}) == (change,)


@pytest.mark.parametrize("wrap", [lambda key: key, lambda key: (key,)])
def test_keys_that_are_stored_as_the_same_are_not_taken_for_each_other(wrap: Any) -> None:
    one, other = wrap(float("nan")), wrap(float("nan"))
    old = {one: LONG, other: LONG}
    new = {one: LONG + "more", other: LONG}
    operations = refine({"k": old}, (Set("k", new),), {"k": new})
    assert list(apply_all({"k": old}, operations)["k"].values()) == [LONG + "more", LONG]


def test_every_key_that_was_written_is_said() -> None:
    before = {"n": 1, "list": OLD, "gone": OLD}
    operations = (Set("n", 1), Set("list", list(OLD)), Increment("m", 2), Delete("gone"), Set("gone", [*OLD, NEW]))
    after = apply_all(before, operations)
    assert refine(before, operations, after) == (
        Set("n", 1),
        Patch("list", ()),
        Increment("m", 2),
        Delete("gone"),
        Set("gone", [*OLD, NEW]),
    )


def test_a_key_that_is_written_twice_is_compared_once_with_what_it_was() -> None:
    operations = (Set("k", [*OLD, NEW]), Append("k", 5), Append("other", 1))
    after = apply_all({"k": OLD}, operations)
    assert refine({"k": OLD}, operations, after) == (Extend("k", (NEW, 5)), Append("other", 1))


class Linked(pydantic.BaseModel):
    url: pydantic.HttpUrl
    items: list[Any]


def test_a_model_that_has_a_json_form_of_its_own_is_stored_as_a_whole() -> None:
    old = Linked(url=pydantic.HttpUrl("https://example.org"), items=OLD)
    assert "json" in encode(old)["$"][2]
    new = old.model_copy(update={"items": [*OLD, NEW]})
    assert refine({"k": old}, (Set("k", new),), {"k": new}) == (Set("k", new),)
