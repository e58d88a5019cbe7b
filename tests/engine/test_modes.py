"""The eight rows of the table of sync and async, each in all five forms of a run, and the two rules about actions."""

import asyncio
import threading
import warnings
from typing import Any

import pytest

from app.engine import (
    ApplicationBuilder,
    AsyncInMemoryPersister,
    BlockingActionWarning,
    InMemoryPersister,
    MixedModeError,
    MixedModeWarning,
    PostRunStepHook,
    PreRunStepHook,
    State,
    action,
)
from app.engine.errors import AsyncActionInSyncRun
from tests.engine.calls import METHODS, arun_to_end, run_to_end
from tests.engine.machines import AsyncNotes, Notes, acount, astream, count, counting, stream

EVERY_FORM = pytest.mark.parametrize("method", METHODS)
ONE_STEP = [("before", 0), ("after", 1)]


def mixed_mode_messages(caught: list[warnings.WarningMessage]) -> list[str]:
    assert [each for each in caught if not issubclass(each.category, MixedModeWarning)] == []
    return [str(each.message) for each in caught]


@EVERY_FORM
def test_row_1_sync_hooks_build_run_is_silent(method: str) -> None:
    notes = Notes()
    assert run_to_end(counting(count).with_hooks(notes).build(), method, "count") == {"n": 1}
    assert notes.seen == ONE_STEP


@EVERY_FORM
async def test_row_2_sync_hooks_build_arun_warns_once(method: str) -> None:
    notes = Notes()
    application = counting(acount).with_hooks(notes).build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await arun_to_end(application, method, "count")
        await arun_to_end(application, method, "count")
    [message] = mixed_mode_messages(caught)
    assert "Notes.pre_run_step" in message
    assert "executor" in message
    assert notes.seen == [*ONE_STEP, ("before", 1), ("after", 2)]


@EVERY_FORM
async def test_row_2_sync_hooks_do_not_run_on_the_thread_of_the_loop(method: str) -> None:
    threads: list[int] = []

    class Where(PreRunStepHook, PostRunStepHook):
        def pre_run_step(self, **_: Any) -> None:
            threads.append(threading.get_ident())

        def post_run_step(self, **_: Any) -> None:
            threads.append(threading.get_ident())

    with pytest.warns(MixedModeWarning):
        await arun_to_end(counting(acount).with_hooks(Where()).build(), method, "count")
    assert len(threads) == 2
    assert threading.get_ident() not in threads


@EVERY_FORM
async def test_a_warning_points_to_the_line_of_the_call(method: str) -> None:
    application = counting(count).with_hooks(Notes()).build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await arun_to_end(application, method, "count")
    assert [(each.category, each.filename) for each in caught] == [
        (MixedModeWarning, arun_to_end.__code__.co_filename),
        (BlockingActionWarning, arun_to_end.__code__.co_filename),
    ]


@EVERY_FORM
def test_row_3_async_hooks_build_run_skips_them_and_names_each(method: str) -> None:
    notes = AsyncNotes()
    application = counting(count).with_hooks(notes).build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run_to_end(application, method, "count") == {"n": 1}
        run_to_end(application, method, "count")
    [message] = mixed_mode_messages(caught)
    assert "AsyncNotes.pre_run_step" in message
    assert "AsyncNotes.post_run_step" in message
    assert notes.seen == []


@EVERY_FORM
async def test_row_4_async_hooks_build_arun_works_and_points_to_abuild(method: str) -> None:
    notes = AsyncNotes()
    application = counting(acount).with_hooks(notes).build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert await arun_to_end(application, method, "count") == {"n": 1}
    [message] = mixed_mode_messages(caught)
    assert "abuild()" in message
    assert notes.seen == ONE_STEP


@EVERY_FORM
async def test_row_5_async_hooks_abuild_arun_is_silent(method: str) -> None:
    notes = AsyncNotes()
    application = await counting(acount).with_hooks(notes).abuild()
    assert await arun_to_end(application, method, "count") == {"n": 1}
    assert notes.seen == ONE_STEP


@EVERY_FORM
async def test_row_6_async_hooks_abuild_run_is_an_error(method: str) -> None:
    application = await counting(count).with_hooks(AsyncNotes()).abuild()
    with pytest.raises(MixedModeError, match="use the async run methods"):
        run_to_end(application, method, "count")
    assert application.state.get_all() == {"n": 0}


@EVERY_FORM
async def test_row_7_sync_hooks_abuild_run_is_an_error(method: str) -> None:
    application = await counting(count).with_hooks(Notes()).abuild()
    with pytest.raises(MixedModeError, match=r"use build\(\)"):
        run_to_end(application, method, "count")
    assert application.state.get_all() == {"n": 0}


@EVERY_FORM
async def test_row_8_sync_hooks_abuild_arun_works_and_names_each(method: str) -> None:
    notes = Notes()
    application = await counting(acount).with_hooks(notes).abuild()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert await arun_to_end(application, method, "count") == {"n": 1}
        await arun_to_end(application, method, "count")
    [message] = mixed_mode_messages(caught)
    assert "Notes.pre_run_step" in message
    assert "Notes.post_run_step" in message
    assert "make them async, or use build()" in message
    assert notes.seen[:2] == ONE_STEP


def test_an_async_persister_is_an_error_at_build() -> None:
    with pytest.raises(MixedModeError, match=r"build\(\) got the async persister AsyncInMemoryPersister; use abuild\(\)"):
        counting().with_state_persister(AsyncInMemoryPersister()).build()


async def test_a_sync_persister_is_an_error_at_abuild() -> None:
    with pytest.raises(MixedModeError, match=r"abuild\(\) got the sync persister InMemoryPersister; use build\(\)"):
        await counting().with_state_persister(InMemoryPersister()).abuild()


def test_an_async_initializer_is_an_error_at_build() -> None:
    builder = ApplicationBuilder().with_actions(count=count)
    builder.initialize_from(AsyncInMemoryPersister(), True, {"n": 0}, "count")
    with pytest.raises(MixedModeError, match=r"build\(\) got the async initializer"):
        builder.build()


@EVERY_FORM
def test_a_machine_without_hooks_is_silent_in_a_sync_run(method: str) -> None:
    assert run_to_end(counting(count).build(), method, "count") == {"n": 1}


@EVERY_FORM
async def test_a_machine_without_hooks_is_silent_in_an_async_run(method: str) -> None:
    assert await arun_to_end(counting(acount).build(), method, "count") == {"n": 1}


@EVERY_FORM
def test_an_async_action_in_a_sync_run_is_an_error_that_names_it(method: str) -> None:
    notes = Notes()
    for asynchronous in (acount, astream):
        application = counting(asynchronous).with_hooks(notes).build()
        with pytest.raises(AsyncActionInSyncRun, match="action 'count' is async"):
            run_to_end(application, method, "count")
        assert (application.state.get_all(), application.sequence_id) == ({"n": 0}, None)
    assert notes.seen == []


@EVERY_FORM
async def test_a_sync_action_in_an_async_run_goes_to_a_thread_with_one_warning_and_is_otherwise_the_same(method: str) -> None:
    notes = AsyncNotes()
    application = await counting(count).with_hooks(notes).abuild()
    with pytest.warns(BlockingActionWarning, match="action 'count' is sync"):
        assert await arun_to_end(application, method, "count") == {"n": 1}
    assert await arun_to_end(application, method, "count") == {"n": 2}
    assert notes.seen == [*ONE_STEP, ("before", 1), ("after", 2)]


@EVERY_FORM
async def test_a_sync_streaming_action_streams_in_an_async_run(method: str) -> None:
    application = await counting(stream).abuild()
    with pytest.warns(BlockingActionWarning):
        assert await arun_to_end(application, method, "count") == {"n": 1}


@EVERY_FORM
async def test_a_sync_action_in_an_async_run_does_not_hold_the_loop(method: str) -> None:
    is_released, ticks = threading.Event(), 0

    @action(reads=["n"], writes=["n"])
    def wait(state: State) -> State:
        assert is_released.wait(10)
        return state.increment(n=1)

    async def release() -> None:
        nonlocal ticks
        while ticks < 20:
            ticks += 1
            await asyncio.sleep(0)
        is_released.set()

    with pytest.warns(BlockingActionWarning):
        values, _ = await asyncio.gather(arun_to_end(counting(wait).build(), method, "count"), release())
    assert (values, ticks) == ({"n": 1}, 20)


async def test_each_sync_action_is_warned_about_by_itself() -> None:
    application = await (
        ApplicationBuilder()
        .with_actions(one=count, two=count)
        .with_transitions(("one", "two"), ("two", "one"))
        .with_state(n=0)
        .with_entrypoint("one")
        .abuild()
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            await application.astep()
    assert [str(each.message).split(" is ")[0] for each in caught] == ["action 'one'", "action 'two'"]


async def test_context_variables_reach_a_sync_action_in_its_thread() -> None:
    from contextvars import ContextVar

    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

    @action(reads=[], writes=["tenant"])
    def note(state: State) -> State:
        return state.update(tenant=tenant.get())

    tenant.set("acme")
    with pytest.warns(BlockingActionWarning):
        values = await arun_to_end(counting(note).build(), "step", "count")
    assert values == {"n": 0, "tenant": "acme"}


async def test_a_slow_sync_hook_leaves_the_loop_free() -> None:
    begun, over = threading.Event(), threading.Event()

    class Slow(PostRunStepHook):
        def post_run_step(self, **_: Any) -> None:
            begun.set()
            assert over.wait(20)

    application = counting(acount).with_hooks(Slow()).build()

    async def end_it() -> None:
        while not begun.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.001)
        over.set()

    with pytest.warns(MixedModeWarning):
        await asyncio.gather(application.astep(), end_it())
