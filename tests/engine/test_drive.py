"""`drive`: a run for a host, which takes note of every step before the next one starts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from app.engine import (
    ActionOutcome,
    ApplicationBuilder,
    ApplicationContext,
    BlockingActionWarning,
    BlockingCall,
    HaltReason,
    ItemStreamed,
    MixedModeWarning,
    PostRunStepHook,
    PostRunStepHookAsync,
    PreRunStepHook,
    State,
    Step,
    StepBegun,
    StepEvent,
    StepFailure,
    action,
    streaming_action,
)
from app.engine.errors import InvalidInputs, UnknownAction
from app.engine.operations import Append, Increment, Set, apply_all
from tests.engine.machines import Boom, acount, astream, count, counting, stream


class Host:
    """Keeps what it is told, in order, and carries sync code out at once."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.refuses = False

    def is_cancelled(self) -> bool:
        return False

    def leave_behind(self, task: "asyncio.Task[Any]") -> None:
        raise AssertionError("no action goes on here")

    async def call_action(self, call: BlockingCall) -> ActionOutcome:
        self.seen.append(("call", call.action.name, call.view.get_all(), dict(call.inputs)))
        return call.perform()

    async def stream_action(self, call: BlockingCall) -> AsyncGenerator[Any, None]:
        self.seen.append(("stream", call.action.name))
        for item in call.stream():
            yield item

    async def call_hook(self, call: Callable[[], Any]) -> Any:
        self.seen.append("hook")
        return call()

    def emit(self, event: StepEvent) -> None:
        self.seen.append(event)

    async def commit(self, step: Step) -> None:
        if self.refuses:
            raise ConnectionError
        self.seen.append(step)

    async def pause(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    async def record_failure(self, failure: StepFailure) -> None:
        self.seen.append(failure)

    @property
    def steps(self) -> list[Step]:
        return [each for each in self.seen if isinstance(each, Step)]


async def test_each_step_is_begun_and_committed_in_order_and_the_last_one_says_why_it_is_the_last() -> None:
    host = Host()
    application = counting(acount, limit=2).blueprint().instantiate(app_id="s")
    ended = await application.drive(host)
    assert [each if isinstance(each, StepBegun) else (each.seq, each.next_action, each.halt) for each in host.seen] == [
        StepBegun(0, "count"),
        (0, "count", None),
        StepBegun(1, "count"),
        (1, None, HaltReason.END),
    ]
    assert (ended.halt, ended.steps, ended.action, ended.result, ended.state, ended.next_action) == (
        HaltReason.END,
        2,
        "count",
        {"n": 2},
        {"n": 2},
        None,
    )


@pytest.mark.parametrize(
    ("limits", "halt"),
    [
        ({"halt_before": ["count"]}, HaltReason.HALT_BEFORE),
        ({"halt_after": ["count"]}, HaltReason.HALT_AFTER),
        ({"max_steps": 1}, HaltReason.MAX_STEPS),
    ],
)
async def test_why_a_run_ends_is_known_when_its_last_step_is_committed(limits: dict[str, Any], halt: HaltReason) -> None:
    host = Host()
    ended = await counting(acount).blueprint().instantiate(app_id="s").drive(host, **limits)
    assert ([each.halt for each in host.steps], ended.halt, ended.next_action) == ([halt], halt, "count")


async def test_operations_lead_from_each_state_to_the_next() -> None:
    @action(reads=["n"], writes=["n", "log", "total"])
    async def work(state: State) -> State:
        return state.update(n=state["n"] + 1).append(log=state["n"]).increment(total=2)

    host = Host()
    application = counting(work).blueprint().instantiate(app_id="s", state={"n": 0, "log": ["x"]})
    await application.drive(host, max_steps=3)
    assert host.steps[0].operations == (Set("n", 1), Append("log", 0), Increment("total", 2))
    values: dict[str, Any] = {"n": 0, "log": ["x"]}
    for step in host.steps:
        values = apply_all(values, step.operations)
        assert values == step.state
    assert values == {"n": 3, "log": ["x", 0, 1, 2], "total": 6}


async def test_a_session_goes_on_where_it_was() -> None:
    blueprint = counting(acount, limit=5).blueprint()
    host = Host()
    application = blueprint.instantiate(app_id="s", partition_key="p", state={"n": 3}, seq=7, prior_action="count")
    assert (application.sequence_id, application.partition_key, blueprint.next_action({"n": 3}, "count")) == (7, "p", "count")
    await application.drive(host)
    assert [(step.seq, step.state["n"]) for step in host.steps] == [(8, 4), (9, 5)]
    assert blueprint.next_action({"n": 5}, "count") is None
    assert blueprint.next_action({}, None) == "count"
    with pytest.raises(UnknownAction, match="'cuont'"):
        blueprint.instantiate(app_id="s", prior_action="cuont")


async def test_a_new_session_has_the_default_state_and_is_before_its_first_step() -> None:
    blueprint = counting(acount).blueprint()
    application = blueprint.instantiate(app_id="s")
    assert (application.state, application.sequence_id, blueprint.default_state) == ({"n": 0}, None, {"n": 0})


async def test_sync_actions_and_hooks_go_through_the_host_without_a_warning() -> None:
    class Sync(PostRunStepHook):
        def post_run_step(self, **_: Any) -> None: ...

    class Async(PostRunStepHookAsync):
        async def post_run_step(self, **_: Any) -> None: ...

    host = Host()
    await counting(count).with_hooks(Sync(), Async()).blueprint().instantiate(app_id="s").drive(host, max_steps=1)
    assert [each for each in host.seen if not isinstance(each, Step)] == [
        StepBegun(0, "count"),
        ("call", "count", {"n": 0}, {}),
        "hook",
    ]


@pytest.mark.parametrize("of", [stream, astream])
async def test_items_of_streaming_actions_are_emitted(of: Any) -> None:
    host = Host()
    await counting(of).blueprint().instantiate(app_id="s").drive(host, max_steps=1)
    assert [each for each in host.seen if isinstance(each, ItemStreamed)] == [
        ItemStreamed(0, "count", 0, {"letter": "a"}),
        ItemStreamed(0, "count", 1, {"letter": "b"}),
    ]
    assert host.steps[0].result == {"letters": "ab"}


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_failure_is_recorded_and_then_leaves_unchanged(is_async: bool) -> None:
    error = Boom("no")

    @action(reads=[], writes=["n"])
    async def afail(state: State) -> State:
        raise error

    @action(reads=[], writes=["n"])
    def fail(state: State) -> State:
        raise error

    host = Host()
    application = counting(afail if is_async else fail).blueprint().instantiate(app_id="s")
    with pytest.raises(Boom) as caught:
        await application.drive(host)
    assert caught.value is error
    failure = host.seen[-1]
    assert (failure.seq, failure.action, failure.error, failure.started_at_s <= failure.finished_at_s) == (
        0,
        "count",
        error,
        True,
    )
    assert (host.steps, application.sequence_id) == ([], None)


async def test_a_refused_commit_leaves_the_application_where_it_was() -> None:
    host = Host()
    application = counting(acount).blueprint().instantiate(app_id="s")
    host.refuses = True
    with pytest.raises(ConnectionError):
        await application.drive(host, max_steps=1)
    assert (application.state, application.sequence_id) == ({"n": 0}, None)
    assert not any(isinstance(each, StepFailure) for each in host.seen)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"inputs": {"x": 1}}, InvalidInputs),
        ({"halt_after": ["nope"]}, UnknownAction),
        ({"max_steps": 0}, ValueError),
    ],
)
async def test_what_is_asked_wrongly_is_refused_before_anything_happens(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    host = Host()
    with pytest.raises(error):
        await counting(acount).blueprint().instantiate(app_id="s").drive(host, **arguments)
    assert host.seen == []


async def test_a_stream_is_closed_when_the_commit_of_its_step_fails() -> None:
    closed: list[bool] = []

    @streaming_action(reads=[], writes=["n"])
    async def tidy(state: State) -> AsyncIterator[Any]:
        try:
            yield {"a": 1}
            yield {}, state.update(n=1)
        finally:
            closed.append(True)

    host = Host()
    host.refuses = True
    with pytest.raises(ConnectionError):
        await counting(tidy).blueprint().instantiate(app_id="s").drive(host, max_steps=1)
    assert closed == [True]


async def test_an_emit_that_raises_ends_the_run_and_closes_the_stream() -> None:
    closed: list[bool] = []

    @streaming_action(reads=[], writes=["n"])
    def tidy(state: State) -> Iterator[Any]:
        try:
            yield {"a": 1}
            yield {}, state.update(n=1)
        finally:
            closed.append(True)

    class Deaf(Host):
        def emit(self, event: StepEvent) -> None:
            if isinstance(event, ItemStreamed):
                raise Boom

    with pytest.raises(Boom):
        await counting(tidy).blueprint().instantiate(app_id="s").drive(Deaf(), max_steps=1)
    assert closed == [True]


async def test_actions_know_the_run_and_have_a_token_that_is_the_same_for_every_attempt() -> None:
    seen: list[Any] = []

    @action(reads=[], writes=["n"])
    async def once(state: State, __context: ApplicationContext) -> State:
        seen.append((__context.run_id, __context.sequence_id, __context.idempotency_token, __context.action_name))
        if len(seen) == 1:
            raise Boom
        return state.update(n=1)

    builder = ApplicationBuilder().with_actions(once=once).with_entrypoint("once").with_transitions(("once", "once"))
    application = builder.blueprint().instantiate(app_id="s")
    with pytest.raises(Boom):
        await application.drive(Host(), run_id="r1")
    await application.drive(Host(), run_id="r2", max_steps=2)
    assert seen == [("r1", 0, "s:0", "once"), ("r2", 0, "s:0", "once"), ("r2", 1, "s:1", "once")]


async def test_a_run_on_an_event_loop_of_its_own_inside_an_action_leaves_the_host_alone() -> None:
    class Elsewhere(Host):
        async def call_action(self, call: BlockingCall) -> ActionOutcome:
            self.seen.append(("call", call.action.name))
            return await asyncio.to_thread(call.perform)

    class Before(PreRunStepHook):
        def pre_run_step(self, **_: Any) -> None: ...

    @action(reads=["n"], writes=["n"])
    def outer(state: State) -> State:
        inner = counting(count).with_hooks(Before()).build()
        asyncio.run(inner.arun(halt_after=["count"]))
        return state.update(n=inner.state["n"])

    host = Elsewhere()
    application = counting(outer).blueprint().instantiate(app_id="s")
    with pytest.warns((BlockingActionWarning, MixedModeWarning)):
        await application.drive(host, max_steps=1)
    assert application.state == {"n": 1}
    assert [each for each in host.seen if each == "hook" or isinstance(each, tuple)] == [("call", "count")]


async def test_two_applications_of_one_blueprint_share_nothing_that_moves() -> None:
    blueprint = counting(acount).blueprint()
    one, two = blueprint.instantiate(app_id="1"), blueprint.instantiate(app_id="2")
    await one.drive(Host(), max_steps=3)
    await two.drive(Host(), max_steps=1)
    assert (one.state, two.state, blueprint.default_state) == ({"n": 3}, {"n": 1}, {"n": 0})
