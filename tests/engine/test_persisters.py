"""Persisters over memory and over SQLite: one contract for all of them, in both colours, and Burr's beside them."""

import asyncio
import copy
import pathlib
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import aiosqlite
import pytest
from engines import BURR, OURS, play
from hypothesis import given
from hypothesis import strategies as st

from app.engine import (
    ApplicationBuilder,
    AsyncDevNullPersister,
    AsyncInMemoryPersister,
    AsyncSQLitePersister,
    DevNullPersister,
    InMemoryPersister,
    MissingTable,
    SQLitePersister,
    State,
    StepTaken,
    action,
)

Persister = Any


class Sync:
    """An async persister with the methods of a sync one, on a loop of its own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._runner = asyncio.Runner()
        self._inner = self._runner.run(self._made(make))

    @staticmethod
    async def _made(make: Callable[[], Any]) -> Any:
        made = make()
        return await made if hasattr(made, "__await__") else made

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self._runner.run(getattr(self._inner, name)(*args, **kwargs))

    def close(self) -> None:
        if hasattr(self._inner, "cleanup"):
            self._runner.run(self._inner.cleanup())
        self._runner.close()


@pytest.fixture(params=["memory", "async memory", "sqlite", "async sqlite"])
def persister(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Persister]:
    path = str(tmp_path / "states.db")
    if request.param == "memory":
        yield InMemoryPersister()
    elif request.param == "sqlite":
        with SQLitePersister(path) as made:
            made.initialize()
            yield made
    else:
        made = Sync(AsyncInMemoryPersister if request.param == "async memory" else lambda: AsyncSQLitePersister.from_values(path))
        made.initialize()
        yield made
        made.close()


def save(persister: Persister, key: str | None, app: str, seq: int, **values: Any) -> None:
    persister.save(key, app, seq, f"action{seq}", State(values), "completed")


def test_what_was_saved_is_loaded(persister: Persister) -> None:
    save(persister, "pk", "app", 0, x=(1, {2}))
    saved = persister.load("pk", "app")
    assert saved.pop("created_at")
    assert saved.pop("state").get_all() == {"x": (1, {2})}
    assert saved == {"partition_key": "pk", "app_id": "app", "sequence_id": 0, "position": "action0", "status": "completed"}


def test_the_latest_step_is_loaded_unless_one_is_named(persister: Persister) -> None:
    for seq in range(3):
        save(persister, "pk", "app", seq, x=seq)
    assert persister.load("pk", "app")["state"]["x"] == 2
    assert persister.load("pk", "app", 1)["state"]["x"] == 1
    assert persister.load("pk", "app", 0)["state"]["x"] == 0
    assert persister.load("pk", "app", 7) is None


def test_partitions_are_kept_apart_and_none_is_one_of_them(persister: Persister) -> None:
    save(persister, None, "app", 0, x="none")
    save(persister, "pk", "app", 0, x="pk")
    assert persister.load(None, "app")["state"]["x"] == "none"
    assert persister.load("pk", "app")["state"]["x"] == "pk"
    assert persister.load("other", "app") is None


def test_asking_for_an_application_does_not_make_one(persister: Persister) -> None:
    # Burr's in-memory one lists every application that was ever asked for
    assert persister.load("pk", "app") is None
    assert persister.list_app_ids("pk") == []
    save(persister, "pk", "app", 0)
    assert persister.list_app_ids("pk") == ["app"]
    assert persister.list_app_ids("other") == []


def test_a_failed_step_is_loaded_as_failed_and_may_be_taken_again(persister: Persister) -> None:
    persister.save("pk", "app", 0, "act", State({"x": 0}), "failed")
    assert persister.load("pk", "app")["status"] == "failed"
    persister.save("pk", "app", 0, "act", State({"x": 1}), "completed")
    saved = persister.load("pk", "app")
    assert (saved["status"], saved["state"]["x"]) == ("completed", 1)


def test_a_persister_that_is_ready_says_so(persister: Persister) -> None:
    assert persister.is_initialized() is True


steps = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["p", "q"]), st.sampled_from(["completed", "failed"])))


@given(steps)
def test_memory_keeps_the_same_as_burrs(saves: list[tuple[str, str, str]]) -> None:
    def scenario(e: Any) -> Any:
        persister = e.InMemoryPersister()
        for seq, (app, key, status) in enumerate(saves):
            persister.save(key, app, seq, "act", e.State({"seq": seq}), status)
        found = []
        for app, key, _ in sorted(set(saves)):
            for seq in (None, *range(len(saves))):
                saved = persister.load(key, app, seq)
                found.append(saved and (saved["sequence_id"], saved["status"], saved["state"].get_all()))
        return found, {key: persister.list_app_ids(key) for _, key, _ in saves}

    ours, theirs = play(scenario)
    assert ours == theirs


@action(reads=["n"], writes=["n"])
def count(state: State[Any]) -> State[Any]:
    return state.increment(n=1)


def counting(e: Any, persister: Any, app_id: str = "app") -> Any:
    @e.action(reads=["n"], writes=["n"])
    def count(state: Any) -> Any:
        return state.update(n=state["n"] + 1)

    return (
        e.ApplicationBuilder()
        .with_actions(count)
        .with_transitions(("count", "count"))
        .with_identifiers(app_id=app_id)
        .initialize_from(persister, resume_at_next_action=True, default_state={"n": 0}, default_entrypoint="count")
        .with_state_persister(persister)
        .build()
    )


@pytest.mark.parametrize(("first", "second"), [(BURR, OURS), (OURS, BURR)], ids=["burr then ours", "ours then burr"])
def test_an_application_goes_on_with_a_database_of_the_other_engine(first: Any, second: Any, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "states.db")

    def three_steps(e: Any) -> Any:
        persister = e.SQLitePersister(path, connect_kwargs={"check_same_thread": False})
        persister.initialize()
        app = counting(e, persister)
        for _ in range(3):
            app.step()
        state = {key: value for key, value in app.state.get_all().items() if not key.startswith("__")}
        persister.connection.close()
        return state, app.sequence_id

    def quietly(e: Any) -> Any:
        return play(lambda played: three_steps(e) if played is e else None)

    assert ({"n": 3}, 2) in quietly(first)
    assert ({"n": 6}, 5) in quietly(second)


def test_a_step_cannot_be_saved_twice(tmp_path: pathlib.Path) -> None:
    with SQLitePersister(str(tmp_path / "states.db")) as persister:
        persister.initialize()
        save(persister, None, "app", 0)
        with pytest.raises(StepTaken, match=r"step 0 \('action0'\) of application 'app'"):
            save(persister, None, "app", 0)
        with pytest.raises(sqlite3.IntegrityError):
            save(persister, None, "app", 0)


async def test_a_step_cannot_be_saved_twice_in_an_async_run(tmp_path: pathlib.Path) -> None:
    async with AsyncSQLitePersister.from_values(str(tmp_path / "states.db")) as persister:
        await persister.initialize()
        app = await (
            ApplicationBuilder()
            .with_actions(acount)
            .with_transitions(("acount", "acount"))
            .with_entrypoint("acount")
            .with_state(n=0)
            .with_identifiers(app_id="app")
            .with_state_persister(persister)
            .abuild()
        )
        await app.astep()
        with pytest.raises(StepTaken):
            await persister.save(None, "app", 0, "acount", State(), "completed")
        assert (await persister.load(None, "app"))["state"]["n"] == 1


@action(reads=["n"], writes=["n"])
async def acount(state: State[Any]) -> State[Any]:
    return state.increment(n=1)


def test_a_missing_table_is_an_error_that_says_what_to_call(tmp_path: pathlib.Path) -> None:
    with SQLitePersister(str(tmp_path / "states.db"), "mine") as persister:
        assert not persister.is_initialized()
        with pytest.raises(MissingTable, match="there is no table 'mine': call initialize"):
            persister.load(None, "app")
        with pytest.raises(RuntimeError):
            save(persister, None, "app", 0)


async def test_a_missing_table_is_the_same_error_in_an_async_run(tmp_path: pathlib.Path) -> None:
    async with AsyncSQLitePersister.from_config({"db_path": str(tmp_path / "states.db"), "table_name": "mine"}) as persister:
        assert not await persister.is_initialized()
        with pytest.raises(MissingTable):
            await persister.list_app_ids(None)


def test_the_name_of_a_table_cannot_smuggle_in_sql(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a table"):
        SQLitePersister(str(tmp_path / "states.db"), "t; DROP TABLE x")


def test_without_an_application_the_one_that_was_saved_last_is_loaded(tmp_path: pathlib.Path) -> None:
    with SQLitePersister.from_values(str(tmp_path / "states.db")) as persister:
        persister.initialize()
        for app in ("a", "b", "a"):
            seq = {"a": 3, "b": 9}[app] + len(persister.list_app_ids("pk"))
            save(persister, "pk", app, seq)
        assert persister.load("pk", None)["app_id"] == "a"
        assert persister.list_app_ids("pk") == ["a", "b"]


def test_a_copy_and_a_pickled_one_have_connections_of_their_own(tmp_path: pathlib.Path) -> None:
    with SQLitePersister.from_config({"db_path": str(tmp_path / "states.db"), "table_name": "mine"}) as persister:
        persister.initialize()
        save(persister, None, "app", 0, x=1)
        for other in (persister.copy(), pickle.loads(pickle.dumps(persister)), copy.copy(persister)):
            assert other.table_name == "mine"
            assert other.load(None, "app")["state"]["x"] == 1
            assert other.connection is not persister.connection
            other.cleanup()


async def test_an_opened_persister_is_not_opened_twice_and_copies_share_its_connection(tmp_path: pathlib.Path) -> None:
    opening = AsyncSQLitePersister.from_values(str(tmp_path / "states.db"), serde_kwargs={"a": 1})
    persister = await opening
    with pytest.raises(RuntimeError, match="opened already"):
        await opening
    assert isinstance(persister.connection, aiosqlite.Connection)
    assert persister.copy().connection is persister.connection
    assert persister.copy().serde_kwargs == {"a": 1}
    persister.set_serde_kwargs({})
    assert (persister.serde_kwargs, persister.table_name) == ({}, "burr_state")
    await persister.close()


async def test_the_forgetful_ones_forget() -> None:
    DevNullPersister().save("pk", "app", 0, "act", State(), "completed")
    assert DevNullPersister().load("pk", "app") is None
    assert DevNullPersister().list_app_ids("pk") == []
    forgetful = AsyncDevNullPersister()
    await forgetful.save("pk", "app", 0, "act", State(), "completed")
    assert await forgetful.load("pk", "app") is None
    assert await forgetful.is_initialized()
