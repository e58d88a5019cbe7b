"""Actions: what the decorators make of functions, what is bound, what classes declare, and what is refused."""

import inspect
from typing import Any

import pytest

from app.engine import (
    Action,
    ApplicationBuilder,
    FunctionBasedAction,
    Graph,
    GraphBuilder,
    State,
    action,
    bind,
    create_action,
    default,
    streaming_action,
    type_eraser,
    when,
)
from app.engine.errors import BuildError, GraphError, InvalidInputs, UnknownAction, UnknownTag


@action(reads=["n"], writes=["n"], tags=["t"])
def add(state: State, by: int, times: int = 1) -> State:
    """Adds."""
    return state.increment(n=by * times)


def test_a_decorated_function_stays_a_function_and_has_an_action() -> None:
    made = add.action_function
    assert add(State({"n": 1}), by=2) == {"n": 3}
    assert (made.reads, made.writes, made.tags, made.inputs) == (["n"], ["n"], ["t"], (["by"], ["times"]))
    assert made.optional_and_required_inputs == ({"by"}, {"times"})
    assert (made.single_step, made.streaming, made.is_async(), made.name) == (True, False, False, None)
    assert "return state.increment" in made.get_source()
    assert made.run_and_update(State({"n": 1}), by=2) == {"n": 3}


def test_bind_gives_a_copy_with_fewer_inputs() -> None:
    bound = add.bind(by=5)
    again = bound.bind(times=2)
    assert [each.action_function.inputs for each in (add, bound, again)] == [(["by"], ["times"]), ([], ["times"]), ([], [])]
    application = ApplicationBuilder().with_actions(one=bound, two=again).with_transitions(("one", "two")).with_state(n=0)
    assert application.with_entrypoint("one").build().run()[2] == {"n": 15}
    assert bind(add, by=1).action_function.inputs == ([], ["times"])


def test_bind_refuses_what_is_no_parameter() -> None:
    with pytest.raises(GraphError, match=r"function 'add' has no parameters \['bye'\] to bind; it has \['by', 'times'\]"):
        add.bind(bye=1)


def test_one_function_can_stand_for_several_actions() -> None:
    builder = ApplicationBuilder().with_actions(add.bind(by=1), other=add.bind(by=2)).with_transitions(("add", "other"))
    assert builder.with_state(n=0).with_entrypoint("add").build().run()[2] == {"n": 3}


def test_a_decorated_function_gives_its_action_under_a_name() -> None:
    named = add.bind(by=2).with_name("add_two")
    assert (named.name, named.inputs, add.action_function.name) == ("add_two", ([], ["times"]), None)


def test_an_action_takes_its_name_once() -> None:
    named = add.action_function.with_name("adder")
    assert (named.name, repr(named), repr(add.action_function)) == ("adder", "adder: n -> n", "None: n -> n")
    with pytest.raises(BuildError, match="'adder' has a name already"):
        named.with_name("other")


@pytest.mark.parametrize("wrong", ["text", 3, lambda state: state])
def test_what_is_no_action_is_refused(wrong: Any) -> None:
    with pytest.raises(GraphError, match=r"'x' is .*, not an action; decorate it"):
        create_action(wrong, "x")


def test_names_must_come_as_a_list() -> None:
    with pytest.raises(GraphError, match="declares reads as the string 'abc'; expected a list of names"):
        action(reads="abc", writes=[])(lambda state: state)  # type: ignore[arg-type]  # the mistake that is tested


def test_validate_inputs_names_what_is_wrong() -> None:
    made = add.action_function.with_name("add")
    made.validate_inputs({"by": 1})
    with pytest.raises(InvalidInputs, match=r"action 'add' misses the inputs \['by'\] and got the inputs \['x'\]"):
        made.validate_inputs({"x": 1})
    with pytest.raises(InvalidInputs):
        made.validate_inputs(None)


class Counter(Action):
    @property
    def reads(self) -> list[str]:
        return ["n"]

    @property
    def writes(self) -> list[str]:
        return ["n"]

    @property
    def inputs(self) -> list[str]:
        return ["by"]

    @type_eraser
    def run(self, state: State, by: int) -> dict[str, Any]:
        return {"n": state["n"] + by}

    def update(self, result: dict[str, Any], state: State) -> State:
        return state.update(**result)


def test_a_class_of_ones_own_is_an_action() -> None:
    builder = ApplicationBuilder().with_actions(count=Counter()).with_state(n=1).with_entrypoint("count")
    named, result, state = builder.build().step(inputs={"by": 4})
    assert (named.name, result, state) == ("count", {"n": 5}, {"n": 5})
    assert (Counter().tags, Counter().single_step, Counter().input_schema(), Counter().name) == ([], False, None, None)
    assert "class Counter" in Counter().get_source()


async def test_an_async_class_works_like_a_sync_one() -> None:
    class ACounter(Counter):
        @type_eraser
        async def run(self, state: State, by: int) -> dict[str, Any]:
            return {"n": state["n"] + by}

    builder = ApplicationBuilder().with_actions(count=ACounter()).with_state(n=1).with_entrypoint("count")
    assert (await builder.build().astep(inputs={"by": 4}))[2] == {"n": 5}
    assert ACounter().is_async()


def test_type_eraser_keeps_the_kind_and_the_signature() -> None:
    @type_eraser
    async def run(self: Any, state: State, by: int) -> None: ...

    assert inspect.iscoroutinefunction(run)
    assert list(inspect.signature(run).parameters) == ["self", "state", "by"]


def test_a_subclass_of_a_function_based_action_is_called_through_its_own_method() -> None:
    class Doubled(FunctionBasedAction):
        def run_and_update(self, state: State, **inputs: Any) -> Any:
            return super().run_and_update(super().run_and_update(state, **inputs), **inputs)

    made = Doubled(lambda state: state.increment(n=1), ["n"], ["n"])
    builder = ApplicationBuilder().with_actions(count=made).with_state(n=0).with_entrypoint("count")
    assert builder.build().step()[2] == {"n": 2}


def test_the_state_may_have_any_name_and_the_rest_are_inputs() -> None:
    @streaming_action(reads=["n"], writes=["n"])
    def go(s: State, *, by: int, **_: Any) -> Any:
        yield {}, s.increment(n=by)

    assert go.action_function.inputs == (["by"], [])


def graph() -> Graph:
    builder = GraphBuilder().with_actions(a=add.bind(by=1), b=add.bind(by=2), c=Counter())
    return builder.with_transitions((["a", "b"], "c", when(n=2)), ("a", "b")).build()


def test_a_graph_knows_its_actions_tags_and_ways() -> None:
    made = graph()
    assert [(each.from_.name, each.to.name, each.condition.name) for each in made.transitions] == [
        ("a", "c", "n=2"),
        ("b", "c", "n=2"),
        ("a", "b", "default"),
    ]
    assert list(made.action_names) == ["a", "b", "c"]
    assert made.get_action("a").name == "a"
    assert [each.name for each in made.get_actions_by_tag("t")] == ["a", "b"]
    assert made.get_next_node(None, State(), "b").name == "b"
    assert made.get_next_node("a", State({"n": 2}), "a").name == "c"
    assert made.get_next_node("a", State({"n": 1}), "a").name == "b"
    assert made.get_next_node("c", State({"n": 1}), "a") is None
    with pytest.raises(UnknownAction):
        made.get_action("aa")
    with pytest.raises(UnknownTag):
        made.get_actions_by_tag("tt")


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: GraphBuilder().build(), BuildError, "needs at least one action"),
        (lambda: GraphBuilder().with_actions(a=add).with_actions(a=add).build(), GraphError, "two actions are named 'a'"),
        (
            lambda: GraphBuilder().with_actions(a=add).with_transitions(("a", "bb")).build(),
            UnknownAction,
            "the transition 'a' -> 'bb' names the action 'bb'",
        ),
        (
            lambda: GraphBuilder().with_actions(a=add).with_transitions(("x", "a")).build(),
            UnknownAction,
            "the transition 'x' -> 'a' names the action 'x'",
        ),
        (
            lambda: GraphBuilder().with_actions(a=add).with_transitions(("a", "a"), ("a", "a", default)).build(),
            GraphError,
            "can never be taken: 'a' has a default transition already",
        ),
        (lambda: GraphBuilder().with_transitions(("a", 3)), GraphError, "names the int 3"),  # type: ignore[arg-type]
        (lambda: GraphBuilder().with_transitions(("a", "b", True)), GraphError, "has a bool as its condition"),  # type: ignore[arg-type]
        (lambda: GraphBuilder().with_actions(Counter()), GraphError, "Counter has no name"),
    ],
)
def test_what_makes_no_graph_is_refused_by_name(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_graphs_can_be_joined() -> None:
    other = GraphBuilder().with_actions(d=add.bind(by=1)).build()
    builder = ApplicationBuilder().with_graphs(graph(), other).with_transitions(("b", "d")).with_entrypoint("b").with_state(n=0)
    builder.with_validation("off")
    application = builder.build()
    assert list(application.graph.action_names) == ["a", "b", "c", "d"]
    application.step()
    assert application.get_next_action().name == "c"
    with pytest.raises(GraphError, match="two actions are named 'a'"):
        GraphBuilder().with_graph(graph()).with_graph(graph()).build()
