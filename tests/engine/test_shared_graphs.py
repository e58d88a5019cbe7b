"""What is said again is not worked out again: builders that are told the same make applications of one graph."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from app.engine import (
    Action,
    Application,
    ApplicationBuilder,
    Condition,
    GraphWarning,
    Result,
    SingleStepAction,
    State,
    action,
    expr,
    lmda,
    when,
)
from app.engine.shared_graphs import shared_graph


@action(reads=["n"], writes=["n"])
def count(state: State, by: int = 1) -> State:
    return state.update(n=state["n"] + by)


@action(reads=["missing"], writes=["n"])
def mistaken(state: State) -> State:
    return state.update(n=state["missing"])


class Own(SingleStepAction):
    reads = property(lambda self: ["n"])
    writes = property(lambda self: ["n"])

    def run_and_update(self, state: State, **run_kwargs: Any) -> State:
        return state.update(n=9)


def counting(of: Any = count, condition: Condition | None = None, **state: Any) -> ApplicationBuilder:
    builder = ApplicationBuilder().with_actions(count=of, check=count).with_entrypoint("count")
    until = when(n=3) if condition is None else condition
    return builder.with_transitions(("count", "check", until), ("count", "count"), ("check", "count")).with_state(n=0, **state)


def records(application: Application) -> dict[str, Any]:
    return application.blueprint.actions


def test_builders_that_are_told_the_same_make_applications_of_one_graph() -> None:
    one, other = counting().build(), counting(other=1).build()
    assert records(one) is records(other)
    one.step()
    assert (one.state["n"], one.sequence_id, other.state["n"], other.sequence_id) == (1, 0, 0, None)
    assert records(counting(count.bind(by=2)).build()) is not records(one)
    assert records(counting(condition=when(n=4)).build()) is not records(one)


@pytest.mark.parametrize("own", [Own, lambda: Result("n")])
def test_graphs_with_actions_of_classes_are_not_shared(own: Callable[[], Action]) -> None:
    made = own()
    assert records(counting(made).build()) is not records(counting(made).build())


def test_a_host_that_redirects_an_action_does_so_for_its_own_machine_alone() -> None:
    counting().build()
    hosted = counting().blueprint()
    hosted.redirect("count", lambda call: lambda state, **inputs: state.update(n=100))
    alone, of_the_host = counting().build(), hosted.instantiate(app_id="a")
    alone.step()
    of_the_host.step()
    assert (alone.state["n"], of_the_host.state["n"]) == (1, 100)


def test_findings_are_told_with_every_build() -> None:
    for _ in range(2):
        with pytest.warns(GraphWarning, match="reads 'missing'"):
            counting(mistaken).build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counting(mistaken, missing=1).build()
    with pytest.warns(GraphWarning, match="reads 'missing'"):
        counting(mistaken).build()


def test_actions_that_are_bound_anew_each_time_are_not_kept_for_ever() -> None:
    def build(by: int) -> Application:
        more = count.bind(by=by)
        return counting().with_actions(more=more).with_transitions(("more", "count")).with_validation("off").build()

    first = build(0).graph.actions[0]
    for by in range(20):
        assert build(by).graph.actions[0] is first
    assert 1 <= len(vars(first)["_graphs"]) <= 8


def test_states_that_are_never_alike_are_not_remembered_for_ever() -> None:
    for index in range(20):
        graph = counting(**{f"key_{index}": 1}).build().graph
    assert records(counting(key_19=1).build()) is vars(graph)["_compiled"]
    assert len(vars(graph)["_reported"]) == 8


def test_a_condition_on_plain_values_is_made_once() -> None:
    assert when(n=1, name="x") is when(n=1, name="x")
    assert expr("n < 3") is expr("n < 3")
    assert when(n=1) is not when(n=True)
    assert (when(n=1).name, when(n=True).name) == ("n=1", "n=True")
    assert when(n=[1]) is not when(n=[1])
    assert lmda(len, ["n"]) is not lmda(len, ["n"])


def test_an_action_travels_without_the_graphs_that_it_is_in() -> None:
    builder = counting().graph_builder
    assert builder is not None
    named = shared_graph(builder).actions[0]
    assert len(vars(named)["_graphs"]) > 0
    assert named.__getstate__()["_graphs"] == {}  # type: ignore[index]  # it is a dict
