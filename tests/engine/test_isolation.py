"""Whatever an action does with what it got, only what it returns counts."""

import asyncio
import contextlib
import copy
import dataclasses
import heapq
import json
import operator
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pydantic
import pytest

from app.engine import Action, ApplicationBuilder, Condition, PostRunStepHook, State, action, on_error, streaming_action
from app.engine.parallelism import MapStates

Play = Callable[..., Any]


class Point(pydantic.BaseModel):
    seen: list[int] = []


@dataclasses.dataclass
class Box:
    items: list[Any]


CHANGES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "append": ([1], lambda value: value.append(2)),
    "a nested list": ({"a": [{"x": 0}]}, lambda value: value["a"][0].update(x=1)),
    "a dict in a list": ([{"x": [1]}, {"x": [2]}], lambda value: [each["x"].append(3) for each in value]),
    "the last of many": ([{"x": number} for number in range(40)], lambda value: value[-1].update(y=2)),
    "sort": ([3, 1, 2], lambda value: value.sort()),
    "pop": ({"a": {"b": 1}}, lambda value: value.pop("a", {}).update(b=2)),
    "popitem": ({"a": {"b": 1}, "b": {}, "c": {}}, lambda value: value.popitem()[1].update(b=2)),
    "get": ({"a": {"b": 1}}, lambda value: value.get("a").update(b=2)),
    "setdefault": ({"a": {"b": 1}}, lambda value: value.setdefault("a", {}).update(b=2)),
    "values": ({"a": {"b": 1}}, lambda value: [each.update(b=2) for each in value.values()]),
    "items": ({"a": {"b": 1}}, lambda value: [each.update(b=2) for _, each in value.items()]),
    "a copy": ({"a": {"b": 1}}, lambda value: value.copy()["a"].update(b=2)),
    "dict()": ({"a": {"b": 1}}, lambda value: dict(value)["a"].update(b=2)),
    "**": ({"a": {"b": 1}}, lambda value: {**value}["a"].update(b=2)),
    "|": ({"a": {"b": 1}}, lambda value: ({} | value)["a"].update(b=2)),
    "list +": ([{"b": 1}], lambda value: ([] + value)[0].update(b=2)),  # noqa: RUF005  # not the same to a subclass
    "+ list": ([{"b": 1}], lambda value: (value + [])[0].update(b=2)),  # noqa: RUF005  # as above
    "a slice": ([{"b": 1}], lambda value: value[:1][0].update(b=2)),
    "list()": ([{"b": 1}], lambda value: list(value)[0].update(b=2)),  # noqa: RUF015  # as above
    "copy.copy": ([{"b": 1}], lambda value: copy.copy(value)[0].update(b=2)),
    "a list of its type": ([{"b": 1}], lambda value: type(value)(value)[0].update(b=2)),
    "a dict of its type": ({"a": {"b": 1}}, lambda value: type(value)(value)["a"].update(b=2)),
    "a dict of its type with keywords": ({"a": {"b": 1}}, lambda value: type(value)(**value).popitem()[1].update(b=2)),
    "reversed": ([{"b": 1}], lambda value: next(reversed(value)).update(b=2)),
    "sorted by key": ([{"b": 1}], lambda value: value.sort(key=lambda each: each.update(b=2) or 0)),
    "a heap": ([1, 2], lambda value: heapq.heappush(value, 0)),
    "a set": ({1}, lambda value: value.add(2)),
    "in a tuple": (([1], {"a": [2]}), lambda value: (value[0].append(2), value[1]["a"].append(3))),
    "a dataclass": (Box([1]), lambda value: value.items.append(2)),
    "a dataclass in a list": ([Box([1])], lambda value: value[0].items.append(2)),
    "a model": (Point(seen=[1]), lambda value: value.seen.append(2)),
    "a model in a dict": ({"p": Point(seen=[1])}, lambda value: value["p"].seen.append(2)),
    "a bytearray": (bytearray(b"a"), lambda value: value.extend(b"b")),
    "a deque": (deque([[1]]), lambda value: value[0].append(2)),
}


@pytest.fixture(params=["sync", "async"])
def play(request: pytest.FixtureRequest) -> Play:
    """Build an application with some actions and take steps of one colour: return it. An action is written as a sync function."""

    def coloured(function: Callable[..., Any]) -> Callable[..., Any]:
        async def own(state: Any, **inputs: Any) -> Any:
            return function(state, **inputs)

        return own if request.param == "async" else function

    def run(function: Callable[..., Any], values: dict[str, Any], steps: int = 1, **decorated: Any) -> Any:
        keys = list(values)
        act = action(reads=keys, writes=[], **decorated)(coloured(function))
        builder = ApplicationBuilder().with_actions(act=act).with_transitions(("act", "act")).with_state(**values)
        app = builder.with_entrypoint("act").build()
        for _ in range(steps):
            with contextlib.suppress(ZeroDivisionError):
                asyncio.run(app.astep()) if request.param == "async" else app.step()
        return app

    return run


@pytest.mark.parametrize("name", CHANGES)
def test_a_value_that_is_changed_in_place_and_not_returned_stays_as_it_was(play: Play, name: str) -> None:
    value, change = CHANGES[name]

    def act(state: State) -> State:
        change(state["x"])
        return state

    given = copy.deepcopy(value)
    assert play(act, {"x": given}, steps=2).state["x"] == value
    assert given == value


@pytest.mark.parametrize("name", CHANGES)
def test_a_value_that_is_changed_in_place_and_returned_is_what_comes_next(name: str) -> None:
    value, change = CHANGES[name]

    @action(reads=["x"], writes=["x"])
    def act(state: State) -> State:
        change(state["x"])
        return state.update(x=state["x"])

    app = (
        ApplicationBuilder().with_actions(act).with_transitions(("act", "act")).with_state(x=value).with_entrypoint("act").build()
    )
    expected = copy.deepcopy(value)
    for _ in range(2):
        before, seen = app.state, copy.deepcopy(expected)
        app.step()
        change(expected)
        assert (app.state["x"], before["x"]) == (expected, seen)


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_reads_a_state_from_outside_gets_values_of_their_own(name: str) -> None:
    value, change = CHANGES[name]
    told: list[State] = []

    class Spoil(PostRunStepHook):
        def post_run_step(self, *, state: State, result: Any, **_: Any) -> None:
            change(state["x"])
            change(result["x"])
            told.append(state)

    @action(reads=["x"], writes=["x"])
    def act(state: State) -> Any:
        return {"x": state["x"]}, state.update(x=state["x"])

    builder = (
        ApplicationBuilder()
        .with_actions(act)
        .with_transitions(("act", "act", Condition(["x"], lambda s: change(s["x"]) or True)))
    )
    app = builder.with_hooks(Spoil()).with_state(x=copy.deepcopy(value)).with_entrypoint("act").build()
    for _ in range(2):
        _, result, state = app.step()  # type: ignore[misc]  # there is a next action
        change(result["x"])
        change(state["x"])
        change(state.get_all()["x"])
        change(dict(state)["x"])
    assert app.state["x"] == told[0]["x"] == value


def test_each_attempt_and_each_action_for_an_error_begins_with_what_was_committed(play: Play) -> None:
    seen: list[Any] = []

    def act(state: State) -> State:
        seen.append(list(state["x"]))
        state["x"].append(1)
        raise ZeroDivisionError

    assert play(act, {"x": []}, retry=3).state["x"] == []
    assert seen == [[], [], []]

    @action(reads=["x"], writes=["x"])
    def fail(state: State) -> State:
        state["x"].append(1)
        raise ZeroDivisionError

    @action(reads=["x"], writes=["x"])
    def mend(state: State) -> State:
        return state.update(x=[*state["x"], 2])

    builder = ApplicationBuilder().with_actions(fail, mend).with_transitions(("fail", "mend", on_error(ZeroDivisionError)))
    app = builder.with_state(x=[]).with_entrypoint("fail").build()
    assert app.step()[2]["x"] == [2]  # type: ignore[index]  # there is a next action


def test_an_input_is_the_callers_also_when_the_action_is_tried_again() -> None:
    seen: list[Any] = []

    @action(reads=[], writes=["x"], retry=2)
    def act(state: State, items: list[Any], options: dict[str, Any]) -> State:
        seen.append(copy.deepcopy((items, options)))
        items.append(1)
        options["deep"].append(1)
        if len(seen) == 1:
            raise ZeroDivisionError
        return state.update(x=items)

    app = ApplicationBuilder().with_actions(act).with_entrypoint("act").build()
    items: list[Any] = []
    options: dict[str, Any] = {"deep": []}
    app.step(inputs={"items": items, "options": options})
    assert (items, options, app.state["x"]) == ([], {"deep": []}, [1])
    assert seen[1] == ([], {"deep": []})


def test_what_an_action_keeps_of_what_it_returned_is_its_own() -> None:
    kept: list[Any] = []

    @action(reads=[], writes=["x", "y"])
    def act(state: State) -> Any:
        value = {"deep": [{"n": 1}]}
        kept.append(value)
        return {"x": value}, state.update(x=value, y=value)

    app = ApplicationBuilder().with_actions(act).with_transitions(("act", "act")).with_entrypoint("act").build()
    _, result, state = app.step()  # type: ignore[misc]  # there is a next action
    kept[0]["deep"][0]["n"] = 2
    result["x"]["deep"].append(3)
    assert state["x"] == state["y"] == app.state["x"] == {"deep": [{"n": 1}]}


@pytest.mark.parametrize("is_async", [False, True])
def test_the_items_of_a_stream_are_values_of_their_own(is_async: bool) -> None:
    def speak(state: State) -> Iterator[Any]:
        so_far = {"text": "", "letters": []}
        for letter in "abc":
            so_far["text"] += letter  # type: ignore[operator]
            so_far["letters"].append(letter)  # type: ignore[attr-defined]
            yield so_far, None
        yield so_far, state.update(text=so_far["text"])
        so_far["text"] = "gone"

    async def aspeak(state: State) -> Any:
        for item in speak(state):
            yield item

    act = streaming_action(reads=[], writes=["text"])(aspeak if is_async else speak)
    app = ApplicationBuilder().with_actions(speak=act).with_entrypoint("speak").build()

    async def read() -> Any:
        _, container = await app.astream_result(halt_after=["speak"])
        return [item async for item in container], (await container.get())[0]

    if is_async:
        items, result = asyncio.run(read())
    else:
        _, stream = app.stream_result(halt_after=["speak"])
        items, result = list(stream), stream.get()[0]
    assert [item["text"] for item in items] == ["a", "ab", "abc"]
    assert result == {"text": "abc", "letters": ["a", "b", "c"]}


def test_default_values_bound_values_and_attributes_are_the_same_for_each_call() -> None:
    bound: list[str] = []

    @action(reads=[], writes=["seen"])
    def note(state: State, text: str, bound: list[str], own: list[str] = []) -> State:  # noqa: B006  # this is tested
        bound.append(text)
        own.append(text)
        return state.update(seen=[list(bound), list(own)])

    class Note(Action):
        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[str, list[str]] = {"all": []}

        @property
        def reads(self) -> list[str]:
            return []

        @property
        def writes(self) -> list[str]:
            return ["seen"]

        @property
        def inputs(self) -> list[str]:
            return ["text"]

        def run(self, state: State, **inputs: Any) -> dict[str, Any]:
            self.seen["all"].append(inputs["text"])
            return {"seen": list(self.seen["all"])}

        def update(self, result: dict[str, Any], state: State) -> State:
            return state.update(**result)

    for act, expected in ((note.bind(bound=bound), [["b"], ["b"]]), (Note(), ["b"])):
        app = ApplicationBuilder().with_actions(act=act).with_transitions(("act", "act")).with_entrypoint("act").build()
        app.step(inputs={"text": "a"})
        app.step(inputs={"text": "b"})
        assert app.state["seen"] == expected
    assert bound == []


def test_applications_of_one_machine_share_no_default() -> None:
    notes: list[str] = []

    @action(reads=["notes"], writes=["notes"])
    def note(state: State) -> State:
        state["notes"].append("x")
        return state.update(notes=state["notes"])

    builder = ApplicationBuilder().with_actions(note).with_transitions(("note", "note")).with_state(notes=notes)
    blueprint = builder.with_entrypoint("note").blueprint()
    for name in "ab":
        app = blueprint.instantiate(app_id=name)
        app.step()
        assert app.state["notes"] == ["x"]
    notes.append("later")
    assert blueprint.instantiate(app_id="c").state["notes"] == []


def test_branches_of_a_parallel_action_share_nothing() -> None:
    @action(reads=["notes", "own"], writes=["notes"])
    def branch(state: State) -> State:
        state["notes"].append(state["own"])
        return state.update(notes=state["notes"])

    class Fan(MapStates):
        reads = ["notes"]  # noqa: RUF012  # a class attribute stands for the property
        writes = ["all"]  # noqa: RUF012  # as above

        def action(self, state: State, inputs: dict[str, Any]) -> Any:
            return branch

        def states(self, state: State, context: Any, inputs: dict[str, Any]) -> Any:
            for own in range(5):
                yield state.update(own=own)

        def reduce(self, state: State, states: Any) -> State:
            return state.update(all=[each["notes"] for each in states])

    app = ApplicationBuilder().with_actions(fan=Fan()).with_state(notes=["n"]).with_entrypoint("fan").build()
    app.step()
    assert app.state["all"] == [["n", own] for own in range(5)]
    assert app.state["notes"] == ["n"]


def test_an_action_sees_its_own_changes_in_every_state_that_it_derives() -> None:
    @action(reads=["x"], writes=["x", "y"])
    def act(state: State) -> State:
        state["x"]["a"].append(1)
        derived = state.update(y=0)
        assert derived["x"] is state["x"]
        assert derived["x"]["a"] is state["x"]["a"]
        assert derived.get("x")["a"] == state.get_all()["x"]["a"] == [1]
        return derived.update(x=derived["x"])

    app = ApplicationBuilder().with_actions(act).with_state(x={"a": []}).with_entrypoint("act").build()
    assert app.step()[2].get_all() == {"x": {"a": [1]}, "y": 0}  # type: ignore[index]  # there is a next action


def test_appending_keeps_the_items_and_takes_a_copy_of_the_new_one() -> None:
    kept: list[Any] = []

    @action(reads=["x"], writes=["x"])
    def act(state: State) -> State:
        new = {"n": []}  # type: ignore[var-annotated]
        kept.append(new)
        after = state.append(x=new).extend(x=[[1], [2]])
        assert after["x"][-3] is new
        after["x"][0]["n"].append("not returned")
        new["n"].append("returned")
        return after

    app = (
        ApplicationBuilder()
        .with_actions(act)
        .with_transitions(("act", "act"))
        .with_state(x=[{"n": []}])
        .with_entrypoint("act")
        .build()
    )
    app.step()
    kept[0]["n"].append("later")
    assert app.state["x"] == [{"n": []}, {"n": ["returned"]}, [1], [2]]


def test_what_was_not_changed_stays_the_same_object() -> None:
    @action(reads=["x", "y"], writes=["x", "y"])
    def act(state: State) -> State:
        list(state["y"])
        return state.update(x=[*state["x"], {"new": True}], y=state["y"])

    rows = [{"id": number, "tags": ["a"]} if number % 3 else {"id": number} for number in range(50)]
    app = ApplicationBuilder().with_actions(act).with_state(x=rows, y={"a": [{"b": [1]}]}).with_entrypoint("act").build()
    before = app.state._values
    app.step()
    after = app.state._values
    assert after["y"] is before["y"]
    assert all(one is other for one, other in zip(before["x"], after["x"], strict=False))


def test_of_many_items_that_were_looked_at_those_that_were_not_changed_stay_the_same_objects() -> None:
    @action(reads=["x"], writes=["x"])
    def act(state: State) -> State:
        rows = [*state["x"]]
        rows[7]["id"] = True  # equal to what it was
        rows[8]["more"] = 1
        del rows[9]["id"]
        return state.update(x=rows)

    builder = ApplicationBuilder().with_actions(act).with_state(x=[{"id": 1} for _ in range(50)])
    app = builder.with_entrypoint("act").build()
    before = app.state._values["x"]
    app.step()
    after = app.state._values["x"]
    assert [index for index in range(50) if after[index] is not before[index]] == [7, 8, 9]
    assert (after[7]["id"] is True, after[8], after[9]) == (True, {"id": 1, "more": 1}, {})


def test_values_are_read_copied_and_written_like_plain_ones() -> None:
    value = {"a": [{"b": [1, {2}]}, ("x", [3])], "c": {"d": 1.5}, "e": [1, 2]}
    plain = {"a": [{"b": [1]}], "c": {"d": None}}
    app = ApplicationBuilder().with_actions(act=action(reads=[], writes=[])(lambda state: state)).with_entrypoint("act")
    state = app.with_state(value=value, plain=plain).build().state
    for shown in (state["value"], state._values["value"]):
        assert shown == value
        assert isinstance(shown, dict)
        assert repr(shown) == repr(value)
        for copied in (pickle.loads(pickle.dumps(shown)), copy.deepcopy(shown)):
            assert copied == value
            assert [type(copied), type(copied["a"]), type(copied["a"][0]), type(copied["e"])] == [dict, list, dict, list]
    for shown in (state["plain"], state._values["plain"]):
        assert json.loads(json.dumps(shown)) == orjson.loads(orjson.dumps(shown)) == plain
        assert pydantic.TypeAdapter(dict[str, Any]).validate_python(shown, strict=True) == plain


def test_a_committed_value_that_is_reached_past_its_copy_refuses_to_change() -> None:
    app = ApplicationBuilder().with_actions(act=action(reads=[], writes=[])(lambda state: state)).with_entrypoint("act")
    raw = app.with_state(x=[{"a": {1}}, {"b": 1}]).build().state._values["x"]
    for change in (
        lambda: raw.append(1),
        lambda: raw[0].update(a=1),
        lambda: raw[0]["a"].add(2),
        lambda: operator.setitem(raw[1], "b", 2),
        lambda: raw.__iadd__([1]),
    ):
        with pytest.raises(TypeError, match="belongs to a committed state and cannot be changed; copy it first"):
            change()


@pytest.mark.parametrize("depth", [100, 300, 20_000])
def test_a_value_that_is_nested_deeply_or_contains_itself_is_kept(depth: int) -> None:
    @action(reads=["deep"], writes=["deep", "cycle"])
    def act(state: State) -> State:
        cycle: list[Any] = [state["deep"]]
        cycle.append(cycle)
        return state.update(deep=[state["deep"]], cycle=cycle)

    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    app = (
        ApplicationBuilder()
        .with_actions(act)
        .with_transitions(("act", "act"))
        .with_state(deep=deep)
        .with_entrypoint("act")
        .build()
    )
    app.step()
    app.step()
    assert app.state["cycle"][1] is not None
    value, levels = app.state["deep"], 0
    while value:
        value, levels = value[0], levels + 1
    assert levels == depth + 2


def looped_list() -> list[Any]:
    value: list[Any] = [[0]]
    value.append((value,))
    return value


def looped_dict() -> dict[Any, Any]:
    value: dict[Any, Any] = {0: [0], "others": [{1}, Box([1])]}
    value["children"] = [{"parent": value}]
    return value


def deep_value(levels: int) -> list[Any]:
    value: Any = ()
    for level in range(levels):
        value = [value] if level % 3 == 0 else {"in": value} if level % 3 == 1 else (value,)
    return [[0], value]


@pytest.mark.parametrize("make", [looped_list, looped_dict, lambda: deep_value(900), lambda: deep_value(100_000)])
def test_a_value_that_contains_itself_or_is_very_deep_is_shared_with_nobody_either(make: Callable[[], Any]) -> None:
    kept: list[Any] = []

    def grow(value: Any, mark: Any) -> None:
        value[0].append(mark)

    @action(reads=["x"], writes=["x", "y"])
    def act(state: State) -> State:
        for value in kept:
            grow(value, "kept")
        kept.append(state["x"])
        grow(state["x"], 1)
        return state.update(x=state["x"], y=state["x"])

    given = make()
    builder = ApplicationBuilder().with_actions(act).with_transitions(("act", "act")).with_state(x=given, y=None)
    app = builder.with_entrypoint("act").build()
    grow(given, "given")
    states = []
    for _ in range(3):
        app.step()
        states.append(app.state)
        grow(app.state["x"], "outside")
    assert [state["x"][0] for state in states] == [[0, 1], [0, 1, 1], [0, 1, 1, 1]]
    assert app.state["y"][0] == [0, 1, 1, 1]
    assert list(given[0]) == [0, "given"]


def test_a_value_that_contains_itself_stays_one_that_does() -> None:
    @action(reads=["list", "dict"], writes=["list", "dict", "copies"])
    def act(state: State) -> State:
        state["dict"]["self"] = state["dict"]  # a working copy in itself
        copies = copy.deepcopy(state["list"]), copy.deepcopy(state["dict"]), pickle.loads(pickle.dumps(state["dict"]))
        return state.update(list=state["list"], dict=state["dict"], copies=copies)

    builder = ApplicationBuilder().with_actions(act).with_transitions(("act", "act"))
    app = builder.with_state(list=looped_list(), dict={"a": [1]}).with_entrypoint("act").build()
    app.step()
    app.step()
    in_list, in_dict, (copied_list, copied_dict, pickled) = app.state["list"], app.state["dict"], app.state["copies"]
    assert in_list[1][0] is in_list
    assert copied_list[1][0] is copied_list
    assert [each["self"] is each for each in (in_dict, copied_dict, pickled)] == [True] * 3


def test_a_dataclass_with_values_of_the_state_is_made_a_dict_as_any_other() -> None:
    @action(reads=["items"], writes=["items", "made"])
    def act(state: State) -> State:
        made = dataclasses.asdict(Box(state["items"]))
        made["items"][0]["tags"].append("new")
        return state.update(items=state["items"], made=made)

    builder = ApplicationBuilder().with_actions(act).with_transitions(("act", "act"))
    app = builder.with_state(items=[{"tags": ["old"]}], made={}).with_entrypoint("act").build()
    for _ in range(2):
        app.step()
        assert app.state["items"] == [{"tags": ["old"]}]
        assert app.state["made"] == {"items": [{"tags": ["old", "new"]}]}


def test_inputs_that_are_very_deep_stay_the_callers() -> None:
    @action(reads=[], writes=["n"])
    def act(state: State, value: Any) -> State:
        while value:
            value.append(1)
            value = value[0]
        return state.update(n=1)

    given: list[Any] = []
    inner = given
    for _ in range(500):
        inner.append([])
        inner = inner[0]
    builder = ApplicationBuilder().with_actions(act).with_transitions(("act", "act")).with_state(n=0)
    builder.with_entrypoint("act").build().step(inputs={"value": given})
    lengths = set()
    while given:
        lengths.add(len(given))
        given = given[0]
    assert lengths == {1}


def test_a_list_that_is_added_to_itself_has_each_of_its_items_twice() -> None:
    @action(reads=["x"], writes=["x"])
    def act(state: State) -> State:
        value = state["x"]
        value += value
        value[0].append(1)
        return state.update(x=value)

    builder = ApplicationBuilder().with_actions(act).with_transitions(("act", "act")).with_state(x=[[0]])
    app = builder.with_entrypoint("act").build()
    app.step()
    assert app.state["x"] == [[0, 1], [0, 1]]
