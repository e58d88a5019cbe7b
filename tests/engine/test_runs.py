"""Runs in both colours: what they return, where they halt, and what failures leave behind."""

import asyncio
import warnings
from typing import Any

import pytest

from app.engine import ApplicationBuilder, GraphWarning, Input, PostRunStepHook, Result, State, action, default, expr, when
from app.engine.errors import ConditionError, InvalidInputs, InvalidResult, UnknownAction, UnknownTag
from tests.engine.calls import METHODS, arun_to_end, run_to_end
from tests.engine.machines import Boom, acount, count, counting, fail


@action(reads=["n"], writes=["n"], tags=["odd"])
def one(state: State) -> State:
    return state.increment(n=1)


@action(reads=["n"], writes=["n"], tags=["even", "last"])
def two(state: State) -> State:
    return state.increment(n=10)


def ring(*actions: str) -> ApplicationBuilder[Any]:
    """Actions that follow each other for ever."""
    kinds = {"one": one, "two": two, "three": one}
    return (
        ApplicationBuilder()
        .with_actions(**{name: kinds[name] for name in actions})
        .with_transitions(*zip(actions, (*actions[1:], actions[0]), strict=True))
        .with_state(n=0)
        .with_entrypoint(actions[0])
    )


def seen(triple: Any) -> tuple[Any, Any, Any]:
    action_, result, state = triple
    return None if action_ is None else action_.name, result, state.get_all()


@pytest.mark.parametrize(
    ("halts", "expected"),
    [
        ({"halt_after": ["two"]}, ("two", {}, {"n": 11})),
        ({"halt_before": ["two"]}, ("two", None, {"n": 1})),
        ({"halt_before": ["two"], "halt_after": ["one"]}, ("two", None, {"n": 1})),
        ({"halt_before": ["one"]}, ("one", None, {"n": 11})),
        ({"halt_after": ["@tag:even"]}, ("two", {}, {"n": 11})),
        ({"halt_before": ["@tag:last", "one"]}, ("two", None, {"n": 1})),
        ({"halt_after": "two"}, ("two", {}, {"n": 11})),
    ],
)
def test_where_a_run_halts_and_what_it_returns(halts: dict[str, Any], expected: Any) -> None:
    assert seen(ring("one", "two").build().run(**halts)) == expected

    def last_of_iterate() -> Any:
        steps = ring("one", "two").build().iterate(**halts)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    assert seen(last_of_iterate()) == expected


def test_a_run_of_an_ended_application_does_nothing() -> None:
    application = counting(limit=1).build()
    assert seen(application.run()) == ("count", {"n": 1}, {"n": 1})
    assert seen(application.run()) == (None, None, {"n": 1})
    assert (application.step(), list(application.iterate()), application.sequence_id) == (None, [], 0)
    assert (application.get_next_action(), application.has_next_action()) == (None, False)


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_unknown_halt_action_is_an_error_that_names_the_nearest_one(method: str) -> None:
    application = ring("one", "two").build()
    with pytest.raises(UnknownAction, match=r"names the action 'twoo', which does not exist; .* did you mean 'two'\?"):
        run_to_end(application, method, "twoo")
    with pytest.raises(
        UnknownTag, match=r"no action has the tag 'odds'; tags are \['even', 'last', 'odd'\]; did you mean 'odd'\?"
    ):
        run_to_end(application, method, "@tag:odds")
    assert application.sequence_id is None


@pytest.mark.parametrize("method", METHODS)
def test_inputs_reach_the_action_and_wrong_ones_are_refused_before_it_runs(method: str) -> None:
    @action(reads=["n"], writes=["n"])
    def add(state: State, by: int, twice: bool = False) -> State:
        return state.increment(n=by * (2 if twice else 1))

    application = counting(add).build()
    assert run_to_end(application, method, "count", {"by": 2, "twice": True}) == {"n": 4}
    for wrong, message in [
        ({}, r"action 'count' misses the inputs \['by'\]; it takes \['by', 'twice'\]"),
        ({"by": 1, "twic": 1}, r"got the inputs \['twic'\], which it does not declare; .* did you mean 'twice'\?"),
        ({"bye": 1}, r"misses the inputs \['by'\] and got the inputs \['bye'\]"),
        ({"by": 1, "__context": 1}, r"got the inputs \['__context'\]"),
    ]:
        with pytest.raises(InvalidInputs, match=message):
            run_to_end(application, method, "count", wrong)
    assert (application.state.get_all(), application.sequence_id) == ({"n": 4}, 0)


def test_a_later_action_that_needs_an_input_stops_the_run_after_what_was_done() -> None:
    @action(reads=["n"], writes=["n"])
    def ask(state: State, by: int) -> State:
        return state.increment(n=by)

    builder = ApplicationBuilder().with_actions(one=one, ask=ask).with_transitions(("one", "ask")).with_state(n=0)
    application = builder.with_entrypoint("one").build()
    with pytest.raises(InvalidInputs, match="action 'ask' misses"):
        application.run()
    assert (application.state.get_all(), application.sequence_id) == ({"n": 1}, 0)
    assert seen(application.run(inputs={"by": 5})) == ("ask", {}, {"n": 6})


@pytest.mark.parametrize("method", METHODS)
def test_a_failing_action_changes_nothing_and_may_be_tried_again(method: str) -> None:
    failures = iter([True, False])

    @action(reads=["n"], writes=["n"])
    def fragile(state: State) -> State:
        if next(failures):
            raise Boom
        return state.increment(n=1)

    application = counting(fragile).build()
    with pytest.raises(Boom):
        run_to_end(application, method, "count")
    assert (application.state.get_all(), application.sequence_id) == ({"n": 0}, None)
    assert run_to_end(application, method, "count") == {"n": 1}
    assert application.sequence_id == 0


async def test_the_error_of_an_action_leaves_as_it_was_raised() -> None:
    for run in (lambda: counting(fail).build().step(),):
        with pytest.raises(Boom, match=r"^no$"):
            run()

    @action(reads=[], writes=["n"])
    async def afail(state: State) -> State:
        raise Boom("no")

    with pytest.raises(Boom, match=r"^no$"):
        await counting(afail).build().astep()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "gave None; expected the new State, or a tuple of a result and the new State"),
        (42, "gave an int; expected"),
        (("no dict", State()), "gave a str as its result; expected a dict"),
        (({}, {"n": 1}), "gave a dict as its state; expected a State"),
        (({}, State(), 3), "gave a tuple; expected"),
    ],
)
def test_a_result_of_the_wrong_shape_is_an_error_without_its_value(returned: Any, message: str) -> None:
    @action(reads=[], writes=["n"])
    def wrong(state: State) -> Any:
        return returned

    with pytest.raises(InvalidResult, match=f"action 'count' {message}"):
        counting(wrong).build().step()


def test_a_result_and_a_state_in_the_wrong_order_are_an_error_that_calls_the_state_a_state() -> None:
    @action(reads=[], writes=["n"])
    def wrong(state: State) -> Any:
        return state.update(n=1), {}

    with pytest.raises(InvalidResult, match="action 'count' gave a State as its result; expected a dict"):
        counting(wrong).build().step()


def test_the_first_transition_that_holds_is_taken() -> None:
    builder = ApplicationBuilder().with_actions(start=one, a=one, b=one, c=one).with_state(n=0).with_entrypoint("start")
    builder.with_transitions(("start", "a", when(n=2)), ("start", "b", expr("n == 1")), ("start", "c", default))
    assert builder.build().run(halt_after=["a", "b", "c"])[0].name == "b"


def test_a_condition_that_cannot_be_asked_stops_the_run_and_names_itself() -> None:
    builder = ApplicationBuilder().with_actions(start=one, other=one).with_state(n=0).with_entrypoint("start")
    with pytest.warns(GraphWarning, match="reads 'm', which nothing has written"):
        application = builder.with_transitions(("start", "other", when(m=1))).build()
    with pytest.raises(ConditionError, match="condition 'm=1' needs the key 'm'"):
        application.run(halt_after=["other"])


def test_input_and_result_carry_values_in_and_out() -> None:
    builder = ApplicationBuilder().with_actions(ask=Input("name", "age"), tell=Result("name")).with_state(other=1)
    application = builder.with_transitions(("ask", "tell")).with_entrypoint("ask").build()
    assert seen(application.run(halt_after=["tell"], inputs={"name": "Ada", "age": 36})) == (
        "tell",
        {"name": "Ada"},
        {"other": 1, "name": "Ada", "age": 36},
    )


async def test_async_runs_return_what_sync_runs_do() -> None:
    application = counting(acount, limit=3).build()
    assert seen(await application.astep()) == ("count", {"n": 1}, {"n": 1})
    assert [seen(each) async for each in application.aiterate(halt_after=["count"])] == [("count", {"n": 2}, {"n": 2})]
    assert seen(await application.arun()) == ("count", {"n": 3}, {"n": 3})
    assert await application.astep() is None


async def test_a_cancelled_run_commits_nothing_of_the_step_and_can_go_on() -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @action(reads=["n"], writes=["n"])
    async def wait(state: State) -> State:
        started.set()
        try:
            await gate.wait()
        except asyncio.CancelledError:
            cleaned.append(True)
            raise
        return state.increment(n=1)

    cleaned: list[bool] = []
    application = counting(wait).build()
    task = asyncio.create_task(application.arun(halt_after=["count"]))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (application.state.get_all(), application.sequence_id, cleaned) == ({"n": 0}, None, [True])
    gate.set()
    assert await arun_to_end(application, "run", "count") == {"n": 1}


def test_update_state_takes_the_position_of_the_state_along() -> None:
    application = ring("one", "two").build()
    first = application.step()[2]
    application.step()
    application.update_state(first)
    assert (application.get_next_action().name, application.sequence_id, application.state["n"]) == ("two", 0, 1)
    application.update_state(application.state.update(n=100))
    assert (application.get_next_action().name, application.sequence_id, application.state["n"]) == ("two", 0, 100)
    application.update_state(State({"n": 7}))
    assert (application.get_next_action().name, application.sequence_id, application.state["n"]) == ("one", None, 7)


def test_reset_to_entrypoint_keeps_state_and_number() -> None:
    application = ring("one", "two").build()
    application.step()
    application.reset_to_entrypoint()
    assert (application.get_next_action().name, application.sequence_id, application.state) == ("one", 0, {"n": 1})
    application.step()
    assert application.sequence_id == 1


def test_a_state_given_to_the_caller_is_not_the_one_of_the_next_step() -> None:
    application = counting().build()
    states = [application.step()[2] for _ in range(3)]
    assert states == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert application.state is states[-1]


def test_the_caller_may_change_the_state_between_two_steps_of_iterate() -> None:
    application = counting(limit=100).build()
    found = []
    for _, _, state in application.iterate(halt_after=[]):
        found.append(state["n"])
        application.update_state(application.state.update(n=state["n"] * 10))
    assert found == [1, 11]


def test_the_places_where_an_application_shows_itself() -> None:
    application = counting(count).build()
    assert (application.uid, application.partition_key, application.entrypoint, application.sequence_id) == (
        "app",
        "part",
        "count",
        None,
    )
    assert [each.name for each in application.graph.actions] == ["count"]
    assert application.graph.entrypoint.name == "count"
    assert application.builder.app_id == "app"
    assert (application.context.app_id, application.context.action_name) == ("app", "count")
    assert (application.parent_pointer, application.spawning_parent_pointer) == (None, None)


def test_an_idle_application_is_small() -> None:
    import sys

    blueprint = counting().blueprint()
    application = blueprint.instantiate(app_id="a" * 36, state={"n": 1})
    parts = [application, application._instance, application.state, application.state._values, application.uid]
    assert sum(sys.getsizeof(part) for part in parts) < 1_000


class Stopping(PostRunStepHook):
    def post_run_step(self, **_: Any) -> None:
        next(iter(()))


@action(reads=["n"], writes=["n"])
def exhausted(state: State) -> State:
    return state.update(n=next(iter(())))


@pytest.mark.parametrize(
    ("builder", "message"),
    [(counting(exhausted), "action 'count' raised StopIteration"), (counting(count).with_hooks(Stopping()), "a hook raised")],
    ids=["action", "hook"],
)
async def test_a_stop_iteration_neither_ends_a_run_nor_leaves_it_waiting(builder: ApplicationBuilder[Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message) as caught:
        builder.build().run(halt_after=["count"])
    assert isinstance(caught.value.__cause__, StopIteration)
    application = builder.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match=message):
            await asyncio.wait_for(application.arun(halt_after=["count"]), 5)
