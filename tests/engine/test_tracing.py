"""Spans inside running applications: who gets which hook, in both colours, and what Burr gets wrong."""

import asyncio
import threading
from typing import Any

import pytest
from engines import play

from app.engine import (
    ActionSpan,
    ActionSpanTracer,
    ApplicationBuilder,
    HookSet,
    MixedModeWarning,
    State,
    TracerFactory,
    action,
    trace,
)
from app.engine.span_hooks import (
    DoLogAttributeHook,
    DoLogAttributeHookAsync,
    PostEndSpanHook,
    PostEndSpanHookAsync,
    PreStartSpanHook,
    PreStartSpanHookAsync,
)
from app.engine.tracing import create_span_id, tracer_factory_context_var


class Recorder(PreStartSpanHook, PostEndSpanHook, DoLogAttributeHook):
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.threads: list[threading.Thread] = []

    def pre_start_span(self, *, span: ActionSpan, action: str, app_id: str, **_: Any) -> None:
        self.threads.append(threading.current_thread())
        self.seen.append(("start", app_id, action, span.name, span.uid))

    def post_end_span(self, *, span: ActionSpan, **_: Any) -> None:
        self.seen.append(("end", span.uid))

    def do_log_attributes(self, *, attributes: dict[str, Any], span: ActionSpan | None, **_: Any) -> None:
        self.seen.append(("attributes", span and span.uid, attributes))


class AsyncRecorder(PreStartSpanHookAsync, PostEndSpanHookAsync, DoLogAttributeHookAsync):
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    async def pre_start_span(self, *, span: ActionSpan, **_: Any) -> None:
        await asyncio.sleep(0)
        self.seen.append(("start", span.uid))

    async def post_end_span(self, *, span: ActionSpan, **_: Any) -> None:
        self.seen.append(("end", span.uid))

    async def do_log_attributes(self, *, attributes: dict[str, Any], span: ActionSpan | None, **_: Any) -> None:
        self.seen.append(("attributes", span and span.uid, attributes))


def builder_of(*actions: Any, hooks: Any = ()) -> Any:
    return (
        ApplicationBuilder()
        .with_actions(*actions)
        .with_entrypoint(actions[0].__name__)
        .with_identifiers(app_id="app")
        .with_hooks(*hooks)
    )


def test_an_action_with_a_tracer_calls_the_hooks() -> None:
    @action(reads=[], writes=["x"])
    def act(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        __tracer.log_attribute("a", 1)
        with __tracer("outer") as span:
            span.log_attributes(b=2)
            with __tracer("inner"):
                pass
        with __tracer("second"):
            pass
        return state.update(x=1)

    recorder = Recorder()
    builder_of(act, hooks=[recorder]).build().step()
    assert recorder.seen == [
        ("attributes", None, {"a": 1}),
        ("start", "app", "act", "outer", "0:0"),
        ("attributes", "0:0", {"b": 2}),
        ("start", "app", "act", "inner", "0:0.0"),
        ("end", "0:0.0"),
        ("end", "0:0"),
        ("start", "app", "act", "second", "0:1"),
        ("end", "0:1"),
    ]


@trace()
def helper(text: str, times: int = 1) -> str:
    return inner(text) * times


@trace(input_filterlist=["text"], capture_outputs=False, span_name="renamed")
def inner(text: str) -> str:
    return text


@trace()
async def ahelper(text: str) -> str:
    await asyncio.sleep(0)
    return inner(text)


@action(reads=[], writes=["x"])
def using(state: State[Any]) -> State[Any]:
    return state.update(x=helper("secret", times=2))


@action(reads=[], writes=["x"])
async def ausing(state: State[Any]) -> State[Any]:
    return state.update(x=await ahelper("secret"))


def attributes(recorder: Recorder | AsyncRecorder) -> list[dict[str, Any]]:
    return [event[2] for event in recorder.seen if event[0] == "attributes" and "__burr_function" not in event[2]]


def test_traced_functions_find_the_tracer_of_the_action_that_runs() -> None:
    recorder = Recorder()
    builder_of(using, hooks=[recorder]).build().step()
    assert [event for event in recorder.seen if event[0] != "attributes"] == [
        ("start", "app", "using", "helper", "0:0"),
        ("start", "app", "using", "renamed", "0:0.0"),
        ("end", "0:0.0"),
        ("end", "0:0"),
    ]
    assert attributes(recorder) == [{"text": "secret", "times": 2}, {}, {"return": "secretsecret"}]


async def test_a_traced_coroutine_calls_hooks_of_both_colours() -> None:
    recorder, waiting = Recorder(), AsyncRecorder()
    app = await builder_of(ausing, hooks=[waiting]).abuild()
    await app.astep()
    assert [event for event in waiting.seen if event[0] != "attributes"] == [
        ("start", "0:0"),
        ("start", "0:0.0"),
        ("end", "0:0.0"),
        ("end", "0:0"),
    ]
    assert attributes(waiting) == [{"text": "secret"}, {}, {"return": "secret"}]
    with pytest.warns(MixedModeWarning):
        await builder_of(ausing, hooks=[recorder]).build().astep()
    assert recorder.seen[0] == ("start", "app", "ausing", "ahelper", "0:0")


async def test_async_hooks_of_a_plain_with_block_are_called_in_order_before_the_step_ends() -> None:
    # Burr leaves them out without a word
    @action(reads=[], writes=[])
    async def act(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        __tracer.log_attribute("first", 1)
        with __tracer("plain"):
            __tracer.log_attribute("second", 2)
        return state

    waiting = AsyncRecorder()
    await (await builder_of(act, hooks=[waiting]).abuild()).astep()
    assert waiting.seen == [
        ("attributes", None, {"first": 1}),
        ("start", "0:0"),
        ("attributes", "0:0", {"second": 2}),
        ("end", "0:0"),
    ]


async def test_sync_hooks_of_an_async_span_are_called_off_the_event_loop() -> None:
    @action(reads=[], writes=[])
    async def act(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        async with __tracer("span"):
            return state

    recorder = Recorder()
    with pytest.warns(MixedModeWarning):
        await builder_of(act, hooks=[recorder]).build().astep()
    assert recorder.threads != [threading.current_thread()]


async def test_sync_hooks_of_a_plain_with_block_are_called_off_the_event_loop_while_the_action_waits() -> None:
    started = threading.Event()

    class Starting(Recorder):
        def pre_start_span(self, **arguments: Any) -> None:
            super().pre_start_span(**arguments)
            started.set()

    @action(reads=[], writes=[])
    async def act(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        with __tracer("plain"):
            assert await asyncio.to_thread(started.wait, 5)
        __tracer.log_attribute("last", 1)
        return state

    recorder = Starting()
    with pytest.warns(MixedModeWarning, match=r"Starting\.pre_start_span"):
        await builder_of(act, hooks=[recorder]).build().astep()
    assert recorder.seen == [("start", "app", "act", "plain", "0:0"), ("end", "0:0"), ("attributes", None, {"last": 1})]
    assert threading.current_thread() not in recorder.threads


async def test_a_hook_that_fails_after_a_plain_with_block_fails_the_step_once() -> None:
    class Failing(PreStartSpanHookAsync):
        async def pre_start_span(self, **_: Any) -> None:
            raise LookupError("no such span")

    @action(reads=[], writes=[])
    async def act(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        for _ in range(2):
            with __tracer("plain"):
                await asyncio.sleep(0.001)
        return state

    app = await builder_of(act, hooks=[Failing()]).abuild()
    with pytest.raises(LookupError):
        await app.astep()


def test_async_span_hooks_are_named_as_skipped_in_a_sync_run() -> None:
    @action(reads=[], writes=[])
    def act(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        with __tracer("plain"):
            return state

    with pytest.warns(MixedModeWarning, match=r"AsyncRecorder\.post_end_span.* are skipped in a sync run"):
        builder_of(act, hooks=[AsyncRecorder()]).build().step()


def test_a_traced_function_outside_any_action_is_called_as_it_is() -> None:
    assert helper("x", times=3) == "xxx"
    assert tracer_factory_context_var.get() is None


def test_a_traced_function_that_gets_wrong_arguments_says_so() -> None:
    @action(reads=[], writes=[])
    def act(state: State[Any]) -> State[Any]:
        helper(wrong=1)  # type: ignore[call-arg]  # the mistake that is tested
        return state

    with pytest.raises(TypeError):
        builder_of(act, hooks=[Recorder()]).build().step()


def test_the_spans_of_an_application_in_an_action_are_not_children_of_the_outer_span() -> None:
    # Burr makes them children, under the name and number of the outer action
    @action(reads=[], writes=["x"])
    def child(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        with __tracer("below"):
            return state.update(x=1)

    recorder = Recorder()

    @action(reads=[], writes=["x"])
    def parent(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        with __tracer("above"):
            builder_of(child, hooks=[recorder]).with_identifiers(app_id="child").build().step()
        with __tracer("after"):
            return state.update(x=1)

    builder_of(parent, hooks=[recorder]).build().step()
    assert [event for event in recorder.seen if event[0] == "start"] == [
        ("start", "app", "parent", "above", "0:0"),
        ("start", "child", "child", "below", "0:0"),
        ("start", "app", "parent", "after", "0:1"),
    ]


def test_a_span_that_fails_is_closed() -> None:
    @action(reads=[], writes=[])
    def act(state: State[Any], __tracer: TracerFactory) -> State[Any]:
        with __tracer("outer"), __tracer("inner"):
            raise ValueError

    recorder = Recorder()
    with pytest.raises(ValueError):  # noqa: PT011  # raised without a text above
        builder_of(act, hooks=[recorder]).build().step()
    assert [event for event in recorder.seen if event[0] == "end"] == [("end", "0:0.0"), ("end", "0:0")]


def test_a_tracer_made_by_hand_works_alone() -> None:
    recorder = Recorder()
    with ActionSpanTracer("act", 7, "span", HookSet(recorder), "app", None, ["earlier"]) as span:
        assert (span.span_dependencies, span.top_level_span_count) == (["earlier"], 1)
    assert recorder.seen == [("start", "app", "act", "span", "7:0"), ("end", "7:0")]


def test_span_ids_are_unique() -> None:
    assert create_span_id() != create_span_id()


@pytest.mark.parametrize("depth", [1, 3])
def test_spans_in_tasks_that_run_together_are_siblings_as_in_burr(depth: int) -> None:
    def scenario(e: Any) -> Any:
        seen: list[Any] = []

        class Seeing(e.PreStartSpanHook):
            def pre_start_span(self, *, span: Any, **_: Any) -> None:
                seen.append((span.name, span.uid))

        async def below(tracer: Any, name: str, left: int) -> None:
            with tracer(name):
                await asyncio.sleep(0)
                if left:
                    await asyncio.gather(below(tracer, name + "x", left - 1), below(tracer, name + "y", left - 1))

        @e.action(reads=[], writes=[])
        async def act(state: Any, __tracer: Any) -> Any:
            await below(__tracer, "r", depth)
            return state

        builder = e.ApplicationBuilder().with_actions(act).with_entrypoint("act").with_hooks(Seeing())
        asyncio.run(builder.build().astep())
        return sorted(seen)

    ours, theirs = play(scenario)
    assert ours == theirs


def test_traced_functions_tell_the_same_attributes_as_in_burr() -> None:
    def scenario(e: Any) -> Any:
        seen: list[Any] = []

        class Seeing(e.DoLogAttributeHook, e.PreStartSpanHook):
            def do_log_attributes(self, *, attributes: dict[str, Any], span: Any, **_: Any) -> None:
                shown = {key: value for key, value in attributes.items() if key != "__burr_function_hash"}
                seen.append((span.name, shown))

            def pre_start_span(self, *, span: Any, **_: Any) -> None:
                seen.append(span.name)

        @e.trace()
        def double(x: int, y: int = 2) -> int:
            return x * y

        @e.action(reads=[], writes=["x"])
        def act(state: Any) -> Any:
            return state.update(x=double(4) + double(y=3, x=1))

        e.ApplicationBuilder().with_actions(act).with_entrypoint("act").with_hooks(Seeing()).build().step()
        return seen

    ours, theirs = play(scenario)
    assert ours == theirs
