"""Time limits, retries and transitions on errors, in both colours."""

import asyncio
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tenacity import wait_fixed

from app.engine import (
    ApplicationBuilder,
    BlockingActionWarning,
    PostRunStepHook,
    Retry,
    State,
    action,
    on_error,
    streaming_action,
    when,
)
from app.engine.errors import ActionTimeout, InvalidInputs
from tests.engine.machines import Boom, counting

QUICK = Retry(on=Boom, attempts=3, wait_initial_s=0, wait_jitter_s=0)


def test_a_sync_action_ends_in_a_timeout_and_is_left_to_itself() -> None:
    gate = threading.Event()

    @action(reads=[], writes=["n"], timeout_s=0.05)
    def slow(state: State) -> State:
        gate.wait(10)
        return state.update(n=1)

    application = counting(slow).build()
    with pytest.raises(ActionTimeout, match=r"action 'count' did not finish within 0\.05 s") as caught:
        application.step()
    gate.set()
    assert isinstance(caught.value, TimeoutError)
    assert (application.state, application.sequence_id) == ({"n": 0}, None)


async def test_an_async_action_is_cancelled_by_its_timeout() -> None:
    cancelled: list[bool] = []

    @action(reads=[], writes=["n"], timeout_s=0.02)
    async def slow(state: State) -> State:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return state

    with pytest.raises(ActionTimeout):
        await counting(slow).build().astep()
    assert cancelled == [True]


async def test_a_timeout_of_the_actions_own_making_is_not_taken_for_ours() -> None:
    @action(reads=[], writes=["n"], timeout_s=5)
    async def impatient(state: State) -> State:
        raise TimeoutError("mine")

    @action(reads=[], writes=["n"], timeout_s=5)
    def simpatient(state: State) -> State:
        raise TimeoutError("mine")

    for build in (counting(impatient).build(), counting(simpatient).build()):
        warnings.simplefilter("ignore", BlockingActionWarning)
        with pytest.raises(TimeoutError, match="mine") as caught:
            await build.astep()
        assert not isinstance(caught.value, ActionTimeout)


async def test_an_action_within_its_time_limit_is_what_it_would_be_without() -> None:
    @action(reads=["n"], writes=["n"], timeout_s=5)
    def quick(state: State) -> State:
        return state.increment(n=1)

    @action(reads=["n"], writes=["n"], timeout_s=5)
    async def aquick(state: State) -> State:
        return state.increment(n=1)

    assert counting(quick).build().step()[2] == {"n": 1}
    assert (await counting(aquick).build().astep())[2] == {"n": 1}


async def test_a_stream_has_one_time_limit_for_all_its_items() -> None:
    gate = threading.Event()

    @streaming_action(reads=[], writes=["n"], timeout_s=1)
    def slow(state: State) -> Iterator[Any]:
        yield {"first": True}
        gate.wait(10)
        yield {}, state.update(n=1)

    @streaming_action(reads=[], writes=["n"], timeout_s=1)
    async def aslow(state: State) -> AsyncIterator[Any]:
        yield {"first": True}
        await asyncio.sleep(10)
        yield {}, state.update(n=1)

    _, container = counting(slow).build().stream_result(halt_after=["count"])
    assert next(container) == {"first": True}
    with pytest.raises(ActionTimeout, match=r"^action 'count' did not finish within 1 s$"):
        next(container)
    gate.set()

    _, acontainer = await counting(aslow).build().astream_result(halt_after=["count"])
    assert await anext(acontainer) == {"first": True}
    with pytest.raises(ActionTimeout, match=r"^action 'count' did not finish within 1 s$"):
        await anext(acontainer)


def test_the_time_that_a_consumer_takes_is_not_the_streams() -> None:
    @streaming_action(reads=[], writes=["n"], timeout_s=1)
    def quick(state: State) -> Iterator[Any]:
        yield {"first": True}
        yield {}, state.update(n=1)

    _, container = counting(quick).build().stream_result(halt_after=["count"])
    for _item in container:
        time.sleep(1.1)
    assert container.get()[1] == {"n": 1}


async def test_the_time_that_an_async_consumer_takes_is_not_the_streams() -> None:
    @streaming_action(reads=[], writes=["n"], timeout_s=1)
    async def aquick(state: State) -> AsyncIterator[Any]:
        yield {"first": True}
        await asyncio.sleep(0)
        yield {}, state.update(n=1)

    _, acontainer = await counting(aquick).build().astream_result(halt_after=["count"])
    async for _item in acontainer:
        await asyncio.sleep(1.1)
    assert (await acontainer.get())[1] == {"n": 1}


def failing(times: int, of: type[Exception] = Boom, **options: Any) -> tuple[Any, list[int]]:
    calls: list[int] = []

    @action(reads=["n"], writes=["n"], **options)
    def fragile(state: State) -> State:
        calls.append(len(calls))
        if len(calls) <= times:
            raise of(f"attempt {len(calls)}")
        return state.increment(n=1)

    return fragile, calls


def test_a_retried_action_is_one_step_for_everybody_else() -> None:
    class After(PostRunStepHook):
        seen: list[Any] = []  # noqa: RUF012

        def post_run_step(self, *, exception: Exception | None, sequence_id: int, **_: Any) -> None:
            self.seen.append((sequence_id, exception))

    fragile, calls = failing(2, retry=QUICK)
    application = counting(fragile).with_hooks(After()).build()
    assert application.step()[2] == {"n": 1}
    assert (len(calls), After.seen, application.sequence_id) == (3, [(0, None)], 0)


@pytest.mark.parametrize(("times", "of", "calls_made"), [(3, Boom, 3), (1, KeyError, 1)])
def test_the_last_error_of_a_retried_action_leaves(times: int, of: type[Exception], calls_made: int) -> None:
    fragile, calls = failing(times, of, retry=QUICK)
    with pytest.raises(of):
        counting(fragile).build().step()
    assert len(calls) == calls_made


async def test_a_retry_waits_longer_each_time_and_a_number_stands_for_attempts() -> None:
    policy = Retry(wait_initial_s=1, wait_max_s=3, wait_jitter_s=0, attempts=5)
    assert [policy.delay_s(Boom(), attempt) for attempt in (1, 2, 3, 4, 5)] == [1, 2, 3, 3, None]
    assert Retry(wait=wait_fixed(7)).delay_s(Boom(), 1) == 7
    fragile, calls = failing(1, retry=2)
    with pytest.warns(BlockingActionWarning):
        await counting(fragile).build().astep()
    assert (len(calls), (Retry(attempts=2).delay_s(Boom(), 1) or 9) < 2) == (2, True)
    with pytest.raises(ValueError, match="at least 1"):
        Retry(attempts=0)


async def test_a_stream_is_retried_until_it_has_given_an_item() -> None:
    tries: list[int] = []

    @streaming_action(reads=[], writes=["n"], retry=QUICK)
    async def fragile(state: State) -> AsyncIterator[Any]:
        tries.append(1)
        if len(tries) == 1:
            raise Boom
        yield {"try": len(tries)}
        if len(tries) == 2:
            yield {}, state.update(n=1)
        raise Boom

    application = counting(fragile).build()
    _, container = await application.astream_result(halt_after=["count"])
    with pytest.warns(UserWarning, match="after it had given what its step needs"):
        assert [item async for item in container] == [{"try": 2}]
    assert application.state == {"n": 1}
    with pytest.raises(Boom):
        await application.astep()
    assert len(tries) == 3


@action(reads=["n"], writes=["n"])
def mend(state: State) -> State:
    return state.update(n=-1)


def with_rescue(of: Any, *conditions: Any, to: str = "mend") -> Any:
    builder = ApplicationBuilder().with_actions(work=of, mend=mend).with_state(n=0).with_entrypoint("work")
    edges = [("work", each_to, condition) for each_to, condition in conditions]
    return builder.with_transitions(*edges, ("work", "mend")).build()


def test_an_error_leads_to_the_action_that_handles_it_in_the_same_step() -> None:
    fragile, _ = failing(9)
    application = with_rescue(fragile, ("mend", on_error(Boom)))
    action_, _, state = application.step()
    assert (action_.name, state, application.sequence_id) == ("mend", {"n": -1}, 0)


def test_an_error_of_another_type_is_not_handled() -> None:
    fragile, _ = failing(9, KeyError)
    with pytest.raises(KeyError):
        with_rescue(fragile, ("mend", on_error((Boom, OSError)))).step()


def test_a_transition_on_error_is_taken_so_many_times_and_then_the_next_one() -> None:
    fragile, calls = failing(9)
    application = with_rescue(fragile, ("work", on_error(Boom, max_attempts=2)), ("mend", on_error(Boom)))
    assert application.step()[0].name == "mend"
    assert len(calls) == 3


def test_attempts_are_counted_within_one_step() -> None:
    fragile, calls = failing(2)
    application = with_rescue(fragile, ("work", on_error(Boom, max_attempts=2)))
    assert application.step()[2] == {"n": 1}
    calls.clear()
    application.reset_to_entrypoint()
    assert application.step()[2] == {"n": 2}
    assert len(calls) == 3


def test_an_unhandled_error_leaves_when_all_attempts_are_used_up() -> None:
    fragile, calls = failing(9)
    with pytest.raises(Boom, match="attempt 4"):
        with_rescue(fragile, ("work", on_error(Boom))).step()
    assert len(calls) == 4


def test_a_condition_on_the_state_may_be_joined() -> None:
    fragile, _ = failing(9)
    assert with_rescue(fragile, ("mend", on_error(Boom) & when(n=0))).step()[0].name == "mend"
    fragile, _ = failing(9)
    with pytest.raises(Boom):
        with_rescue(fragile, ("mend", on_error(Boom) & when(n=5))).step()


def test_a_transition_on_error_does_not_hold_after_success() -> None:
    fragile, _ = failing(0)
    application = with_rescue(fragile, ("work", on_error(Exception)))
    application.step()
    assert application.get_next_action().name == "mend"


def test_inputs_that_are_refused_are_no_error_of_the_action() -> None:
    fragile, calls = failing(0)
    with pytest.raises(InvalidInputs):
        with_rescue(fragile, ("mend", on_error(ValueError))).step(inputs={"x": 1})
    assert calls == []


async def test_a_timeout_can_be_handled_like_any_error() -> None:
    @action(reads=[], writes=["n"], timeout_s=0.01)
    async def slow(state: State) -> State:
        await asyncio.sleep(10)
        return state

    application = with_rescue(slow, ("mend", on_error(TimeoutError)))
    with pytest.warns(BlockingActionWarning):
        assert (await application.astep())[0].name == "mend"


def test_an_action_says_how_it_wants_to_be_carried_out() -> None:
    @action(reads=[], writes=[], executor="process", timeout_s=1.5, retry=2)
    def heavy(state: State) -> State:
        return state

    made = heavy.action_function
    assert (made.executor, made.timeout_s, made.retry) == ("process", 1.5, Retry(attempts=2))
    bound = made.with_params()
    assert (bound.executor, bound.timeout_s, bound.retry) == ("process", 1.5, Retry(attempts=2))


async def test_an_action_that_handles_the_error_of_a_stream_takes_its_place_in_the_container() -> None:
    @streaming_action(reads=[], writes=["n"])
    async def breaking(state: State) -> AsyncIterator[Any]:
        yield {"from": "breaking"}
        raise Boom

    @streaming_action(reads=[], writes=["n"])
    async def mending(state: State) -> AsyncIterator[Any]:
        yield {"from": "mending"}
        yield {"mended": True}, state.update(n=5)

    builder = ApplicationBuilder().with_actions(work=breaking, mend=mending).with_state(n=0).with_entrypoint("work")
    application = builder.with_transitions(("work", "mend", on_error(Boom))).build()
    _, container = await application.astream_result(halt_after=["work"])
    assert [item async for item in container] == [{"from": "breaking"}, {"from": "mending"}]
    assert await container.get() == ({"mended": True}, {"n": 5})
