"""Streams in both colours: items, containers, what happens when a stream fails, is left, or is cut off."""

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from app.engine import (
    ApplicationBuilder,
    AsyncStreamingAction,
    AsyncStreamingResultContainer,
    BlockingActionWarning,
    ExecuteMethod,
    MixedModeWarning,
    PostApplicationExecuteCallHook,
    PostEndStreamHook,
    PostRunStepHook,
    PostStreamItemHook,
    PreApplicationExecuteCallHook,
    PreRunStepHook,
    PreStartStreamHook,
    State,
    StreamingAction,
    StreamingResultContainer,
    action,
    streaming_action,
)
from app.engine.errors import InvalidResult, NothingToRun, RunAbandoned
from app.engine.mode_warnings import StreamErrorWarning
from tests.engine.machines import Boom, acount, astream, count, counting, stream

LETTERS = [{"letter": "a"}, {"letter": "b"}]


class Log(
    PreApplicationExecuteCallHook,
    PostApplicationExecuteCallHook,
    PreRunStepHook,
    PostRunStepHook,
    PreStartStreamHook,
    PostStreamItemHook,
    PostEndStreamHook,
):
    """Notes every moment by its name, with the error where there is one."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def pre_run_execute_call(self, *, method: ExecuteMethod, **_: Any) -> None:
        self.seen.append(method.value)

    def post_run_execute_call(self, *, exception: Exception | None, **_: Any) -> None:
        self.seen.append(("over", exception and type(exception).__name__))

    def pre_run_step(self, **_: Any) -> None:
        self.seen.append("before")

    def post_run_step(self, *, exception: Exception | None, **_: Any) -> None:
        self.seen.append(("after", exception and type(exception).__name__))

    def pre_start_stream(self, **_: Any) -> None:
        self.seen.append("open")

    def post_stream_item(self, *, item: Any, item_index: int, **_: Any) -> None:
        self.seen.append((item, item_index))

    def post_end_stream(self, **_: Any) -> None:
        self.seen.append("close")


def test_a_container_gives_the_items_and_then_result_and_state() -> None:
    log = Log()
    application = counting(stream).with_hooks(log).build()
    streamed, container = application.stream_result(halt_after=["count"])
    assert isinstance(container, StreamingResultContainer)
    assert (streamed.name, next(container)) == ("count", {"letter": "a"})
    assert application.state == {"n": 0}
    assert list(container) == [{"letter": "b"}]
    assert container.get() == container.get() == ({"letters": "ab"}, {"n": 1})
    assert (list(container), next(container, "over")) == ([], "over")
    assert (application.state, application.sequence_id) == ({"n": 1}, 0)
    assert log.seen == [
        "stream_result",
        "before",
        "open",
        ({"letter": "a"}, 1),
        ({"letter": "b"}, 2),
        ("after", None),
        "close",
        ("over", None),
    ]


async def test_an_async_container_does_the_same() -> None:
    application = counting(astream).build()
    streamed, container = await application.astream_result(halt_after=["count"])
    assert isinstance(container, AsyncStreamingResultContainer)
    assert (streamed.name, await anext(container)) == ("count", {"letter": "a"})
    assert [item async for item in container] == [{"letter": "b"}]
    assert await container.get() == await container.get() == ({"letters": "ab"}, {"n": 1})
    assert application.state == {"n": 1}


def test_getting_the_result_takes_the_items_that_are_left() -> None:
    _, container = counting(stream).build().stream_result(halt_after=["count"])
    assert container.get() == ({"letters": "ab"}, {"n": 1})


def test_an_action_that_does_not_stream_has_run_when_its_container_comes() -> None:
    application = counting(count).build()
    _, container = application.stream_result(halt_after=["count"])
    assert application.state == {"n": 1}
    assert (list(container), container.get()) == ([], ({"n": 1}, {"n": 1}))


def chain() -> ApplicationBuilder[Any]:
    builder = ApplicationBuilder().with_actions(first=count, second=stream, third=count).with_state(n=0)
    return builder.with_transitions(("first", "second"), ("second", "third")).with_entrypoint("first")


def test_steps_before_the_streamed_action_run_first() -> None:
    application = chain().build()
    streamed, container = application.stream_result(halt_after=["second"])
    assert (streamed.name, application.state, list(container)) == ("second", {"n": 1}, LETTERS)


def test_halting_before_gives_the_next_action_and_an_empty_container() -> None:
    application = chain().build()
    streamed, container = application.stream_result(halt_after=["third"], halt_before=["second"])
    assert (streamed.name, list(container), container.get()) == ("second", [], (None, {"n": 1}))


def test_a_stream_with_nothing_left_to_run_is_an_error() -> None:
    application = counting(stream, limit=1).build()
    application.step()
    with pytest.raises(NothingToRun, match="no transition leads on from 'count'"):
        application.stream_result(halt_after=["count"])


def test_stream_iterate_gives_each_action_with_its_container() -> None:
    log = Log()
    application = chain().with_hooks(log).build()
    found = [(each.name, list(container), container.get()[1]["n"]) for each, container in application.stream_iterate()]
    assert found == [("first", [], 1), ("second", LETTERS, 2), ("third", [], 3)]
    assert log.seen == [
        *("stream_iterate", "before", ("after", None)),
        *("before", "open", ({"letter": "a"}, 1), ({"letter": "b"}, 2), ("after", None), "close"),
        *("before", ("after", None), ("over", None)),
    ]


async def test_what_is_left_in_a_container_is_taken_before_the_next_action() -> None:
    builder = ApplicationBuilder().with_actions(first=astream, second=astream).with_transitions(("first", "second"))
    application = builder.with_state(n=0).with_entrypoint("first").build()
    found = []
    async for each, container in application.astream_iterate(halt_after="second"):
        found.append((each.name, await anext(container), application.state["n"]))
    assert (found, application.state["n"]) == ([("first", {"letter": "a"}, 0), ("second", {"letter": "a"}, 1)], 2)


@pytest.mark.parametrize("method", ["stream_result", "stream_iterate"])
def test_leaving_a_stream_early_abandons_the_step_and_tells_the_hooks(method: str) -> None:
    log, closed = Log(), []

    @streaming_action(reads=[], writes=["n"])
    def endless(state: State) -> Iterator[Any]:
        try:
            while True:
                yield {"more": True}
        finally:
            closed.append(True)

    application = counting(endless).with_hooks(log).build()
    found = getattr(application, method)(halt_after=["count"])
    _, container = found if method == "stream_result" else next(found)
    for item in container:
        assert item == {"more": True}
        break
    assert (closed, application.state, application.sequence_id) == ([True], {"n": 0}, None)
    assert log.seen[-3:] == [("after", "RunAbandoned"), "close", ("over", "RunAbandoned")]
    assert container.get() == (None, {"n": 0})


async def test_leaving_an_async_stream_early_abandons_the_step() -> None:
    closed = asyncio.Event()

    @streaming_action(reads=[], writes=["n"])
    async def endless(state: State) -> AsyncIterator[Any]:
        try:
            while True:
                yield {"more": True}
        finally:
            closed.set()

    application = counting(endless).build()
    _, container = await application.astream_result(halt_after=["count"])
    async with aclosing(container.__aiter__()) as items:
        assert await anext(items) == {"more": True}
    assert closed.is_set()
    assert await container.get() == (None, {"n": 0})
    assert application.sequence_id is None


def test_leaving_iterate_early_tells_the_hooks_once() -> None:
    log = Log()
    steps = counting(count).with_hooks(log).build().iterate()
    next(steps)
    steps.close()
    assert log.seen == ["iterate", "before", ("after", None), ("over", RunAbandoned.__name__)]


def test_an_error_thrown_into_an_iteration_or_a_stream_abandons_the_run_and_tells_the_hooks() -> None:
    log = Log()
    steps = counting(count).with_hooks(log).build().iterate()
    next(steps)
    with pytest.raises(Boom):
        steps.throw(Boom("from outside"))
    assert log.seen == ["iterate", "before", ("after", None), ("over", RunAbandoned.__name__)]


async def test_an_error_thrown_into_an_async_iteration_does_the_same() -> None:
    log = Log()
    with pytest.warns(MixedModeWarning):
        steps = counting(acount).with_hooks(log).build().aiterate()
    await anext(steps)
    with pytest.raises(Boom):
        await steps.athrow(Boom("from outside"))
    assert log.seen == ["aiterate", "before", ("after", None), ("over", RunAbandoned.__name__)]


async def test_cancelling_the_reader_of_a_stream_closes_the_action() -> None:
    closed, started = asyncio.Event(), asyncio.Event()

    @streaming_action(reads=[], writes=["n"])
    async def hanging(state: State) -> AsyncIterator[Any]:
        try:
            yield {"first": True}
            started.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    application = counting(hanging).build()
    _, container = await application.astream_result(halt_after=["count"])
    reader = asyncio.create_task(container.get())
    await started.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert closed.is_set()
    assert application.state == {"n": 0}


@streaming_action(reads=[], writes=["n"])
def breaking(state: State) -> Iterator[Any]:
    yield {"first": True}
    raise Boom("in the middle")


@streaming_action(reads=[], writes=["n"])
async def abreaking(state: State) -> AsyncIterator[Any]:
    yield {"first": True}
    raise Boom("in the middle")


async def test_a_stream_that_fails_gives_its_items_and_then_the_error() -> None:
    application = counting(breaking).build()
    _, container = application.stream_result(halt_after=["count"])
    items = iter(container)
    assert next(items) == {"first": True}
    with pytest.raises(Boom):
        next(items)
    assert (application.state, container.get()) == ({"n": 0}, (None, {"n": 0}))

    application = counting(abreaking).build()
    _, acontainer = await application.astream_result(halt_after=["count"])
    with pytest.raises(Boom):
        await acontainer.get()
    assert application.state == {"n": 0}


@pytest.mark.parametrize("form", ["sync", "async", "sync in async"])
async def test_a_stream_that_raises_after_its_state_has_done_its_work(form: str) -> None:
    @streaming_action(reads=[], writes=["n"])
    def late(state: State) -> Iterator[Any]:
        yield {"done": True}, state.update(n=5)
        raise Boom("while cleaning up")

    @streaming_action(reads=[], writes=["n"])
    async def alate(state: State) -> AsyncIterator[Any]:
        yield {"done": True}, state.update(n=5)
        raise Boom("while cleaning up")

    application = counting(alate if form == "async" else late).build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step = application.step() if form == "sync" else await application.astep()
    assert step[1:] == ({"done": True}, {"n": 5})
    assert StreamErrorWarning in [each.category for each in caught]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"a": 1}], "gave no state; expected a tuple of the result and the new State as its last item"),
        ([], "gave no state"),
        (["text"], "gave a str as an item; expected a dict"),
        ([("x", State())], "gave a str as its result; expected a dict"),
        ([({}, State({"n": 1})), {"a": 1}], "gave no state"),
    ],
)
async def test_a_stream_of_the_wrong_shape_is_an_error(items: list[Any], message: str) -> None:
    @streaming_action(reads=[], writes=["n"])
    def wrong(state: State) -> Iterator[Any]:
        yield from items

    @streaming_action(reads=[], writes=["n"])
    async def awrong(state: State) -> AsyncIterator[Any]:
        for item in items:
            yield item

    with pytest.raises(InvalidResult, match=f"action 'count' {message}"):
        counting(wrong).build().stream_result(halt_after=["count"])[1].get()
    with pytest.raises(InvalidResult, match=f"action 'count' {message}"):
        await counting(awrong).build().astep()


class Spell(StreamingAction):
    reads = property(lambda self: ["n"])
    writes = property(lambda self: ["n"])

    def stream_run(self, state: State, **_: Any) -> Iterator[Any]:
        yield from LETTERS
        yield {"letters": "ab"}

    def update(self, result: Any, state: State) -> State:
        return state.update(n=len(result["letters"]))


class ASpell(AsyncStreamingAction):
    reads = property(lambda self: ["n"])
    writes = property(lambda self: ["n"])

    async def stream_run(self, state: State, **_: Any) -> AsyncIterator[Any]:
        for letter in LETTERS:
            yield letter
        yield {"letters": "ab"}

    def update(self, result: Any, state: State) -> State:
        return state.update(n=len(result["letters"]))


async def test_the_last_item_of_a_class_based_stream_is_its_result() -> None:
    log = Log()
    _, container = counting(Spell()).with_hooks(log).build().stream_result(halt_after=["count"])
    assert (list(container), container.get()) == (LETTERS, ({"letters": "ab"}, {"n": 2}))
    assert [index for item, index in log.seen[3:5]] == [0, 1]
    assert counting(Spell()).build().step()[1:] == ({"letters": "ab"}, {"n": 2})
    assert Spell().run(State()) == {"letters": "ab"}

    _, acontainer = await counting(ASpell()).build().astream_result(halt_after=["count"])
    assert ([item async for item in acontainer], await acontainer.get()) == (LETTERS, ({"letters": "ab"}, {"n": 2}))
    assert await ASpell().run(State()) == {"letters": "ab"}


async def test_a_class_based_sync_stream_keeps_its_items_in_an_async_run() -> None:
    _, container = await counting(Spell()).build().astream_result(halt_after=["count"])
    with pytest.warns(BlockingActionWarning):
        first = await anext(container)
    items = [first, *[item async for item in container]]
    assert (items, await container.get()) == (LETTERS, ({"letters": "ab"}, {"n": 2}))


async def test_a_streaming_function_can_be_called_for_its_result_alone() -> None:
    made = stream.action_function
    assert made.run_and_update(State({"n": 1})) == ({"letters": "ab"}, {"n": 2})
    assert await astream.action_function.run_and_update(State({"n": 1})) == ({"letters": "ab"}, {"n": 2})
    with pytest.raises(ValueError, match="call run_and_update"):
        made.run(State())


def test_a_container_made_by_hand_tells_its_callback_how_it_ended() -> None:
    told: list[Any] = []
    items = (pair for pair in [({"a": 1}, None), ({"b": 2}, State({"n": 1}))])
    container: Any = StreamingResultContainer(
        items, State(), lambda result, state: (result, state.update(m=2)), lambda *ending: told.append(ending)
    )
    assert (list(container), container.get()) == ([{"a": 1}], ({"b": 2}, {"n": 1, "m": 2}))
    assert told == [({"b": 2}, {"n": 1, "m": 2}, None)]


async def test_containers_pass_through_what_is_over() -> None:
    state = State({"n": 1})
    assert StreamingResultContainer.pass_through({"r": 1}, state).get() == ({"r": 1}, state)
    assert await AsyncStreamingResultContainer.pass_through({"r": 1}, state).get() == ({"r": 1}, state)


def test_a_streaming_action_knows_that_it_streams() -> None:
    @action(reads=[], writes=[])
    def plain(state: State) -> State:
        return state

    assert [each.action_function.streaming for each in (stream, astream, plain)] == [True, True, False]


async def test_items_that_nobody_wants_cost_no_hop_each() -> None:
    threads: set[int] = set()

    @streaming_action(reads=[], writes=["n"])
    def many(state: State) -> Iterator[Any]:
        for _ in range(1000):
            threads.add(threading.get_ident())
            yield {}
        yield {"done": True}, state.update(n=1)

    application = counting(many).build()
    with pytest.warns(BlockingActionWarning):
        assert (await application.astep())[1:] == ({"done": True}, {"n": 1})
    assert len(threads) == 1


def test_two_streams_of_one_application_may_be_open_and_each_gives_its_items() -> None:
    application = chain().build()
    _, first = application.stream_result(halt_after=["second"])
    _, second = application.stream_result(halt_after=["second"])
    assert (next(first), next(second), list(first), list(second)) == (LETTERS[0], LETTERS[0], LETTERS[1:], LETTERS[1:])
