"""The state: an immutable mapping, and what each of its methods gives."""

import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine import (
    AppendFields,
    ApplicationBuilder,
    DeleteField,
    ExtendFields,
    IncrementFields,
    SetFields,
    State,
    action,
    when,
)
from app.engine.errors import OperationError, UnknownKey
from app.engine.operations import Append, Delete, Extend, Increment, Set


def test_every_change_gives_a_new_state_and_leaves_the_old_one() -> None:
    state = State({"n": 1, "log": ["a"]})
    assert [
        state.update(n=2, m=3),
        state.append(log="b", other=1),
        state.extend(log=["b", "c"], other=(1,)),
        state.increment(n=2, m=3),
        state.wipe(delete=["n", "absent"]),
        state.wipe(keep=["n"]),
        state.wipe(),
        state.merge(State({"n": 5, "m": 6})),
        state.subset("n", "absent"),
    ] == [
        {"n": 2, "log": ["a"], "m": 3},
        {"n": 1, "log": ["a", "b"], "other": [1]},
        {"n": 1, "log": ["a", "b", "c"], "other": [1]},
        {"n": 3, "log": ["a"], "m": 3},
        {"log": ["a"]},
        {"n": 1},
        {},
        {"n": 5, "log": ["a"], "m": 6},
        {"n": 1},
    ]
    assert state == {"n": 1, "log": ["a"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.append(n=1), "cannot append to key 'n': it holds an int, not a list"),
        (lambda state: state.extend(n=[1]), "cannot extend key 'n': it holds an int, not a list"),
        (lambda state: state.increment(log=1), "cannot increment key 'log': it holds a list, not a number"),
    ],
)
def test_an_operation_that_does_not_fit_its_value_is_an_error_without_the_value(change: Any, message: str) -> None:
    with pytest.raises(OperationError, match=message):
        change(State({"n": 41, "log": []}))


def test_a_missing_key_is_an_error_that_names_the_nearest_one() -> None:
    with pytest.raises(UnknownKey) as caught:
        State({"history": 1})["histry"]
    assert str(caught.value) == "the state has no key 'histry'; it has ['history']; did you mean 'history'?"
    assert State({"a": 1}).get("b", 7) == 7
    assert isinstance(caught.value, KeyError)


def test_subset_can_insist_on_its_keys() -> None:
    with pytest.raises(KeyError):
        State({"a": 1}).subset("b", ignore_missing=False)


def test_wipe_takes_one_kind_of_list() -> None:
    with pytest.raises(ValueError, match="not both"):
        State({}).wipe(delete=["a"], keep=["b"])


def test_keys_and_get_all_are_the_callers_own() -> None:
    state = State({"a": 1})
    state.keys().append("b")
    state.get_all()["b"] = 2
    assert (state, len(state), list(state), repr(state)) == ({"a": 1}, 1, ["a"], "{'a': 1}")


def test_data_is_the_state_as_its_typing_system_has_it() -> None:
    state = State({"a": 1})
    assert state.data == {"a": 1}
    assert state.data is state.data


def test_a_state_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(State({"a": [1]}))) == {"a": [1]}


def test_a_state_goes_through_serialize_and_back() -> None:
    state = State({"a": 1, "b": [1, {"c": None}]})
    assert State.deserialize(state.serialize()) == state


@pytest.mark.parametrize(
    ("delta", "after"),
    [
        (SetFields({"n": 9}), {"n": 9, "log": [1]}),
        (AppendFields({"log": 2}), {"n": 1, "log": [1, 2]}),
        (ExtendFields({"log": [2, 3]}), {"n": 1, "log": [1, 2, 3]}),
        (IncrementFields({"n": 4}), {"n": 5, "log": [1]}),
        (DeleteField(["n"]), {"log": [1]}),
    ],
)
def test_deltas_of_burr_are_applied_and_can_be_written_down(delta: Any, after: dict[str, Any]) -> None:
    state = State({"n": 1, "log": [1]})
    assert state.apply_operation(delta) == after
    written = delta.base_serialize()
    again = type(delta).deserialize(written["operation"])
    assert (written["name"], again) == (delta.name(), delta)
    inputs = state.get_all()
    again.apply_mutate(inputs)
    assert inputs == after


values = st.integers(-5, 5)
operations = st.one_of(
    st.builds(Set, st.sampled_from("nm"), values),
    st.builds(Increment, st.sampled_from("nm"), values),
    st.builds(Append, st.sampled_from(["log", "new"]), values),
    st.builds(Extend, st.sampled_from(["log", "new"]), st.lists(values, max_size=3).map(tuple)),
    st.builds(Delete, st.sampled_from(["n", "log", "absent"])),
)


@given(st.lists(operations, max_size=8))
def test_operations_on_a_state_are_those_on_its_dict(done: list[Any]) -> None:
    expected: dict[str, Any] = {"n": 1, "log": [0]}
    for operation in done:
        operation.apply(expected)
    assert State({"n": 1, "log": [0]}).apply_operations(done) == expected


@pytest.mark.parametrize("by", [Decimal("1.5"), Fraction(1, 3), 2, 2.5, 1j], ids=repr)
def test_a_number_of_any_type_is_incremented_again_and_again(by: Any) -> None:
    state = State()
    for _ in range(3):
        state = state.increment(total=by)
    assert (state["total"], type(state["total"])) == (by + by + by, type(by))


@pytest.mark.parametrize(("held", "by"), [("a", 1), (1, "a"), (1.5, Decimal(1)), (None, 1), ([], 1)], ids=repr)
def test_what_does_not_add_up_is_an_error_without_the_values(held: Any, by: Any) -> None:
    with pytest.raises(OperationError, match="cannot increment key 'total'"):
        State({"total": held}).increment(total=by)


def test_a_key_may_be_called_self_or_cls() -> None:
    state = State().update(self=1, cls=2).increment(self=1).append(items=1).update(state=3)
    assert (state["self"], state["cls"], state["state"]) == (2, 2, 3)
    assert State({"self": []}).append(self=1).extend(self=[2])["self"] == [1, 2]
    assert when(self=2, cls=2).run(state)["PROCEED"] is True

    @action(reads=["self"], writes=["self"])
    def grow(state: State, cls: int) -> State:
        return state.update(self=state["self"] + cls).increment(self=1)

    application = ApplicationBuilder().with_actions(grow).with_state(self=1).with_entrypoint("grow").build()
    assert application.run(halt_after=["grow"], inputs={"cls": 2})[2]["self"] == 4
