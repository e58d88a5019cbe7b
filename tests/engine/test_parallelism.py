"""What parallel actions promise beyond Burr: failing branches stop the others, all errors are told, any executor will do."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from app.engine import (
    ApplicationBuilder,
    ApplicationContext,
    AsyncInMemoryPersister,
    GraphBuilder,
    GraphError,
    InMemoryPersister,
    MapActions,
    MapStates,
    RunnableGraph,
    State,
    SubGraphTask,
    TaskBasedParallelAction,
    action,
    map_reduce_action,
    when,
)


class Over(MapStates):
    """Runs one action over numbers, and keeps the branches' `out`."""

    def __init__(self, target: Any, count: int = 3, *, is_async: bool = False) -> None:
        super().__init__()
        self._target = target
        self._count = count
        self._is_async = is_async

    reads = property(lambda self: ["start"])
    writes = property(lambda self: ["all"])

    def is_async(self) -> bool:
        return self._is_async

    def states(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[State[Any]]:
        for number in range(self._count):
            yield state.update(number=number)

    def action(self, state: State[Any], inputs: dict[str, Any]) -> Any:
        return self._target

    def reduce(self, state: State[Any], states: Any) -> Any:
        if not self._is_async:
            return state.update(all=[each["out"] for each in states])

        async def collect() -> State[Any]:
            return state.update(all=[each["out"] async for each in states])

        return collect()


def application(parallel: Any, **builder_calls: Any) -> Any:
    builder = ApplicationBuilder().with_actions(parallel=parallel).with_identifiers(app_id="app", partition_key="pk")
    for name, value in builder_calls.items():
        getattr(builder, name)(value)
    return builder.with_entrypoint("parallel").with_state(start=0).build()


@action(reads=["number"], writes=["out"])
def double(state: State[Any]) -> State[Any]:
    return state.update(out=state["number"] * 2)


@action(reads=["number"], writes=["out"])
async def adouble(state: State[Any]) -> State[Any]:
    return state.update(out=state["number"] * 2)


@action(reads=["number"], writes=["out"])
def fail_all(state: State[Any]) -> State[Any]:
    raise ValueError(f"branch {state['number']}")


def test_branches_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)

    @action(reads=["number"], writes=["out"])
    def meet(state: State[Any]) -> State[Any]:
        return state.update(out=together.wait() >= 0)

    assert application(Over(meet)).step()[2]["all"] == [True, True, True]


async def test_async_branches_run_at_the_same_time() -> None:
    arrived = asyncio.Barrier(3)

    @action(reads=["number"], writes=["out"])
    async def meet(state: State[Any]) -> State[Any]:
        await asyncio.wait_for(arrived.wait(), 60)
        return state.update(out=True)

    _, _, state = await application(Over(meet, is_async=True)).astep()
    assert state["all"] == [True, True, True]


def test_a_failing_branch_stops_the_others_before_their_next_step() -> None:
    has_failed = threading.Event()
    steps: list[int] = []

    @action(reads=["number"], writes=["out"])
    def begin(state: State[Any]) -> State[Any]:
        if state["number"] == 0:
            has_failed.set()
            raise ValueError("first")
        has_failed.wait(10)
        return state.update(out=0)

    @action(reads=["out"], writes=["out"])
    def go_on(state: State[Any]) -> State[Any]:
        steps.append(1)
        return state.update(out=1)

    graph = (
        GraphBuilder().with_actions(begin, go_on).with_transitions(("begin", "go_on"), ("go_on", "go_on", when(out=1))).build()
    )
    endless = RunnableGraph(graph, "begin", ["nothing but an error ends it"][:0])
    app = application(Over(endless))
    with pytest.raises(ValueError, match="first"):
        app.step()


def test_branches_that_have_not_begun_do_not_begin_after_a_failure() -> None:
    begun: list[int] = []
    all_are_waiting = threading.Event()

    @action(reads=["number"], writes=["out"])
    def fail(state: State[Any]) -> State[Any]:
        begun.append(state["number"])
        all_are_waiting.wait(10)
        raise ValueError("first")

    class Telling(Over):
        def states(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[State[Any]]:
            yield from super().states(state, context, inputs)
            all_are_waiting.set()

    app = application(Telling(fail, 50), with_parallel_executor=lambda: ThreadPoolExecutor(max_workers=1))
    with pytest.raises(ValueError, match="first"):
        app.step()
    assert begun == [0]


def test_no_more_tasks_are_made_after_a_failure() -> None:
    made: list[int] = []
    has_failed = threading.Event()

    @action(reads=["number"], writes=["out"])
    def fail(state: State[Any]) -> State[Any]:
        raise ValueError("first")

    class Watching(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            future = super().submit(*args, **kwargs)
            future.add_done_callback(lambda _: has_failed.set())
            return future

    class Counting(Over):
        def states(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[State[Any]]:
            for number in range(50):
                made.append(number)
                yield state.update(number=number)
                has_failed.wait(10)

    with pytest.raises(ValueError, match="first"):
        application(Counting(fail), with_parallel_executor=Watching).step()
    assert len(made) <= 3


async def test_a_failing_async_branch_cancels_the_others() -> None:
    cancelled: list[int] = []
    waiting = asyncio.Barrier(3)

    @action(reads=["number"], writes=["out"])
    async def wait_or_fail(state: State[Any]) -> State[Any]:
        await waiting.wait()
        if state["number"] == 1:
            raise ValueError("first")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(state["number"])
            raise
        return state

    with pytest.raises(ValueError, match="first"):
        await application(Over(wait_or_fail, is_async=True)).astep()
    assert sorted(cancelled) == [0, 2]


def test_the_errors_of_several_branches_leave_together_in_order() -> None:
    together = threading.Barrier(3, timeout=10)

    @action(reads=["number"], writes=["out"])
    def fail(state: State[Any]) -> State[Any]:
        together.wait()
        raise ValueError(f"branch {state['number']}")

    with pytest.raises(ExceptionGroup, match="3 of 3 branches of action 'parallel' failed") as caught:
        application(Over(fail)).step()
    assert [str(error) for error in caught.value.exceptions] == ["branch 0", "branch 1", "branch 2"]


async def test_the_errors_of_several_async_branches_leave_together() -> None:
    together = asyncio.Barrier(3)

    @action(reads=["number"], writes=["out"])
    async def fail(state: State[Any]) -> State[Any]:
        await together.wait()
        raise ValueError(f"branch {state['number']}")

    with pytest.raises(ExceptionGroup) as caught:
        await application(Over(fail, is_async=True)).astep()
    assert sorted(str(error) for error in caught.value.exceptions) == ["branch 0", "branch 1", "branch 2"]


def test_a_single_error_keeps_its_cause() -> None:
    @action(reads=["number"], writes=["out"])
    def fail(state: State[Any]) -> State[Any]:
        if state["number"] != 1:
            return state.update(out=0)
        raise ValueError("outer") from KeyError("inner")

    with pytest.raises(ValueError, match="outer") as caught:
        application(Over(fail)).step()
    assert isinstance(caught.value.__cause__, KeyError)


async def test_cancelling_the_action_cancels_its_branches() -> None:
    begun = asyncio.Barrier(4)
    cancelled: list[int] = []

    @action(reads=["number"], writes=["out"])
    async def wait(state: State[Any]) -> State[Any]:
        await begun.wait()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(state["number"])
        return state

    running = asyncio.ensure_future(application(Over(wait, is_async=True)).astep())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(cancelled) == [0, 1, 2]


def test_branches_can_run_in_other_processes() -> None:
    app = application(Over(double), with_parallel_executor=lambda: ProcessPoolExecutor(2))
    assert app.step()[2]["all"] == [0, 2, 4]


def test_an_error_comes_back_from_another_process() -> None:
    app = application(Over(fail_all, 1), with_parallel_executor=lambda: ProcessPoolExecutor(1))
    with pytest.raises(ValueError, match="branch 0"):
        app.step()


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_branches_in_threads_see_the_context_variables_of_the_caller() -> None:
    @action(reads=["number"], writes=["out"])
    def look(state: State[Any]) -> State[Any]:
        return state.update(out=variable.get())

    token = variable.set("set")
    try:
        assert application(Over(look)).step()[2]["all"] == ["set", "set", "set"]
    finally:
        variable.reset(token)


@pytest.mark.parametrize("is_async", [False, True])
async def test_parallel_actions_can_be_nested(is_async: bool) -> None:
    inner = Over(adouble if is_async else double, 2, is_async=is_async)

    @action(reads=["all"], writes=["out"])
    def take(state: State[Any]) -> State[Any]:
        return state.update(out=state["all"])

    @action(reads=["all"], writes=["out"])
    async def atake(state: State[Any]) -> State[Any]:
        return state.update(out=state["all"])

    actions = {"inner": inner, "take": atake if is_async else take}
    graph = GraphBuilder().with_actions(**actions).with_transitions(("inner", "take")).build()
    app = application(Over(RunnableGraph(graph, "inner", ["take"]), 2, is_async=is_async))
    _, _, state = await app.astep() if is_async else app.step()
    assert state["all"] == [[0, 2], [0, 2]]


def test_the_inputs_of_the_action_reach_the_branches_that_take_them() -> None:
    @action(reads=["number"], writes=["out"])
    def scale(state: State[Any], factor: int) -> State[Any]:
        return state.update(out=state["number"] * factor)

    class Scaled(Over):
        inputs = property(lambda self: ["__context", "factor", "label"])

    taking = application(Scaled(scale)).step(inputs={"factor": 10, "label": "x"})[2]
    ignoring = application(Scaled(double)).step(inputs={"factor": 10, "label": "x"})[2]
    assert (taking["all"], ignoring["all"]) == ([0, 10, 20], [0, 2, 4])


class Interrupted(Exception):
    pass


def _looping(target: Any, persister: Any) -> Any:
    @action(reads=["start", "all"], writes=["start", "sums"])
    def total(state: State[Any]) -> State[Any]:
        return state.update(start=state["start"] + 1).append(sums=sum(state["all"]))

    class FromStart(Over):
        def states(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[State[Any]]:
            for number in range(3):
                yield state.update(number=state["start"] * 10 + number)

    return (
        ApplicationBuilder()
        .with_actions(parallel=FromStart(target), total=total)
        .with_transitions(("parallel", "total"), ("total", "parallel", when(start__lt=2)))
        .with_identifiers(app_id="app")
        .initialize_from(persister, resume_at_next_action=True, default_state={"start": 0}, default_entrypoint="parallel")
        .with_state_persister(persister)
        .with_validation("off")
        .build()
    )


def test_a_branch_of_a_later_round_is_not_taken_for_that_of_an_earlier_one() -> None:
    # Burr gives the branches of every round the same ids, so a loaded one of the first round stands for that of the second
    app = _looping(double, InMemoryPersister())
    assert app.run(halt_after=[])[2]["sums"] == [6, 66]


def test_branches_that_were_done_are_not_run_again_when_an_interrupted_step_is_taken_again() -> None:
    calls: list[int] = []
    breaks = [True]
    others_are_done = threading.Event()

    class Telling(InMemoryPersister):
        def save(self, partition_key: Any, app_id: str, sequence_id: int, position: str, *rest: Any, **more: Any) -> None:
            super().save(partition_key, app_id, sequence_id, position, *rest, **more)
            if position == "work" and len(self.list_app_ids(None)) == 2:
                others_are_done.set()

    @action(reads=["number"], writes=["out"])
    def work(state: State[Any]) -> State[Any]:
        calls.append(state["number"])
        if breaks and state["number"] == 1:
            others_are_done.wait(10)
            raise Interrupted
        return state.update(out=1)

    persister = Telling()
    with pytest.raises(Interrupted):
        _looping(work, persister).step()
    breaks.clear()
    _looping(work, persister).step()
    assert sorted(calls[:3]) == [0, 1, 2]
    assert calls[3:] == [1]


async def test_an_async_persister_is_handed_down() -> None:
    persister = AsyncInMemoryPersister()
    app = await (
        ApplicationBuilder()
        .with_actions(parallel=Over(adouble, is_async=True))
        .with_identifiers(app_id="app", partition_key="pk")
        .initialize_from(persister, resume_at_next_action=True, default_state={"start": 0}, default_entrypoint="parallel")
        .with_state_persister(persister)
        .abuild()
    )
    await app.astep()
    assert len(await persister.list_app_ids("pk")) == 4


def test_an_action_without_its_context_says_what_is_missing() -> None:
    class Bare(Over):
        inputs = property(lambda self: [])

    with pytest.raises(GraphError, match="`inputs` must include '__context'"):
        application(Bare(double)).step()


def test_async_tasks_in_a_sync_action_are_an_error_that_says_what_to_do() -> None:
    class Wrong(TaskBasedParallelAction):
        reads = property(lambda self: [])
        writes = property(lambda self: [])

        async def tasks(self, state: Any, context: Any, inputs: Any) -> AsyncIterator[SubGraphTask]:  # type: ignore[override]
            for task in ():
                yield task

        def reduce(self, state: State[Any], states: Any) -> State[Any]:
            return state

    with pytest.raises(GraphError, match="override is_async"):
        application(Wrong()).step()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "action 'all' got an int from its tasks; expected a SubGraphTask"),
        ("state", "action 'all' begins a branch with a str; expected a State"),
    ],
)
async def test_what_is_no_branch_is_an_error_that_says_so(given: Any, message: str, is_async: bool) -> None:
    graph = RunnableGraph.create(double.with_name("double"))

    class Wrong(Over):
        def tasks(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[Any]:
            yield SubGraphTask(graph, {}, given, "branch") if given == "state" else given

    builder = ApplicationBuilder().with_actions(all=Wrong(double, is_async=is_async)).with_state(start=0).with_entrypoint("all")
    application = builder.build()
    with pytest.raises(GraphError, match=message):
        await application.astep() if is_async else application.step()


def test_an_error_of_the_generator_of_tasks_stops_what_has_begun() -> None:
    class Broken(Over):
        def states(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[State[Any]]:
            yield state.update(number=1)
            raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        application(Broken(double)).step()


Makers = Callable[[State[Any], ApplicationContext, dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (double, [2, 4]),
        ([double, double], [2, 4, 2, 4]),
        (lambda state, context, inputs: double, [2, 4]),
        (lambda state, context, inputs: iter([double]), [2, 4]),
    ],
)
def test_map_reduce_takes_an_action_a_list_or_a_function_that_makes_them(given: Any, expected: list[int]) -> None:
    parallel = map_reduce_action(
        action=given,
        state=lambda state, context, inputs: (state.update(number=number) for number in (1, 2)),
        reducer=lambda state, states: state.update(all=[each["out"] for each in states]),
        reads=["start"],
        writes=["all"],
        inputs=[],
    )
    assert application(parallel).step()[2]["all"] == expected


def test_map_reduce_takes_a_function_that_gives_one_state_and_inputs() -> None:
    parallel = map_reduce_action(
        action=double,
        state=lambda state, context, inputs: state.update(number=inputs["given"]),
        reducer=lambda state, states: state.update(all=[each["out"] for each in states]),
        reads=["start"],
        writes=["all"],
        inputs=["given"],
    )
    assert application(parallel).step(inputs={"given": 21})[2]["all"] == [42]


async def test_map_reduce_is_async_when_its_functions_are() -> None:
    async def states(state: State[Any], context: Any, inputs: Any) -> AsyncIterator[State[Any]]:
        for number in (1, 2):
            yield state.update(number=number)

    async def reducer(state: State[Any], states: Any) -> State[Any]:
        return state.update(all=[each["out"] async for each in states])

    parallel = map_reduce_action(adouble, states, reducer, ["start"], ["all"], [])
    _, _, state = await application(parallel).astep()
    assert state["all"] == [2, 4]


def test_map_actions_gives_every_action_the_state_as_it_is() -> None:
    class Each(MapActions):
        reads = property(lambda self: ["start"])
        writes = property(lambda self: ["all"])

        def actions(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[Any]:
            for step in (1, 2):
                yield add.bind(step=step)

        def reduce(self, state: State[Any], states: Any) -> State[Any]:
            return state.update(all=[each["start"] for each in states])

    @action(reads=["start"], writes=["start"])
    def add(state: State[Any], step: int) -> State[Any]:
        return state.increment(start=step)

    assert application(Each()).step()[2]["all"] == [1, 2]


def test_an_action_without_a_name_cannot_be_a_branch() -> None:
    with pytest.raises(GraphError, match="has no name to run under"):
        RunnableGraph.create(Over(double))
