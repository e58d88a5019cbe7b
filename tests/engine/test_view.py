"""The view: what an action sees of the state, and how its changes come to the whole of it."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine import ApplicationBuilder, State, action
from app.engine.errors import MissingWrite, UndeclaredRead, UndeclaredWrite, UnknownKey
from app.engine.operations import Append, Delete, Extend, Increment, Set, apply_all
from app.engine.view import Declared, View, changes_between, operations_of, present_values, settle, show, travelling_values

WHOLE = {"n": 1, "log": ["a"], "hidden": 7, "secret": "hunter2"}


def view_of(reads: tuple[str, ...] = ("n",), writes: tuple[str, ...] = ("n", "log", "hidden", "new")) -> View[Any]:
    declared = Declared("act", reads, frozenset(writes))
    return show(State(dict(WHOLE)), declared, reads)


def after(view: View[Any], changed: State[Any]) -> dict[str, Any]:
    """The whole state after an action returned `changed`: by its values, and by its operations, which must agree."""
    log = changes_between(view, changed)
    settled = settle(view._declared, WHOLE, log)
    assert apply_all(WHOLE, operations_of(log)) == settled
    return settled


def test_only_what_is_read_is_there() -> None:
    view = view_of()
    assert (view.get_all(), list(view), len(view), view.keys(), dict(**view)) == ({"n": 1}, ["n"], 1, ["n"], {"n": 1})


@pytest.mark.parametrize("look", [lambda view: view["secret"], lambda view: view.get("secret"), lambda view: "secret" in view])
def test_a_view_never_answers_wrongly_about_a_key_that_it_hides(look: Any) -> None:
    with pytest.raises(UndeclaredRead) as caught:
        look(view_of())
    assert str(caught.value) == "action 'act' reads 'secret', which it does not declare; its reads are ['n']"


def test_a_key_that_nobody_has_is_missing_as_in_any_mapping() -> None:
    view = view_of(reads=("n", "later"))
    assert (view.get("absent"), view.get("later", 3), "absent" in view) == (None, 3, False)
    with pytest.raises(UnknownKey, match="action 'act' reads 'later', which the state does not have"):
        view["later"]
    with pytest.raises(UndeclaredRead, match="neither the state nor its declaration has"):
        view["absent"]


def test_what_an_action_has_written_it_can_read() -> None:
    view = view_of()
    assert view.update(new=1)["new"] == 1
    assert view.append(log="b")["log"] == ["a", "b"]
    assert view.increment(hidden=1)["hidden"] == 8


def test_operations_on_hidden_keys_act_on_the_real_values() -> None:
    view = view_of()
    changed = view.append(log="b").increment(hidden=2).extend(log=["c"]).update(new=0)
    assert after(view, changed) == {**WHOLE, "log": ["a", "b", "c"], "hidden": 9, "new": 0}
    assert operations_of(changed._log) == (Append("log", "b"), Increment("hidden", 2), Extend("log", ("c",)), Set("new", 0))


def test_wiping_reaches_the_whole_state() -> None:
    view = view_of(writes=())
    assert after(view, view.wipe(delete=["hidden", "n", "absent"])) == {"log": ["a"], "secret": "hunter2"}
    assert after(view, view.wipe(keep=["n"])) == {"n": 1}
    assert after(view, view.wipe()) == {}


def test_a_wiped_key_starts_anew() -> None:
    view = view_of(writes=("log",))
    changed = view.wipe(delete=["log"]).append(log="z")
    assert after(view, changed) == {**WHOLE, "log": ["z"]}
    assert "hidden" not in view.wipe(delete=["hidden"])


def test_merging_sets_what_differs() -> None:
    view = view_of()
    changed = view.merge(State({"n": 1, "new": 2}))
    assert operations_of(changes_between(view, changed)) == (Set("new", 2),)


def test_a_foreign_state_is_compared_with_what_is_shown() -> None:
    view = view_of(reads=("n", "hidden"), writes=("new",))
    changed = State({"n": 1, "new": 5, "__PRIOR_STEP": "x"})
    assert operations_of(changes_between(view, changed)) == (Set("new", 5), Delete("hidden"))
    assert after(view, changed) == {"n": 1, "log": ["a"], "secret": "hunter2", "new": 5}


def test_values_that_cannot_be_compared_count_as_changed() -> None:
    class Awkward:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    old, new = Awkward(), Awkward()
    view = show(State({"x": old}), Declared("act", ("x",), frozenset("x")), ("x",))
    assert [operation.key for operation in operations_of(changes_between(view, State({"x": new})))] == ["x"]
    assert operations_of(changes_between(view, State({"x": old}))) == ()


def test_an_equal_value_of_another_type_counts_as_changed() -> None:
    view = view_of()
    assert operations_of(changes_between(view, State({"n": True}))) == (Set("n", True),)


def test_an_undeclared_write_names_action_key_and_declaration() -> None:
    view = view_of(writes=("count",))
    with pytest.raises(
        UndeclaredWrite, match=r"action 'act' wrote \['counts'\] but declares \['count'\]; did you mean 'count'\?"
    ):
        settle(view._declared, WHOLE, view.update(counts=1)._log)


def test_a_missing_write_names_action_key_and_declaration() -> None:
    view = view_of()
    with pytest.raises(MissingWrite, match=r"action 'act' did not write \['new'\]"):
        settle(view._declared, WHOLE, view.update(n=1)._log)


def test_a_declared_key_that_was_there_before_counts_as_written() -> None:
    view = view_of(writes=("n",))
    assert after(view, view) == WHOLE


def test_a_view_travels_with_what_its_action_may_touch_and_no_more() -> None:
    view = view_of()
    travelled = pickle.loads(pickle.dumps(view.increment(n=1)))
    assert travelled == {"n": 2}
    assert operations_of(travelled.append(log="b")._log) == (Increment("n", 1), Append("log", "b"))
    assert travelled.append(log="b")["log"] == ["a", "b"]
    assert travelling_values(view) == {"n": 1, "log": ["a"], "hidden": 7}
    assert b"hunter2" not in pickle.dumps(view)


def test_present_values_look_behind_the_view() -> None:
    assert present_values(view_of().wipe(delete=["log"]), ["n", "hidden", "log", "absent"]) == {"n": 1, "hidden": 7}


def test_a_reducer_sees_what_it_reads_and_what_it_writes() -> None:
    from app.engine import Action

    class TwoParts(Action):
        reads = property(lambda self: ["n"])
        writes = property(lambda self: ["total"])

        def run(self, state: State, **_: Any) -> dict[str, Any]:
            assert state.get_all() == {"n": 2}
            return {"add": state["n"]}

        def update(self, result: dict[str, Any], state: State) -> State:
            assert state.get_all() == {"n": 2, "total": 5}
            return state.update(total=state["total"] + result["add"])

    builder = ApplicationBuilder().with_actions(two=TwoParts()).with_entrypoint("two").with_state(n=2, total=5, other=0)
    assert builder.build().step()[1:] == ({"add": 2}, {"n": 2, "total": 7, "other": 0})


@given(st.integers(2, 40))
def test_appending_never_touches_the_list_that_others_hold(times: int) -> None:
    @action(reads=[], writes=["log"])
    def note(state: State) -> State:
        return state.append(log=len(seen))

    seen: list[list[int]] = []
    application = ApplicationBuilder().with_actions(note).with_transitions(("note", "note")).with_entrypoint("note").build()
    for _ in range(times):
        _, _, state = application.step()
        seen.append(state["log"])
    assert [len(each) for each in seen] == list(range(1, times + 1))
