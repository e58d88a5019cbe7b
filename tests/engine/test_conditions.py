"""Conditions: what they say of a state, how they combine, what they are called."""

import pickle
from typing import Any

import pytest

from app.engine import ApplicationBuilder, Condition, State, action, default, expr, lmda, on_error, safe_expr, when
from app.engine.errors import ConditionError, UnsafeExpression


@action(reads=[], writes=[])
def nothing(state: State) -> State:
    return state


STATE = State({"n": 5, "name": "Ada", "tags": ["x"], "none": None})


@pytest.mark.parametrize(
    ("condition", "holds", "name"),
    [
        (default, True, "default"),
        (when(n=5), True, "n=5"),
        (when(n=5, name="Bob"), False, "n=5, name=Bob"),
        (when(n__eq=5), True, "n==5"),
        (when(n__ne=5), False, "n!=5"),
        (when(n__lt=6, n__gt=4), True, "n<6, n>4"),
        (when(n__lte=5, n__gte=5), True, "n<=5, n>=5"),
        (when(name__in=["Ada"]), True, "name in ['Ada']"),
        (when(name__notin=["Ada"]), False, "name not in ['Ada']"),
        (when(tags__contains="x"), True, "tags contains 'x'"),
        (when(none__is=None), True, "none is None"),
        (when(none__isnot=None), False, "none is not None"),
        (~when(n=5), False, "~n=5"),
        (when(n=5) & when(name="Ada"), True, "n=5 & name=Ada"),
        (when(n=4) | when(name="Ada"), True, "n=4 | name=Ada"),
        (expr("n > 4 and name == 'Ada'"), True, "n > 4 and name == 'Ada'"),
        (safe_expr("n > 5"), False, "n > 5"),
        (lmda(lambda state: state["n"] == 5, ["n"]), True, "lmda_<lambda>_"),
        (Condition(["n"], lambda state: state["n"] > 9, name="big"), False, "big"),
        (on_error(ValueError), False, "on_error(ValueError, max_attempts=3)"),
    ],
)
def test_what_a_condition_says_and_is_called(condition: Condition, holds: bool, name: str) -> None:
    assert (condition.run(STATE), condition.holds(STATE), condition.name) == ({"PROCEED": holds}, holds, name)
    assert repr(condition) == f"condition: {name}"


def test_a_condition_reads_the_keys_that_it_names() -> None:
    assert expr("n > len(name) and any(tag == 'x' for tag in tags)").reads == ["n", "name", "tags"]
    assert (when(a=1) & when(b__lt=2)).reads == ["a", "b"]


def test_a_missing_key_is_an_error_that_names_condition_and_key_and_no_value() -> None:
    with pytest.raises(ConditionError) as caught:
        when(nam="secret").run(State({"name": "hunter2"}))
    assert str(caught.value) == "condition 'nam=secret' needs the key 'nam'; the state has ['name']; did you mean 'name'?"
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("wrong", [1, "n > 1", None])
def test_only_conditions_combine(wrong: Any) -> None:
    with pytest.raises(ConditionError):
        when(n=1) & wrong
    with pytest.raises(ConditionError):
        when(n=1) | wrong


def test_an_operator_without_a_key_is_refused() -> None:
    with pytest.raises(ConditionError, match="no key before '__gte'"):
        when(__gte=1)


def test_on_error_joins_with_conditions_on_the_state_only() -> None:
    joined = on_error((ValueError, OSError), max_attempts=2) & when(n=5)
    assert joined.name == "on_error(ValueError, OSError, max_attempts=2) & n=5"
    assert (when(n=5) & on_error(OSError)).name == "on_error(OSError, max_attempts=3) & n=5"
    for refused in (lambda: ~on_error(OSError), lambda: on_error(OSError) | when(n=1), lambda: when(n=1) | on_error(OSError)):
        with pytest.raises(ConditionError):
            refused()
    with pytest.raises(ConditionError):
        on_error(OSError) & on_error(ValueError)
    with pytest.raises(ConditionError, match="at least 1"):
        on_error(OSError, max_attempts=0)


def test_a_condition_class_of_ones_own_is_asked_through_run() -> None:
    class Always(Condition):
        def run(self, state: State[Any], **_: Any) -> dict[str, Any]:
            return {Condition.KEY: True}

    @action(reads=[], writes=["n"])
    def one(state: State) -> State:
        return state.update(n=1)

    builder = ApplicationBuilder().with_actions(one=one, two=one).with_entrypoint("one")
    builder.with_transitions(("one", "two", Always([], lambda _: False, name="always")))
    application = builder.build()
    application.step()
    assert application.get_next_action().name == "two"
    assert application.graph.get_next_node("one", application.state, "one").name == "two"


def test_an_unsafe_expression_is_refused_when_the_condition_is_made() -> None:
    with pytest.raises(UnsafeExpression):
        expr("__import__('os').system('true')")


@pytest.mark.parametrize(
    "condition",
    [
        when(n=5, name__in=["Ada"]),
        expr("n > 4 and name == 'Ada'"),
        ~safe_expr("n > 5"),
        (when(n=4) | when(n=5)) & expr("len(tags) == 1"),
        default,
    ],
    ids=str,
)
def test_a_condition_means_the_same_in_another_process(condition: Condition) -> None:
    there = pickle.loads(pickle.dumps(condition))
    assert (there.name, there.reads, there.holds(STATE)) == (condition.name, condition.reads, True)
    assert not there.reads or not there.holds(State({"n": 6, "name": "Bob", "tags": []}))


def test_the_default_condition_and_on_error_are_the_same_in_another_process() -> None:
    assert pickle.loads(pickle.dumps(default)) is default
    rescue = pickle.loads(pickle.dumps(on_error(KeyError, max_attempts=2) & when(n=5)))
    assert rescue.handles(KeyError(), 1, STATE)
    assert not rescue.handles(KeyError(), 2, STATE)
    assert not rescue.handles(KeyError(), 0, State({"n": 6}))


def test_a_graph_can_go_to_another_process() -> None:
    machine = (
        ApplicationBuilder()
        .with_actions(visit=nothing, again=nothing)
        .with_transitions(("visit", "again", when(n=5)), ("again", "visit"))
    )
    application = machine.with_entrypoint("visit").with_state(n=5).build()
    application.step()
    graph = pickle.loads(pickle.dumps(application.graph))
    copy = ApplicationBuilder().with_graph(graph).with_entrypoint("visit").with_state(n=5).build()
    assert [copy.run(halt_after=["again"])[0].name for _ in range(2)] == ["again", "again"]
