"""The engine's persisters over the tables of the service, in both colours."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.operations import Append, Set
from app.engine.serde import FIELD_SERIALIZATION, register_field_serde
from app.persistence.persisters import AsyncSQLAlchemyPersister, SQLAlchemyPersister
from app.persistence.store import StepConflict
from tests.persistence.making import opened


class Sync:
    """The async persister with the methods of the sync one, so that one suite is for both."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._inner = AsyncSQLAlchemyPersister.from_values(url)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._runner.run(getattr(self._inner, name)(*args, **kwargs))

    def close(self) -> None:
        self.cleanup()
        self._runner.close()


@pytest.fixture(params=["sync", "async"])
def persister(request: pytest.FixtureRequest, database_url: str) -> Iterator[Any]:
    if request.param == "sync":
        with SQLAlchemyPersister.from_values(database_url) as made:
            yield made
        return
    made = Sync(database_url)
    made.initialize()
    yield made
    made.close()


def save(persister: Any, key: str | None, app: str, seq: int, **values: Any) -> None:
    persister.save(key, app, seq, f"action{seq}", State(values), "completed")


def test_what_was_saved_is_loaded(persister: Any) -> None:
    save(persister, "pk", "app", 0, x=(1, {2}))
    saved = persister.load("pk", "app")
    assert saved.pop("created_at").endswith("+00:00")
    assert saved.pop("state").get_all() == {"x": (1, {2})}
    assert saved == {"partition_key": "pk", "app_id": "app", "sequence_id": 0, "position": "action0", "status": "completed"}


def test_every_step_can_be_loaded(persister: Any) -> None:
    for seq in range(60):
        save(persister, "pk", "app", seq, n=seq, log=[f"entry {number}" for number in range(seq)])
    for seq in (0, 1, 30, 59):
        saved = persister.load("pk", "app", seq)
        assert saved["state"].get_all() == {"n": seq, "log": [f"entry {number}" for number in range(seq)]}
        assert (saved["sequence_id"], saved["position"]) == (seq, f"action{seq}")
    assert persister.load("pk", "app")["sequence_id"] == 59
    assert persister.load("pk", "app", 60) is None
    assert persister.load("pk", "app", -1) is None


def test_partitions_are_kept_apart_and_none_is_one_of_them(persister: Any) -> None:
    save(persister, None, "app", 0, x="none")
    save(persister, "pk", "app", 0, x="pk")
    save(persister, "pk", "other", 0)
    assert persister.load(None, "app")["state"]["x"] == "none"
    assert persister.load("pk", "app")["state"]["x"] == "pk"
    assert persister.load("other", "app") is None
    assert persister.list_app_ids(None) == ["app"]
    assert persister.list_app_ids("pk") == ["other", "app"]


def test_asking_for_an_application_does_not_make_one(persister: Any) -> None:
    assert persister.load("pk", "app") is None
    assert persister.load("pk", None) is None
    assert persister.list_app_ids("pk") == []


def test_a_failed_step_is_loaded_as_failed_and_may_be_taken_again(persister: Any) -> None:
    persister.save("pk", "app", 0, "act", State({"x": 0}), "failed")
    saved = persister.load("pk", "app")
    assert (saved["status"], saved["sequence_id"], saved["position"], saved["state"].get_all()) == ("failed", 0, "act", {"x": 0})
    persister.save("pk", "app", 0, "act", State({"x": 1}), "completed")
    persister.save("pk", "app", 1, "next", State({"x": 1}), "failed")
    persister.save("pk", "app", 1, "next", State({"x": 1}), "failed")
    saved = persister.load("pk", "app")
    assert (saved["status"], saved["sequence_id"], saved["position"], saved["state"].get_all()) == ("failed", 1, "next", {"x": 1})
    assert persister.load("pk", "app", 1)["status"] == "failed"
    assert persister.load("pk", "app", 0)["status"] == "completed"
    assert persister.load("pk", "app", 2) is None


def test_a_step_that_does_not_follow_is_refused(persister: Any) -> None:
    save(persister, None, "app", 0)
    for seq in (0, 2):
        with pytest.raises(StepConflict):
            save(persister, None, "app", seq)


def test_an_application_may_begin_in_the_middle(persister: Any) -> None:
    save(persister, None, "fork", 7, x=1)
    save(persister, None, "fork", 8, x=2)
    assert persister.load(None, "fork", 7)["state"]["x"] == 1
    assert persister.load(None, "fork", 6) is None


def test_without_an_application_the_one_that_was_saved_last_is_loaded(persister: Any) -> None:
    save(persister, "pk", "a", 0)
    save(persister, "pk", "b", 0)
    save(persister, "pk", "a", 1)
    assert persister.load("pk", None)["app_id"] == "a"
    assert persister.list_app_ids("pk") == ["a", "b"]


def test_a_field_with_functions_of_its_own_is_stored_through_them(persister: Any) -> None:
    register_field_serde("odd", lambda value, **_: {"real": value.real}, lambda value, **_: complex(value["real"]))
    try:
        save(persister, None, "app", 0, odd=3 + 0j, plain=1)
        assert persister.load(None, "app")["state"].get_all() == {"odd": 3 + 0j, "plain": 1}
    finally:
        del FIELD_SERIALIZATION["odd"]


def test_a_copy_saves_to_the_same_place(persister: Any) -> None:
    if isinstance(persister, SQLAlchemyPersister):
        save(persister.copy(), None, "app", 0, x=1)
        assert persister.load(None, "app")["state"]["x"] == 1


def test_the_sync_one_may_be_cleaned_up_twice(database_url: str) -> None:
    made = SQLAlchemyPersister.from_config({"database_url": database_url, "machine": "mine"})
    assert not made.is_initialized()
    with made:
        assert made.is_initialized()
        save(made, None, "app", 0)
    made.cleanup()


@action(reads=["n"], writes=["n", "log"])
def count(state: State[Any]) -> State[Any]:
    return state.increment(n=1).append(log=f"entry {state['n']}")


@action(reads=["n"], writes=["n", "log"])
async def acount(state: State[Any]) -> State[Any]:
    return state.increment(n=1).append(log=f"entry {state['n']}")


def builder(step: Any, persister: Any) -> Any:
    name = step.name if hasattr(step, "name") else step.__name__
    return (
        ApplicationBuilder()
        .with_actions(step)
        .with_transitions((name, name))
        .with_identifiers(app_id="app", partition_key="pk")
        .initialize_from(persister, resume_at_next_action=True, default_state={"n": 0, "log": []}, default_entrypoint=name)
        .with_state_persister(persister)
    )


def test_a_sync_application_goes_on_where_it_was(database_url: str) -> None:
    for finished in (3, 6):
        with SQLAlchemyPersister(database_url) as persister:
            app = builder(count, persister).build()
            for _ in range(3):
                app.step()
            assert (app.state["n"], app.sequence_id) == (finished, finished - 1)
            assert app.state["log"] == [f"entry {number}" for number in range(finished)]


async def test_an_async_application_goes_on_where_it_was_in_small_steps(database_url: str) -> None:
    for finished in (3, 6):
        async with AsyncSQLAlchemyPersister(database_url) as persister:
            app = await builder(acount, persister).abuild()
            for _ in range(3):
                await app.astep()
            assert (app.state["n"], app.sequence_id) == (finished, finished - 1)
    async with opened(database_url) as store:
        steps = await store.list_steps("app")
        assert (await store.get_session("app")).machine == "script"
    # a list that grew is stored as what came to it, also after the application was loaded again
    assert [set(step.operations) for step in steps[1:]] == [
        {Set("n", seq + 1), Append("log", f"entry {seq}")} for seq in range(1, 6)
    ]
