"""Builders: identity, state, persisters, resuming and forking, parents, trackers, and what is refused."""

import gc
import json
import pathlib
import tracemalloc
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from app.engine import (
    Application,
    ApplicationBuilder,
    AsyncInMemoryPersister,
    BaseStatePersister,
    InMemoryPersister,
    LocalTrackingClient,
    MixedModeWarning,
    ParentPointer,
    PostApplicationCreateHook,
    PostRunStepHook,
    SQLitePersister,
    State,
    action,
)
from app.engine.errors import BuildError, EngineError, UninitializedPersister, UnknownAction
from tests.engine.engines import BURR, OURS
from tests.engine.machines import Boom, acount, count, counting


@action(reads=["n"], writes=["n"])
def double(state: State) -> State:
    return state.update(n=state["n"] * 2)


def pair() -> ApplicationBuilder[Any]:
    """`count` and `double` in turns, without a beginning."""
    return (
        ApplicationBuilder().with_actions(count=count, double=double).with_transitions(("count", "double"), ("double", "count"))
    )


def test_every_application_has_an_identity() -> None:
    one, two = counting().build(), pair().with_entrypoint("count").with_state(n=0).build()
    assert (one.uid, one.partition_key) == ("app", "part")
    assert len(two.uid) == 36
    assert two.partition_key is None


def test_the_first_step_follows_the_given_number() -> None:
    application = counting().with_identifiers(sequence_id=5).build()
    application.step()
    assert application.sequence_id == 6


def test_state_comes_in_parts_or_whole() -> None:
    builder = pair().with_entrypoint("count").with_state(n=1).with_state(m=2)
    assert builder.build().state == {"n": 1, "m": 2}
    assert pair().with_entrypoint("count").with_state(State({"n": 1})).build().state == {"n": 1}


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: ApplicationBuilder().with_entrypoint("a").build(), BuildError, "needs actions; call with_actions"),
        (lambda: ApplicationBuilder().with_actions(count=count).build(), BuildError, "call with_entrypoint"),
        (
            lambda: ApplicationBuilder().with_actions(count=count).with_entrypoint("coun").build(),
            UnknownAction,
            r"the entrypoint names the action 'coun', .*did you mean 'count'",
        ),
        (lambda: pair().with_entrypoint("a").with_entrypoint("b"), BuildError, "the entrypoint is 'a' already"),
        (lambda: pair().with_state(n=1).with_state(State({})), BuildError, "part of the state has been set before"),
        (lambda: pair().with_state(object()), BuildError, "with_state got an object; call with_typing first"),
        (
            lambda: pair().with_state(n=1).initialize_from(InMemoryPersister(), True, {}, "count"),
            BuildError,
            "cannot be combined with with_state",
        ),
        (
            lambda: pair().initialize_from(InMemoryPersister(), True, {}, "count").with_state(n=1),
            BuildError,
            "cannot follow initialize_from",
        ),
        (
            lambda: pair().initialize_from(InMemoryPersister(), True, {}, "count").with_entrypoint("count"),
            BuildError,
            "cannot follow initialize_from",
        ),
        (
            lambda: pair().initialize_from(InMemoryPersister(), True, {}, "count", fork_from_sequence_id=0),
            BuildError,
            "need fork_from_app_id",
        ),
        (
            lambda: (
                pair()
                .with_identifiers(app_id="a")
                .initialize_from(InMemoryPersister(), True, {"n": 0}, "count", fork_from_app_id="a")
                .build()
            ),
            BuildError,
            "application 'a' cannot be a fork of itself",
        ),
        (lambda: pair().with_state_persister(InMemoryPersister(), on_every="run"), BuildError, "on_every is 'run'"),  # type: ignore[arg-type]
        (lambda: pair().with_tracker("remote"), BuildError, "there is no tracker 'remote'"),
        (lambda: pair().with_tracker(object(), params={}), BuildError, "params are for a tracker that is given by name"),
        (
            lambda: pair().with_parallel_executor(ThreadPoolExecutor).with_parallel_executor(ThreadPoolExecutor),
            BuildError,
            "with_parallel_executor was called before",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def resumed(persister: Any, app_id: str = "app", resume: bool = True, **more: Any) -> ApplicationBuilder[Any]:
    builder = pair().with_identifiers(app_id=app_id, partition_key="p").with_state_persister(persister)
    return builder.initialize_from(persister, resume, {"n": 0}, "count", **more)


def test_an_application_is_stored_step_by_step_and_goes_on_from_there() -> None:
    persister = InMemoryPersister()
    application = resumed(persister).build()
    assert (application.state, application.sequence_id, application.parent_pointer) == ({"n": 0}, None, None)
    application.run(halt_after=["double"])
    again = resumed(persister).build()
    assert (again.state, again.sequence_id, again.get_next_action().name) == ({"n": 2}, 1, "count")
    again.step()
    saved = persister.load("p", "app")
    assert (saved["state"], saved["sequence_id"], saved["position"], saved["status"]) == ({"n": 3}, 2, "count", "completed")


def test_without_resuming_the_state_stays_and_the_beginning_is_the_entrypoint() -> None:
    persister = InMemoryPersister()
    resumed(persister).build().step()
    again = resumed(persister, resume=False).build()
    assert (again.state, again.get_next_action().name, again.sequence_id) == ({"n": 1}, "count", 0)


def test_a_failed_step_is_stored_with_the_state_from_before_and_taken_again() -> None:
    fails = [True]

    @action(reads=["n"], writes=["n"])
    def fragile(state: State) -> State:
        if fails.pop():
            raise Boom
        return state.update(n=9)

    persister = InMemoryPersister()

    def build() -> Any:
        builder = ApplicationBuilder().with_actions(count=count, fragile=fragile).with_transitions(("count", "fragile"))
        builder = builder.with_identifiers(app_id="app").with_state_persister(persister)
        return builder.initialize_from(persister, True, {"n": 0}, "count").build()

    with pytest.raises(Boom):
        build().run()
    saved = persister.load(None, "app")
    assert (saved["position"], saved["state"], saved["status"]) == ("fragile", {"n": 1}, "failed")
    again = build()
    fails.append(False)
    assert (again.get_next_action().name, again.run()[2]) == ("fragile", {"n": 9})


def test_a_fork_begins_after_any_step_of_another_application_and_knows_it() -> None:
    persister = InMemoryPersister()
    original = resumed(persister).build()
    for _ in range(4):
        original.step()
    more = {"fork_from_app_id": "app", "fork_from_partition_key": "p", "fork_from_sequence_id": 1}
    fork = resumed(persister, "fork", **more).build()
    assert (fork.uid, fork.state, fork.sequence_id, fork.get_next_action().name) == ("fork", {"n": 2}, 1, "count")
    assert fork.parent_pointer == ParentPointer("app", "p", 1)
    fork.step()
    assert (persister.load("p", "fork")["state"], persister.load("p", "app")["state"]) == ({"n": 3}, {"n": 6})


def test_a_fork_may_change_values() -> None:
    persister = InMemoryPersister()
    resumed(persister).build().step()
    more: dict[str, Any] = {"fork_from_app_id": "app", "fork_from_partition_key": "p", "override_state_values": {"n": 50}}
    assert resumed(persister, "fork", **more).build().state == {"n": 50}


def test_a_fork_of_nothing_begins_with_the_defaults(caplog: pytest.LogCaptureFixture) -> None:
    fork = resumed(InMemoryPersister(), "fork", fork_from_app_id="nobody").build()
    assert (fork.state, fork.sequence_id, fork.parent_pointer) == ({"n": 0}, None, None)
    assert "nothing is saved to fork from" in caplog.text


async def test_async_persisters_do_the_same() -> None:
    persister = AsyncInMemoryPersister()

    async def build() -> Any:
        builder = ApplicationBuilder().with_actions(count=acount).with_transitions(("count", "count"))
        builder = builder.with_identifiers(app_id="app").with_state_persister(persister)
        return await builder.initialize_from(persister, True, {"n": 0}, "count").abuild()

    await (await build()).astep()
    again = await build()
    assert (again.state, again.sequence_id) == ({"n": 1}, 0)


def test_states_saved_by_burr_bring_their_own_keys_which_are_dropped() -> None:
    class Old(InMemoryPersister):
        def load(self, *_: Any, **__: Any) -> Any:
            state = State({"n": 1, "__PRIOR_STEP": "count", "__SEQUENCE_ID": 4})
            return {"state": state, "sequence_id": 4, "position": "count", "status": "completed", "app_id": "app"}

    application = resumed(Old()).build()
    assert (application.state, application.sequence_id, application.get_next_action().name) == ({"n": 1}, 4, "double")


@pytest.mark.parametrize(
    ("given", "stands"),
    [
        ({"__PRIOR_STEP": "count", "__SEQUENCE_ID": 7}, (7, "double")),
        ({"__PRIOR_STEP": "count"}, (None, "double")),
        ({"__SEQUENCE_ID": 7}, (7, "count")),
    ],
)
def test_a_state_may_say_where_an_application_stands_as_burr_has_it(given: dict[str, Any], stands: tuple[Any, str]) -> None:
    for engine in (BURR, OURS):
        add = engine.action(reads=["n"], writes=["n"])(lambda state: state.update(n=state["n"] + 1))
        twice = engine.action(reads=["n"], writes=["n"])(lambda state: state.update(n=state["n"] * 2))
        builder = engine.ApplicationBuilder().with_actions(count=add, double=twice).with_entrypoint("count")
        builder = builder.with_transitions(("count", "double"), ("double", "count"))
        application = builder.with_state(n=1, **given).build()
        assert (application.sequence_id, application.get_next_action().name) == stands, engine.label
        application.step()
        assert application.sequence_id == (-1 if stands[0] is None else stands[0]) + 1, engine.label
    assert application.state == {"n": 2}, "these keys are no part of a state of ours"


@pytest.mark.parametrize("given", [{"__PRIOR_STEP": "nowhere"}, {"__PRIOR_STEP": 1}, {"__SEQUENCE_ID": "7"}])
def test_a_state_that_says_of_no_place_that_an_application_stands_there_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match=r"nowhere|__PRIOR_STEP|__SEQUENCE_ID"):
        pair().with_entrypoint("count").with_state(n=1, **given).build()


def test_a_persister_that_is_not_ready_is_refused() -> None:
    class Cold(InMemoryPersister):
        def is_initialized(self) -> bool:
            return False

    class Silent(InMemoryPersister):
        def is_initialized(self) -> bool:
            return BaseStatePersister.is_initialized(self)

    with pytest.raises(UninitializedPersister, match=r"Cold is not initialized; call its initialize\(\)"):
        resumed(Cold()).build()
    assert resumed(Silent()).build().state == {"n": 0}


def test_a_loader_that_returns_no_state_is_an_error() -> None:
    class Empty(InMemoryPersister):
        def load(self, *_: Any, **__: Any) -> Any:
            return {"state": None, "sequence_id": 3, "position": "count", "status": "completed", "app_id": "app"}

    with pytest.raises(BuildError, match="Empty returned no state for step 3 of 'app'"):
        resumed(Empty()).build()


def test_a_hook_may_stand_in_for_a_persister() -> None:
    class Saver(PostRunStepHook):
        saved: list[int] = []  # noqa: RUF012

        def post_run_step(self, *, state: State, **_: Any) -> None:
            self.saved.append(state["n"])

    counting().with_state_persister(Saver()).build().step()
    assert Saver.saved == [1]


def test_create_hooks_hear_of_the_application_and_its_parents() -> None:
    class Created(PostApplicationCreateHook):
        seen: dict[str, Any] = {}  # noqa: RUF012

        def post_application_create(self, **arguments: Any) -> None:
            self.seen.update(arguments)

    application = counting().with_spawning_parent("parent", 3, "pp").with_hooks(Created()).build()
    assert Created.seen == {
        "app_id": "app",
        "partition_key": "part",
        "state": State({"n": 0}),
        "application_graph": application.graph,
        "parent_pointer": None,
        "spawning_parent_pointer": ParentPointer("parent", "pp", 3),
    }
    assert application.spawning_parent_pointer == ParentPointer("parent", "pp", 3)


async def test_create_hooks_are_called_by_abuild_and_not_by_a_blueprint() -> None:
    class Created(PostApplicationCreateHook):
        calls = 0

        def post_application_create(self, **_: Any) -> None:
            Created.calls += 1

    await counting().with_hooks(Created()).abuild()
    counting().with_hooks(Created()).blueprint().instantiate(app_id="a")
    assert Created.calls == 1


def test_the_local_tracker_writes_what_happens_to_a_folder(tmp_path: pathlib.Path) -> None:
    application = counting().with_tracker("local", project="demo", params={"storage_dir": tmp_path}).build()
    application.step()
    folder = tmp_path / "demo" / "app"
    assert json.loads((folder / "graph.json").read_text())["actions"] == [{"name": "count", "reads": ["n"], "writes": ["n"]}]
    begun, ended = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert (begun["type"], begun["sequence_id"], begun["inputs"]) == ("begin_step", 0, {})
    assert (ended["type"], ended["action"], ended["result"], ended["state"], ended["exception"]) == (
        *("end_step", "count", {"n": 1}, {"n": 1}),
        None,
    )
    tracker = application.context.tracker
    assert isinstance(tracker, LocalTrackingClient)
    assert tracker.copy().folder("../up").parent == tracker.folder("..").parent == tmp_path / "demo"


def test_the_context_carries_what_sub_applications_need() -> None:
    persister = InMemoryPersister()

    def pool() -> Executor:
        return ThreadPoolExecutor(1)

    context = resumed(persister).with_parallel_executor(pool).build().context
    assert (context.state_persister, context.state_initializer, context.parallel_executor_factory) == (persister, persister, pool)
    default = counting().build().context.parallel_executor_factory
    assert default is ThreadPoolExecutor


def test_one_builder_makes_several_applications_that_share_nothing() -> None:
    builder = counting()
    one, two = builder.build(), builder.build()
    one.step()
    assert (one.state, two.state) == ({"n": 1}, {"n": 0})


async def test_a_sync_persister_over_sqlite_saves_from_the_threads_of_an_async_run(tmp_path: pathlib.Path) -> None:
    with SQLitePersister(str(tmp_path / "states.db")) as persister:
        persister.initialize()
        application = counting(acount).with_state_persister(persister).build()
        with pytest.warns(MixedModeWarning):
            await application.arun(halt_after=["count"])
        saved = persister.load("part", "app")
    assert (saved["state"], saved["position"]) == ({"n": 1}, "count")


def test_an_idle_application_with_a_builder_of_its_own_takes_less_than_four_kilobytes() -> None:
    def make() -> Application[Any]:
        builder: ApplicationBuilder[Any] = ApplicationBuilder()
        return builder.with_actions(count).with_transitions(("count", "count")).with_state(n=0).with_entrypoint("count").build()

    kept = [make()]
    gc.collect()
    tracemalloc.start()
    try:
        kept += [make() for _ in range(200)]
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] / 200 < 4096
    finally:
        tracemalloc.stop()
