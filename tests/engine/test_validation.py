"""What is wrong with a graph is found before it runs, and named with a way on which it goes wrong."""

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine import (
    Action,
    ApplicationBuilder,
    FindingKind,
    GraphWarning,
    InvalidGraph,
    Placeholder,
    default,
    on_error,
    validate,
    when,
)
from app.engine.graph import Graph, GraphBuilder


class Asking(Placeholder):
    def __init__(self, *inputs: str) -> None:
        super().__init__([], [])
        self._inputs = list(inputs)

    @property
    def inputs(self) -> list[str]:
        return self._inputs


def node(reads: str = "", writes: str = "") -> Action:
    return Placeholder(reads.split(), writes.split())


def graph_of(transitions: list[Any], **actions: Action) -> Graph:
    return GraphBuilder().with_actions(**actions).with_transitions(*transitions).build()


def found(graph: Graph, start: str = "a", keys: tuple[str, ...] = ()) -> list[tuple[FindingKind, str, tuple[str, ...]]]:
    return [(finding.kind, finding.action, finding.path) for finding in validate(graph, start, keys)]


def test_a_sound_graph_has_no_findings() -> None:
    graph = graph_of([("a", "b", when(x=1)), ("a", "c"), ("b", "a")], a=node(writes="x"), b=node("x"), c=node("x"))
    assert found(graph) == []


def test_an_action_to_which_no_way_leads_is_named() -> None:
    graph = graph_of([("a", "b"), ("c", "b")], a=node(), b=node(), c=node())
    (finding,) = validate(graph, "a")
    assert finding.kind is FindingKind.UNREACHABLE_ACTION
    assert str(finding) == "action 'c' is never reached: no way leads to it from the entrypoint 'a'"


def test_a_transition_behind_the_default_one_is_never_taken() -> None:
    graph = graph_of([("a", "b"), ("a", "c", when(x=1))], a=node(writes="x"), b=node(), c=node())
    assert found(graph) == [
        (FindingKind.UNREACHABLE_ACTION, "c", ()),
        (FindingKind.UNREACHABLE_TRANSITION, "a", ("a", "c")),
    ]


def test_a_key_that_one_way_leaves_unwritten_is_named_with_that_way() -> None:
    graph = graph_of(
        [("a", "b", when(x=1)), ("a", "c"), ("b", "d"), ("c", "d")],
        a=node(writes="x"),
        b=node(writes="answer"),
        c=node(),
        d=node("answer x"),
    )
    (finding,) = validate(graph, "a")
    assert str(finding) == "action 'd' reads 'answer', which nothing has written on the way a -> c -> d"


def test_a_key_that_the_state_has_from_the_beginning_counts_as_written() -> None:
    graph = graph_of([], a=node("x"))
    assert found(graph) == [(FindingKind.UNWRITTEN_KEY, "a", ("a",))]
    assert found(graph, keys=("x",)) == []


def test_a_misspelt_key_is_named_with_the_one_that_was_meant() -> None:
    graph = graph_of([("a", "b")], a=node(writes="answer"), b=node("anwser"))
    assert str(validate(graph, "a")[0]).endswith("on the way a -> b; did you mean 'answer'?")


def test_the_keys_of_a_condition_must_be_written_before_it_is_asked() -> None:
    condition = type(default)(["done"], lambda state: state["done"], name="done")
    graph = graph_of([("a", "b", condition)], a=node(), b=node(writes="done"))
    (finding,) = validate(graph, "a")
    assert str(finding) == "the condition 'done' of 'a' -> 'b' reads 'done', which nothing has written on the way a"


def test_an_action_that_failed_has_written_nothing() -> None:
    rescue = on_error(ValueError)
    graph = graph_of([("a", "b"), ("a", "c", rescue)], a=node(writes="x"), b=node("x"), c=node("x"))
    assert found(graph) == [(FindingKind.UNWRITTEN_KEY, "c", ("a", "c"))]


def test_an_input_that_an_error_cannot_bring_is_named() -> None:
    graph = graph_of([("a", "b", on_error(ValueError))], a=Asking("question"), b=Asking("reason"))
    (finding,) = validate(graph, "a")
    assert finding.kind is FindingKind.IMPOSSIBLE_INPUT
    assert str(finding) == (
        "action 'b' needs the inputs ['reason'], but an error in 'a' leads to it without any, and 'b' is never first in a run"
    )


def test_an_input_with_a_reserved_name_is_one_that_nobody_can_give() -> None:
    graph = graph_of([], a=Asking("__secret", "__context"))
    assert (
        str(validate(graph, "a")[0]) == "action 'a' needs the inputs ['__secret'], which nobody can give: such names are reserved"
    )


def test_a_builder_warns_of_each_finding_and_builds_all_the_same() -> None:
    builder = ApplicationBuilder().with_actions(a=node("x"), b=node("y")).with_entrypoint("a")
    with pytest.warns(GraphWarning) as caught:
        application = builder.build()
    assert application.entrypoint == "a"
    assert [str(each.message).split(",")[0] for each in caught] == [
        "action 'b' is never reached: no way leads to it from the entrypoint 'a'",
        "action 'a' reads 'x'",
    ]
    assert {each.filename for each in caught} == {__file__}


def test_a_builder_can_be_told_to_refuse_what_is_wrong() -> None:
    builder = ApplicationBuilder().with_actions(a=node("x")).with_entrypoint("a").with_validation("error")
    with pytest.raises(InvalidGraph, match="reads 'x'") as caught:
        builder.blueprint()
    assert [finding.action for finding in caught.value.findings] == ["a"]


def test_a_builder_can_be_told_not_to_look() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ApplicationBuilder().with_actions(a=node("x")).with_entrypoint("a").with_validation("off").build()


@given(st.data())
def test_a_finding_of_an_unwritten_key_always_names_a_real_way(data: st.DataObject) -> None:
    names = "abcde"
    keys = st.sets(st.sampled_from("xy"), max_size=2).map(" ".join)
    ends = st.tuples(st.sampled_from(names), st.sampled_from(names))
    edges = data.draw(st.lists(ends, max_size=8, unique=True))
    actions = {name: node(data.draw(keys), data.draw(keys)) for name in names}
    graph = graph_of([(*edge, when(z=1)) for edge in edges], **actions)
    for finding in validate(graph, "a", ("z",)):
        if finding.kind is not FindingKind.UNWRITTEN_KEY:
            continue
        assert finding.path[0] == "a"
        assert finding.path[-1] == finding.action
        assert set(zip(finding.path, finding.path[1:], strict=False)) <= set(edges)
        unwritten = set(actions[finding.action].reads)
        for name in finding.path[:-1]:
            unwritten -= set(actions[name].writes)
        assert unwritten
