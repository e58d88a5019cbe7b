"""What an action hands in unchanged stays the same object, however it is written. What differs is what the action returned."""

import copy
from collections.abc import Callable
from typing import Any

import pydantic
import pytest

from app.engine import ApplicationBuilder, State, action

MANY = 40
AT = 20


class Text(str):
    __slots__ = ()


class AlwaysEqual:
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError("no code of a value's class is called")

    __hash__ = object.__hash__


class Message(pydantic.BaseModel):
    role: str = "user"
    content: Any


def played(value: Any, write: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return the committed value before and after a step that writes what `write` makes of it."""

    @action(reads=["x"], writes=["x"])
    def act(state: State) -> State:
        return state.update(x=write(state["x"]))

    app = ApplicationBuilder().with_actions(act).with_state(x=value).with_entrypoint("act").build()
    before = app.state._values["x"]
    app.step()
    return before, app.state._values["x"]


def exact(value: Any) -> Any:
    if isinstance(value, dict):
        return [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, pydantic.BaseModel):
        return type(value), exact(value.__dict__), value.model_fields_set
    if isinstance(value, list):
        return [exact(item) for item in value]
    return type(value), None if isinstance(value, AlwaysEqual) else repr(value)


def reordered(item: dict[Any, Any]) -> None:
    item["a"] = item.pop("a")


def replaced_key(item: dict[Any, Any]) -> None:
    item[True] = item.pop(1)


CHANGES: dict[str, tuple[dict[Any, Any], Callable[[Any], Any]]] = {
    "a text": ({"a": "b"}, lambda item: item.update(a="c")),
    "a number": ({"a": 1}, lambda item: item.update(a=2)),
    "True for 1": ({"a": 1}, lambda item: item.update(a=True)),
    "1.0 for 1": ({"a": 1}, lambda item: item.update(a=1.0)),
    "-0.0 for 0.0": ({"a": 0.0}, lambda item: item.update(a=-0.0)),
    "None for 0": ({"a": 0}, lambda item: item.update(a=None)),
    "a text of a class": ({"a": "b"}, lambda item: item.update(a=Text("b"))),
    "an object that equals all": ({"a": "b"}, lambda item: item.update(a=AlwaysEqual())),
    "the order of the keys": ({"a": "x", "b": "x"}, reordered),
    "a key that equals the other": ({1: "x"}, replaced_key),
    "one key more": ({"a": "x"}, lambda item: item.update(b="x")),
    "one key less": ({"a": "x", "b": "x"}, lambda item: item.pop("b")),
    "past the methods": ({"a": "x"}, lambda item: dict.__setitem__(item, "a", "y")),
    "as globals": ({"a": "x"}, lambda item: exec("global a; a = 'y'", item) or item.pop("__builtins__")),
    "a list": ({"a": "x"}, lambda item: item.update(a=["x"])),
    "a nested value": ({"a": [{"b": 1}]}, lambda item: item["a"][0].update(b=True)),
}

WAYS: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "a new list": lambda value, change: (new := [*value], change(new[AT]))[0],
    "in place": lambda value, change: ([*value], change(value[AT]), value)[-1],
    "one item is touched": lambda value, change: (change(value[AT]), [*value])[-1],
    "a new dict": lambda value, change: (new := dict(enumerate(value)), change(new[AT]))[0],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_item_of_many_is_what_it_was_changed_to_and_the_others_are_the_same_objects(name: str, way: str) -> None:
    item, change = CHANGES[name]
    given = [copy.deepcopy(item) for _ in range(MANY)]
    before, after = played(given, lambda value: WAYS[way](value, change))
    expected = copy.deepcopy(item)
    change(expected)
    found = list(after.values()) if isinstance(after, dict) else after
    assert exact(found[AT]) == exact(expected)
    assert exact(before) == exact(given)
    if isinstance(after, list):
        assert all(one is other for index, (one, other) in enumerate(zip(before, after, strict=True)) if index != AT)


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_value_of_a_large_dict_is_what_it_was_changed_to(name: str) -> None:
    item, change = CHANGES[name]

    def write(value: Any) -> Any:
        new = {**value, "more": {"a": 1}}
        change(new[AT])
        return new

    given = {index: copy.deepcopy(item) for index in range(MANY)}
    before, after = played(given, write)
    expected = copy.deepcopy(item)
    change(expected)
    assert (exact(after[AT]), exact(before)) == (exact(expected), exact(given))
    assert [key for key in after if key not in before or before[key] is not after[key]] == [AT, "more"]


ROWS: list[Any] = [{"role": "user", "content": f"text {number}"} for number in range(MANY)]
MIXED: list[Any] = [row if number % 3 else {**row, "calls": [{"name": "f"}]} for number, row in enumerate(ROWS)]
MODELS: list[Any] = [Message(**row) for row in ROWS]


@pytest.mark.parametrize("given", [ROWS, MIXED, [{"content": [row]} for row in ROWS], [[row] for row in ROWS], MODELS])
def test_of_a_list_that_is_written_anew_every_item_stays_the_same_object(given: list[Any]) -> None:
    before, after = played(copy.deepcopy(given), lambda value: [*value, "new"])
    assert after[-1] == "new"
    assert all(one is other for one, other in zip(before, after, strict=False))
    before, after = played(copy.deepcopy(given), lambda value: [*value])
    assert after is before


@pytest.mark.parametrize("given", [ROWS, MODELS])
def test_what_is_built_anew_and_equal_is_what_is_committed(given: list[Any]) -> None:
    before, after = played(copy.deepcopy(given), lambda _: copy.deepcopy(given))
    assert after is before
    before, after = played({"talk": copy.deepcopy(given), "n": 1}, lambda _: {"talk": copy.deepcopy(given), "n": 2})
    assert after["talk"] is before["talk"]


@pytest.mark.parametrize(
    "write",
    [
        lambda value: [*value[5:], {"role": "user", "content": "new"}],
        lambda value: [each for index, each in enumerate(value) if index not in (3, 4, 17)],
        lambda value: [*value[:7], {"role": "user", "content": "new"}, *value[7:]],
        lambda value: [*value[:7], {"role": "user", "content": "new"}, *value[8:]],
    ],
)
def test_items_that_move_stay_the_same_objects(write: Callable[[Any], Any]) -> None:
    before, after = played(copy.deepcopy(ROWS), write)
    assert after == write(ROWS)
    known = {id(row) for row in before}
    assert all(id(row) in known for row in after if row["content"] != "new")


def test_a_model_in_which_only_the_fields_that_were_set_differ_is_the_new_one() -> None:
    given = [Message(content=str(number)) for number in range(MANY)]
    before, after = played(given, lambda value: [*value[:AT], Message(role="user", content=str(AT)), *value[AT + 1 :]])
    assert [index for index in range(MANY) if after[index] is not before[index]] == [AT]
    assert after[AT].model_fields_set == {"role", "content"}


def test_what_the_action_keeps_of_a_list_that_it_wrote_anew_is_its_own() -> None:
    kept: list[Any] = []

    def write(value: Any) -> Any:
        kept.extend(value)
        return [*kept, {"content": "new"}]

    for given in (ROWS, MIXED, MODELS):
        kept.clear()
        _, after = played(copy.deepcopy(given), write)
        expected = exact(after)
        for each in kept:
            fields = each.__dict__ if isinstance(each, Message) else each
            fields.update(content="spoilt")
        assert exact(after) == expected


def test_one_object_many_times_in_a_list_is_one_object_when_it_is_committed() -> None:
    row = {"a": 1}
    _, after = played([], lambda _: [row] * MANY)
    assert len({id(each) for each in after}) == 1
