"""What Burr 0.43 gets wrong and this engine must not: each fault is shown on the installed Burr, and then its absence here."""

import asyncio
import logging
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engine.engines import BURR, OURS, play
from tests.engine.machines import Boom


def counting(engine: Any, of: Any, *hooks: Any) -> Any:
    builder = engine.ApplicationBuilder().with_actions(count=of).with_transitions(("count", "count")).with_state(n=0)
    return builder.with_entrypoint("count").with_hooks(*hooks)


def sync_count(engine: Any) -> Any:
    @engine.action(reads=["n"], writes=["n"])
    def count(state: Any) -> Any:
        return state.update(n=state["n"] + 1)

    return count


def async_count(engine: Any) -> Any:
    @engine.action(reads=["n"], writes=["n"])
    async def count(state: Any, by: int = 1) -> Any:
        return state.update(n=state["n"] + by)

    return count


def test_a_sync_action_in_an_async_run_is_stored_as_it_is_and_not_as_it_was() -> None:
    def stored_and_live(engine: Any) -> tuple[int, int]:
        async def run() -> tuple[int, int]:
            persister = engine.AsyncInMemoryPersister() if engine is OURS else kept(engine)
            builder = counting(engine, sync_count(engine)).with_identifiers(app_id="app").with_state_persister(persister)
            application = await builder.abuild()
            for _ in range(3):
                await application.astep()
            saved = await persister.load(None, "app")
            return saved["state"]["n"], application.state["n"]

        return asyncio.run(run())

    ours, theirs = play(stored_and_live)
    assert theirs == (2, 3)
    assert ours == (3, 3)


def kept(engine: Any) -> Any:
    """An async persister for Burr that remembers what was saved last."""

    class Kept(engine.AsyncBaseStatePersister):  # type: ignore[name-defined, misc]
        last: Any = None

        async def save(self, partition_key, app_id, sequence_id, position, state, status, **_) -> None:  # type: ignore[no-untyped-def]
            self.last = {"state": state}

        async def load(self, *_: Any, **__: Any) -> Any:
            return self.last

        async def list_app_ids(self, *_: Any, **__: Any) -> list[str]:
            return []

    return Kept()


def test_a_sync_action_in_an_async_run_does_not_block_the_loop() -> None:
    def answer_of_the_loop(engine: Any) -> bool:
        asked, answered = threading.Event(), threading.Event()

        @engine.action(reads=["n"], writes=["n"])
        def ask(state: Any) -> Any:
            asked.set()
            return state.update(n=answered.wait(20 if engine is OURS else 0.3))

        async def answer() -> None:
            while not asked.is_set():  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.001)
            answered.set()

        async def run() -> bool:
            application = counting(engine, ask).build()
            await asyncio.gather(application.astep(), answer())
            return bool(application.state["n"])

        return asyncio.run(run())

    ours, theirs = play(answer_of_the_loop)
    assert theirs is False
    assert ours is True


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_around_iterate_frame_the_steps_and_hear_of_an_error(fails: bool) -> None:
    def events(engine: Any) -> list[Any]:
        seen: list[Any] = []

        class Around(engine.PreApplicationExecuteCallHook, engine.PostApplicationExecuteCallHook):  # type: ignore[name-defined, misc]
            def pre_run_execute_call(self, **_: Any) -> None:
                seen.append("pre")

            def post_run_execute_call(self, *, exception: Any, **_: Any) -> None:
                seen.append(("post", type(exception).__name__))

        @engine.action(reads=["n"], writes=["n"])
        def count(state: Any) -> Any:
            seen.append("step")
            if fails:
                raise Boom
            return state.update(n=state["n"] + 1)

        steps = counting(engine, count, Around()).build().iterate(halt_after=["count"])
        try:
            list(steps)
        except Boom:
            seen.append("raised")
        return seen

    ours, theirs = play(events)
    assert theirs[:2] == ["pre", ("post", "NoneType")]
    assert ours == (["pre", "step", ("post", "Boom"), "raised"] if fails else ["pre", "step", ("post", "NoneType")])


@pytest.mark.parametrize("method", ["step", "run"])
def test_the_hook_after_a_call_is_told_of_its_error(method: str) -> None:
    def told(engine: Any) -> list[Any]:
        seen: list[Any] = []

        class After(engine.PostApplicationExecuteCallHook):  # type: ignore[name-defined, misc]
            def post_run_execute_call(self, *, exception: Any, **_: Any) -> None:
                seen.append(exception)

        @engine.action(reads=[], writes=["n"])
        def fail(state: Any) -> Any:
            raise Boom

        with pytest.raises(Boom):
            getattr(counting(engine, fail, After()).build(), method)()
        return [type(each) for each in seen]

    ours, theirs = play(told)
    assert theirs == [type(None)]
    assert ours == [Boom]


def test_the_hook_before_a_step_gets_the_inputs_of_the_action_in_both_colours() -> None:
    def told(engine: Any) -> list[Any]:
        seen: list[Any] = []

        class Before(engine.PreRunStepHookAsync):  # type: ignore[name-defined, misc]
            async def pre_run_step(self, *, inputs: dict[str, Any], **_: Any) -> None:
                seen.append(inputs)

        @engine.action(reads=[], writes=["n"])
        async def second(state: Any) -> Any:
            return state.update(n=0)

        async def run() -> None:
            builder = engine.ApplicationBuilder().with_actions(count=async_count(engine), second=second)
            builder = builder.with_transitions(("count", "second")).with_state(n=0).with_entrypoint("count")
            await (await builder.with_hooks(Before()).abuild()).arun(halt_after=["second"], inputs={"by": 2})

        asyncio.run(run())
        return seen

    ours, theirs = play(told)
    assert theirs == [{"by": 2}, {"by": 2}]
    assert ours == [{"by": 2}, {}]


def test_rows_of_the_table_that_must_warn_do_warn() -> None:
    """Rows 2, 4 and 8: Burr says nothing at all."""

    def warned(engine: Any) -> list[int]:
        class Sync(engine.PostRunStepHook):  # type: ignore[name-defined, misc]
            def post_run_step(self, **_: Any) -> None:
                pass

        class Async(engine.PostRunStepHookAsync):  # type: ignore[name-defined, misc]
            async def post_run_step(self, **_: Any) -> None:
                pass

        async def count(make: Callable[[Any], Any]) -> int:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                application = make(None)
                application = await application if asyncio.iscoroutine(application) else application
                await application.astep()
            return len(caught)

        async def run() -> list[int]:
            of = async_count(engine)
            rows = [
                lambda _: counting(engine, of, Sync()).build(),
                lambda _: counting(engine, of, Async()).build(),
                lambda _: counting(engine, of, Sync()).abuild(),
            ]
            return [await count(row) for row in rows]

        return asyncio.run(run())

    ours, theirs = play(warned)
    assert theirs == [0, 0, 0]
    assert ours == [1, 1, 1]


def test_errors_and_logs_never_show_the_state(caplog: pytest.LogCaptureFixture) -> None:
    def said(engine: Any) -> str:
        @engine.action(reads=["password"], writes=["n"])
        def forget(state: Any) -> Any:
            return state

        caplog.clear()
        builder = engine.ApplicationBuilder().with_actions(forget).with_state(password="hunter2", n_=1)
        with pytest.raises(ValueError, match="n") as caught:
            builder.with_entrypoint("forget").build().step()
        return caplog.text + "".join(traceback.format_exception(caught.value))

    with caplog.at_level(logging.DEBUG):
        theirs, ours = said(BURR), said(OURS)
    assert "hunter2" in theirs
    assert "hunter2" not in ours
    assert "action 'forget' did not write ['n']; it declares ['n']" in ours


def test_a_failed_step_takes_no_number() -> None:
    def number(engine: Any) -> Any:
        @engine.action(reads=["n"], writes=["n"])
        def fail(state: Any) -> Any:
            raise Boom

        application = counting(engine, fail).build()
        for _ in range(2):
            with pytest.raises(Boom):
                application.step()
        return application.sequence_id

    ours, theirs = play(number)
    assert theirs == 1
    assert ours is None


def test_an_action_writes_only_what_it_declares() -> None:
    def written(engine: Any) -> Any:
        @engine.action(reads=[], writes=["n"])
        def sneak(state: Any) -> Any:
            return state.update(n=1, other=2)

        application = counting(engine, sneak).build()
        try:
            application.step()
        except ValueError as error:
            return str(error)
        return application.state["other"]

    ours, theirs = play(written)
    assert theirs == 2
    assert ours == "action 'count' wrote ['other'] but declares ['n']"


def test_an_action_sees_only_what_it_reads() -> None:
    def seen(engine: Any) -> Any:
        @engine.action(reads=["n"], writes=["n"])
        def peek(state: Any) -> Any:
            return state.update(n=state["secret"])

        application = counting(engine, peek).with_state(secret=7).build()
        try:
            return application.step()[2]["n"]
        except KeyError as error:
            return str(error)

    ours, theirs = play(seen)
    assert theirs == 7
    assert ours == "action 'count' reads 'secret', which it does not declare; its reads are ['n']"


def test_a_streaming_action_with_bare_items_can_be_stepped() -> None:
    def stepped(engine: Any) -> Any:
        @engine.streaming_action(reads=["n"], writes=["n"])
        def count(state: Any) -> Iterator[Any]:
            yield {"one": 1}
            yield {"two": 2}, state.update(n=1)

        try:
            return counting(engine, count).build().step()[1]
        except ValueError:
            return "broke"

    ours, theirs = play(stepped)
    assert theirs == "broke"
    assert ours == {"two": 2}


def test_a_stream_that_ends_elsewhere_does_not_run_its_last_action_again() -> None:
    def ran(engine: Any) -> Any:
        runs: list[str] = []

        @engine.action(reads=[], writes=["n"])
        def first(state: Any) -> Any:
            runs.append("first")
            return {"n": 1}, state.update(n=1)

        @engine.streaming_action(reads=[], writes=["n"])
        def last(state: Any) -> Iterator[Any]:
            runs.append("last")
            yield {"n": 2}, state.update(n=2)

        @engine.action(reads=[], writes=["n"])
        def never(state: Any) -> Any:
            return state.update(n=3)

        builder = engine.ApplicationBuilder().with_actions(first=first, last=last, never=never)
        builder = builder.with_transitions(("first", "last")).with_entrypoint("first")
        action, container = builder.build().stream_result(halt_after=["never"])
        return runs, action.name, container.get()[0], runs.count("last")

    ours, theirs = play(ran)
    assert theirs[3] == 2
    assert ours == (["first", "last"], "last", {"n": 2}, 1)


def test_the_end_of_a_stream_is_told_in_the_same_order_in_both_colours() -> None:
    def order(engine: Any, *, is_async: bool) -> list[str]:
        seen: list[str] = []
        names = {"post_run_step": "PostRunStepHook", "post_end_stream": "PostEndStreamHook"}
        names["post_run_execute_call"] = "PostApplicationExecuteCallHook"
        methods: dict[str, Any] = {}
        for name in names:

            def method(self: Any, *, _name: str = name, **_: Any) -> None:
                seen.append(_name)

            async def amethod(self: Any, *, _name: str = name, **_: Any) -> None:
                seen.append(_name)

            methods[name] = amethod if is_async else method
        hook = type("Hook", tuple(getattr(engine, each + "Async" * is_async) for each in names.values()), methods)()

        @engine.streaming_action(reads=[], writes=["n"])
        def count(state: Any) -> Iterator[Any]:
            yield {}, state.update(n=1)

        @engine.streaming_action(reads=[], writes=["n"])
        async def acount(state: Any) -> Any:
            yield {}, state.update(n=1)

        async def stream() -> None:
            application = await counting(engine, acount, hook).abuild()
            _, container = await application.astream_result(halt_after=["count"])
            await container.get()

        if is_async:
            asyncio.run(stream())
        else:
            counting(engine, count, hook).build().stream_result(halt_after=["count"])[1].get()
        return seen

    ours, theirs = play(lambda engine: [order(engine, is_async=is_async) for is_async in (False, True)])
    assert theirs[0] != theirs[1]
    assert ours == [["post_run_step", "post_end_stream", "post_run_execute_call"]] * 2


def test_building_twice_does_not_double_the_hooks() -> None:
    def calls(engine: Any) -> int:
        class Saver(engine.BaseStatePersister):  # type: ignore[name-defined, misc]
            saved = 0

            def save(self, *_: Any, **__: Any) -> None:
                self.saved += 1

            def load(self, *_: Any, **__: Any) -> Any:
                return None

            def list_app_ids(self, *_: Any, **__: Any) -> list[str]:
                return []

        saver = Saver()
        builder = counting(engine, sync_count(engine)).with_state_persister(saver)
        builder.build()
        builder.build().step()
        return saver.saved

    ours, theirs = play(calls)
    assert theirs == 2
    assert ours == 1


def test_the_context_of_an_outer_application_survives_an_inner_one() -> None:
    def contexts(engine: Any) -> Any:
        @engine.action(reads=[], writes=["n"])
        def inner(state: Any) -> Any:
            return state.update(n=1)

        @engine.action(reads=[], writes=["n"])
        def outer(state: Any) -> Any:
            counting(engine, inner).with_identifiers(app_id="inner").build().step()
            found = engine.ApplicationContext.get()
            seen.append(None if found is None else found.app_id)
            return state.update(n=1)

        seen: list[Any] = []
        counting(engine, outer).with_identifiers(app_id="outer").build().step()
        return seen

    ours, theirs = play(contexts)
    assert theirs == [None]
    assert ours == ["outer"]


def test_an_application_that_is_not_to_resume_begins_at_its_entrypoint() -> None:
    def next_actions(engine: Any) -> list[str]:
        persister = engine.InMemoryPersister()
        found = []
        for resumes in (True, True, False):
            application = (
                engine.ApplicationBuilder()
                .with_actions(count=sync_count(engine), check=sync_count(engine))
                .with_transitions(("count", "check"), ("check", "count"))
                .with_identifiers(app_id="app")
                .initialize_from(persister, resume_at_next_action=resumes, default_state={"n": 0}, default_entrypoint="count")
                .with_state_persister(persister)
                .build()
            )
            found.append(application.get_next_action().name)
            if len(found) == 1:
                application.step()
        return found

    ours, theirs = play(next_actions)
    assert theirs == ["count", "check", "check"]
    assert ours == ["count", "check", "count"]
