"""What actions can know of the application around them, and how it reaches them."""

import asyncio
import pickle
from typing import Any

import pytest

from app.engine import (
    Action,
    ApplicationBuilder,
    ApplicationContext,
    BlockingActionWarning,
    MixedModeWarning,
    PostEndSpanHook,
    PreRunStepHook,
    PreStartSpanHook,
    State,
    TracerFactory,
    action,
    streaming_action,
    trace,
)
from tests.engine.machines import counting


def facts(context: ApplicationContext | None) -> Any:
    return None if context is None else (context.app_id, context.partition_key, context.sequence_id, context.action_name)


def test_an_action_gets_its_context_as_a_parameter_or_by_asking() -> None:
    seen: list[Any] = []

    @action(reads=[], writes=["n"])
    def look(state: State, __context: ApplicationContext) -> State:
        seen.append((facts(__context), facts(ApplicationContext.get())))
        return state.update(n=1)

    counting(look).build().step()
    expected = ("app", "part", 0, "count")
    assert seen == [(expected, expected)]
    assert ApplicationContext.get() is None


def test_a_class_gets_it_although_python_renames_the_parameter() -> None:
    class Look(Action):
        reads = property(lambda self: [])
        writes = property(lambda self: ["n"])
        inputs = property(lambda self: ["__context", "__tracer", "by"])

        def run(self, state: State, by: int, __context: ApplicationContext, __tracer: TracerFactory) -> dict[str, Any]:
            return {"n": by, "app": __context.app_id, "tracer": type(__tracer).__name__}

        def update(self, result: dict[str, Any], state: State) -> State:
            return state.update(n=result["n"])

    class Before(PreRunStepHook):
        names: list[list[str]] = []  # noqa: RUF012

        def pre_run_step(self, *, inputs: dict[str, Any], **_: Any) -> None:
            self.names.append(sorted(inputs))

    application = counting(Look()).with_hooks(Before()).build()
    assert application.step(inputs={"by": 3})[1] == {"n": 3, "app": "app", "tracer": "TracerFactory"}
    assert Before.names == [["__context", "__tracer", "by"]]


async def test_context_reaches_async_actions_streams_and_threads() -> None:
    seen: list[Any] = []

    @action(reads=[], writes=["n"])
    async def alook(state: State) -> State:
        await asyncio.sleep(0)
        seen.append(facts(ApplicationContext.get()))
        return state.update(n=1)

    @streaming_action(reads=[], writes=["n"])
    async def astream(state: State) -> Any:
        seen.append(facts(ApplicationContext.get()))
        yield {}
        seen.append(facts(ApplicationContext.get()))
        yield {}, state.update(n=1)

    @streaming_action(reads=[], writes=["n"])
    def stream(state: State, __context: ApplicationContext) -> Any:
        seen.append(facts(__context))
        yield {}
        seen.append(facts(ApplicationContext.get()))
        yield {}, state.update(n=1)

    await counting(alook).build().astep()
    await counting(astream).build().astep()
    with pytest.warns(BlockingActionWarning):
        await counting(stream).build().astep()
    counting(stream).build().step()
    assert seen == [("app", "part", 0, "count")] * 7
    assert ApplicationContext.get() is None


def test_entering_a_context_makes_it_current_until_it_is_left() -> None:
    one = counting().build().context
    two = counting().with_identifiers(app_id="two").build().context
    with one:
        with two:
            assert facts(ApplicationContext.get()) == ("two", "part", None, "count")
        assert ApplicationContext.get() is one
    assert ApplicationContext.get() is None


def test_applications_inside_actions_have_contexts_of_their_own() -> None:
    seen: list[Any] = []

    @action(reads=[], writes=["n"])
    def inner(state: State) -> State:
        seen.append(facts(ApplicationContext.get()))
        return state.update(n=1)

    @action(reads=[], writes=["n"])
    def outer(state: State, __context: ApplicationContext) -> State:
        child = counting(inner).with_identifiers(app_id="child")
        child.with_spawning_parent(__context.app_id, __context.sequence_id, __context.partition_key)
        child.build().step()
        seen.append(facts(ApplicationContext.get()))
        return state.update(n=1)

    counting(outer).build().step()
    assert seen == [("child", "part", 0, "count"), ("app", "part", 0, "count")]


def test_a_context_that_travels_leaves_behind_what_lives_here() -> None:
    context = counting().with_tracker(PrintNothing()).build().context
    travelled = pickle.loads(pickle.dumps(context))
    assert facts(travelled) == facts(context)
    assert (travelled.tracker, travelled.parallel_executor_factory) == (None, None)


class PrintNothing(PreRunStepHook):
    def pre_run_step(self, **_: Any) -> None: ...


class Spans(PreStartSpanHook, PostEndSpanHook):
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, int]] = []

    def pre_start_span(self, *, action: str, span: Any, action_sequence_id: int, **_: Any) -> None:
        self.seen.append(("open", action, span.name, action_sequence_id))

    def post_end_span(self, *, action: str, span: Any, action_sequence_id: int, **_: Any) -> None:
        self.seen.append(("close", action, span.name, action_sequence_id))


@trace()
def compute(value: int) -> int:
    return value + 1


@pytest.mark.parametrize("form", ["parameter", "decorator"])
async def test_spans_of_an_action_reach_the_hooks_in_both_colours(form: str) -> None:
    @action(reads=["n"], writes=["n"])
    def given(state: State, __tracer: TracerFactory) -> State:
        with __tracer("compute"):
            return state.increment(n=1)

    @action(reads=["n"], writes=["n"])
    def decorated(state: State) -> State:
        return state.update(n=compute(state["n"]))

    @action(reads=["n"], writes=["n"])
    async def agiven(state: State, __tracer: TracerFactory) -> State:
        with __tracer("compute"):
            return state.increment(n=1)

    @action(reads=["n"], writes=["n"])
    async def adecorated(state: State) -> State:
        return state.update(n=compute(state["n"]))

    spans = Spans()
    counting(given if form == "parameter" else decorated).with_hooks(spans).build().step()
    with pytest.warns(MixedModeWarning):
        await counting(agiven if form == "parameter" else adecorated).with_hooks(spans).build().astep()
    assert spans.seen == [("open", "count", "compute", 0), ("close", "count", "compute", 0)] * 2


def test_without_anybody_who_listens_to_spans_a_traced_function_is_just_called() -> None:
    @action(reads=["n"], writes=["n"])
    def decorated(state: State) -> State:
        return state.update(n=compute(state["n"]))

    builder = ApplicationBuilder().with_actions(decorated).with_state(n=1).with_entrypoint("decorated")
    assert builder.build().step()[2] == {"n": 2}
