"""Parallel actions: the same classes, written once, run on both engines and come to the same states, rows and hook calls."""

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from engines import OURS, play

STATE = {"prompts": ["p", "q"], "prompt": "one", "seen": "yes"}


def actions_of(e: Any, is_async: bool) -> Any:
    """Return two actions and a small graph of `e`, in one colour."""

    @e.action(reads=["prompt"], writes=["out"])
    def ask(state: Any, model: str = "m") -> Any:
        return state.update(out=f"{model}:{state['prompt']}")

    @e.action(reads=["out"], writes=["out", "length"])
    def measure(state: Any) -> Any:
        return state.update(out=state["out"] + "!", length=len(state["out"]))

    @e.action(reads=["prompt"], writes=["out"])
    async def aask(state: Any, model: str = "m") -> Any:
        await asyncio.sleep(0)
        return state.update(out=f"{model}:{state['prompt']}")

    first = aask if is_async else ask
    graph = e.GraphBuilder().with_actions(first=first, second=measure).with_transitions(("first", "second")).build()
    return first, e.RunnableGraph(graph=graph, entrypoint="first", halt_after=["second"])


def reducer(is_async: bool, collect: Callable[[Any], Any]) -> Any:
    def reduce(self: Any, state: Any, states: Any) -> Any:
        return state.update(all=[collect(each) for each in states])

    async def areduce(self: Any, state: Any, states: Any) -> Any:
        return state.update(all=[collect(each) async for each in states])

    return areduce if is_async else reduce


def members(e: Any, is_async: bool, **more: Any) -> dict[str, Any]:
    return {
        "reads": property(lambda self: ["prompts", "prompt"]),
        "writes": property(lambda self: ["all"]),
        "is_async": lambda self: is_async,
        "reduce": reducer(is_async, lambda state: {key: state.get(key) for key in ("out", "length") if key in state}),
        **more,
    }


def map_states(e: Any, is_async: bool) -> Any:
    _, graph = actions_of(e, is_async)

    def states(self: Any, state: Any, context: Any, inputs: Any) -> Any:
        for prompt in state["prompts"]:
            yield state.update(prompt=prompt)

    more = {"states": states, "action": lambda self, state, inputs: graph}
    return type("Mapped", (e.MapStates,), members(e, is_async, **more))()


def map_actions(e: Any, is_async: bool) -> Any:
    ask, graph = actions_of(e, is_async)

    def actions(self: Any, state: Any, context: Any, inputs: Any) -> Any:
        yield ask
        yield ask.bind(model="other")
        yield graph

    more = {"actions": actions, "state": lambda self, state, inputs: state.update(prompt="changed")}
    return type("Mapped", (e.MapActions,), members(e, is_async, **more))()


def map_both(e: Any, is_async: bool) -> Any:
    ask, graph = actions_of(e, is_async)

    def actions(self: Any, state: Any, context: Any, inputs: Any) -> Any:
        yield from (ask, graph)

    def states(self: Any, state: Any, context: Any, inputs: Any) -> Any:
        for prompt in state["prompts"]:
            yield state.update(prompt=prompt)

    async def aactions(self: Any, state: Any, context: Any, inputs: Any) -> Any:
        for each in (ask, graph):
            yield each

    more = {"actions": aactions if is_async else actions, "states": states}
    return type("Mapped", (e.MapActionsAndStates,), members(e, is_async, **more))()


def task_based(e: Any, is_async: bool) -> Any:
    _, graph = actions_of(e, is_async)

    def tasks(self: Any, state: Any, context: Any, inputs: Any) -> Any:
        for number, model in enumerate("ab"):
            yield e.SubGraphTask(
                graph=graph,
                inputs={"model": model},
                state=state.update(prompt=f"{number}"),
                application_id=f"{context.app_id}-{number}",
                tracker=context.tracker,
                state_persister=context.state_persister,
                state_initializer=context.state_initializer,
            )

    return type("Tasks", (e.TaskBasedParallelAction,), members(e, is_async, tasks=tasks))()


def passed_through(e: Any, is_async: bool) -> Any:
    ask, graph = actions_of(e, is_async)
    return e.map_reduce_action(
        action=[ask, graph],
        state=lambda state, context, inputs: (state.update(prompt=prompt) for prompt in state["prompts"]),
        reducer=lambda state, states: state.update(all=[each["out"] for each in states]),
        reads=["prompts"],
        writes=["all"],
        inputs=[],
    )


def parallel_of(e: Any, make: Callable[[Any, bool], Any], is_async: bool, tell: Callable[[Any], Any] = lambda b: b) -> Any:
    builder = e.ApplicationBuilder().with_actions(parallel=make(e, is_async)).with_identifiers(app_id="app", partition_key="pk")
    return tell(builder)


def run_to_end(app: Any, is_async: bool) -> Any:
    if is_async:
        return asyncio.run(app.arun(halt_after=["parallel"]))
    return app.run(halt_after=["parallel"])


def visible(state: Any) -> dict[str, Any]:
    return {key: value for key, value in state.get_all().items() if not key.startswith("__")}


KINDS = [map_states, map_actions, map_both, task_based]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("make", KINDS)
def test_the_states_of_the_branches_come_together_as_in_burr(make: Callable[..., Any], is_async: bool) -> None:
    def scenario(e: Any) -> Any:
        app = parallel_of(e, make, is_async, lambda b: b.with_entrypoint("parallel").with_state(**STATE).build())
        action, result, state = run_to_end(app, is_async)
        return action.name, result, visible(state), app.sequence_id

    ours, theirs = play(scenario)
    assert ours == theirs
    assert len(ours[2]["all"]) >= 2


def test_map_and_reduce_from_plain_functions_come_together_as_in_burr() -> None:
    def scenario(e: Any) -> Any:
        app = parallel_of(e, passed_through, False, lambda b: b.with_entrypoint("parallel").with_state(**STATE).build())
        return visible(run_to_end(app, False)[2])

    ours, theirs = play(scenario)
    assert ours == theirs


@pytest.mark.parametrize("make", KINDS)
def test_a_persister_is_handed_down_and_keeps_the_same_rows(make: Callable[..., Any]) -> None:
    def scenario(e: Any) -> Any:
        persister = e.InMemoryPersister()

        def tell(builder: Any) -> Any:
            default = {"default_state": STATE, "default_entrypoint": "parallel", "resume_at_next_action": True}
            return builder.initialize_from(persister, **default).with_state_persister(persister).build()

        run_to_end(parallel_of(e, make, False, tell), False)
        rows = []
        for app_id in persister.list_app_ids("pk"):
            saved = persister.load("pk", app_id)
            state = {key: saved["state"].get(key) for key in ("prompt", "out", "length", "all") if key in saved["state"]}
            rows.append((saved["position"], saved["sequence_id"], saved["status"], saved["partition_key"], sorted(state.items())))
        return sorted(rows, key=repr)

    ours, theirs = play(scenario)
    assert ours == theirs
    assert len(ours) >= 3


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tracker_is_copied_for_each_branch_and_told_who_its_parent_is(is_async: bool) -> None:
    def scenario(e: Any) -> Any:
        seen: list[Any] = []
        copies: list[Any] = []

        class Tracker(e.PostApplicationCreateHook, e.PreRunStepHook):
            def copy(self) -> Any:
                copies.append(self)
                return Tracker()

            def post_application_create(self, **told: Any) -> None:
                parent = told["spawning_parent_pointer"]
                seen.append(("made", parent and (parent.app_id, parent.partition_key, parent.sequence_id)))

            def pre_run_step(self, **told: Any) -> None:
                seen.append(("step", told["action"].name, told["sequence_id"], told["partition_key"]))

        def tell(builder: Any) -> Any:
            return builder.with_entrypoint("parallel").with_state(**STATE).with_tracker(Tracker()).build()

        run_to_end(parallel_of(e, map_both, is_async, tell), is_async)
        return sorted(seen, key=repr), len(copies)

    ours, theirs = play(scenario)
    assert ours == theirs
    assert ours[1] == 4


@pytest.mark.parametrize("is_async", [False, True])
def test_the_error_of_one_branch_leaves_as_it_is(is_async: bool) -> None:
    def scenario(e: Any) -> Any:
        @e.action(reads=["prompt"], writes=["out"])
        def fail(state: Any) -> Any:
            if state["prompt"] == "q":
                raise KeyError("broken")
            return state.update(out=1)

        def states(self: Any, state: Any, context: Any, inputs: Any) -> Any:
            for prompt in state["prompts"]:
                yield state.update(prompt=prompt)

        def make(e: Any, is_async: bool) -> Any:
            more = {"states": states, "action": lambda self, state, inputs: fail if not is_async else afail}
            return type("Mapped", (e.MapStates,), members(e, is_async, **more))()

        @e.action(reads=["prompt"], writes=["out"])
        async def afail(state: Any) -> Any:
            return fail(state)

        app = parallel_of(e, make, is_async, lambda b: b.with_entrypoint("parallel").with_state(**STATE).build())
        with pytest.raises(KeyError) as caught:
            run_to_end(app, is_async)
        return type(caught.value), caught.value.args

    ours, theirs = play(scenario)
    assert ours == theirs == (KeyError, ("broken",))


def test_the_executor_of_the_application_is_used_as_in_burr() -> None:
    def scenario(e: Any) -> Any:
        made: list[int] = []

        class Counting(ThreadPoolExecutor):
            def submit(self, *args: Any, **kwargs: Any) -> Any:
                made.append(1)
                return super().submit(*args, **kwargs)

        def tell(builder: Any) -> Any:
            return builder.with_entrypoint("parallel").with_state(**STATE).with_parallel_executor(Counting).build()

        run_to_end(parallel_of(e, map_both, False, tell), False)
        return len(made)

    ours, theirs = play(scenario)
    assert ours == theirs == 4


def test_what_runs_in_a_branch_is_the_same_function() -> None:
    ask, _ = actions_of(OURS, False)
    assert inspect.isfunction(ask)
    assert OURS.RunnableGraph.create(ask).halt_after == ["ask"]


def test_burr_takes_the_saved_branches_of_the_first_round_for_those_of_the_second() -> None:
    def scenario(e: Any) -> Any:
        @e.action(reads=["number"], writes=["out"])
        def double(state: Any) -> Any:
            return state.update(out=state["number"] * 2)

        def states(self: Any, state: Any, context: Any, inputs: Any) -> Any:
            for number in range(3):
                yield state.update(number=state["start"] * 10 + number)

        @e.action(reads=["start", "all"], writes=["start", "sums"])
        def total(state: Any) -> Any:
            return state.update(start=state["start"] + 1).append(sums=sum(each["out"] for each in state["all"]))

        more = {"states": states, "action": lambda self, state, inputs: double, "reads": property(lambda self: ["start"])}
        mapped = type("Mapped", (e.MapStates,), {**members(e, False), **more})()
        persister = e.InMemoryPersister()
        app = (
            e.ApplicationBuilder()
            .with_actions(mapped=mapped, total=total)
            .with_transitions(("mapped", "total"), ("total", "mapped", e.Condition.expr("start < 2")))
            .with_identifiers(app_id="app")
            .initialize_from(persister, resume_at_next_action=True, default_state={"start": 0}, default_entrypoint="mapped")
            .with_state_persister(persister)
            .build()
        )
        return app.run(halt_after=[])[2]["sums"]

    assert play(scenario) == ([6, 66], [6, 6])
