"""Sessions in every store: create, read, load, delete."""

import asyncio

import pytest

from app.engine.operations import Append, Increment, Set
from app.persistence.records import Commit, LoadedSession, SessionRecord, SessionStatus
from app.persistence.store import (
    RunNotFound,
    SessionExists,
    SessionNotFound,
    StepConflict,
    StepNotFound,
    Store,
    TextUnstorable,
)
from tests.persistence.making import T0, Writer, ended, failed, new, started, step, step_commit

ODD_IDS = [
    "a b",
    "x/y?z#",
    "ünïcödé-日本語",
    "🜁" * 20,
    "'; DROP TABLE sessions; --",
    "\u202e\u200b",
    "%00",
    "a\nb",
    "x" * 600,
    "🜁" * 600,
]


async def test_a_new_session_is_what_was_given(store: Store) -> None:
    await store.create_session(new(metadata={"env": "test", "n": 5, "deep": {"a": [1, None]}}, partition_key="p"))
    expected = SessionRecord(
        id="s",
        machine="counter",
        machine_version="1",
        partition_key="p",
        metadata={"env": "test", "n": 5, "deep": {"a": [1, None]}},
        status=SessionStatus.IDLE,
        seq=-1,
        prior_action=None,
        next_action="count",
        created_at_s=T0,
        updated_at_s=T0,
        parent_session_id=None,
        parent_seq=None,
        last_event_id=1,
    )
    assert await store.get_session("s") == expected
    assert await store.load_session("s") == LoadedSession(expected, {"n": 0})


async def test_a_session_without_a_next_action_has_ended(store: Store) -> None:
    await store.create_session(new(next_action=None))
    assert (await store.get_session("s")).status is SessionStatus.ENDED


async def test_a_taken_id_is_refused_and_nothing_changes(store: Store) -> None:
    await store.create_session(new())
    await store.commit(step_commit("s", step(0)))
    with pytest.raises(SessionExists) as caught:
        await store.create_session(new(state={"n": 99}, machine="other"))
    assert caught.value.session_id == "s"
    assert (await store.load_session("s")).state == {"n": 1}
    assert (await store.get_session("s")).machine == "counter"


async def test_of_many_creates_of_one_id_at_once_exactly_one_succeeds(store: Store) -> None:
    outcomes = await asyncio.gather(*(store.create_session(new(state={"n": n})) for n in range(10)), return_exceptions=True)
    assert [outcome is None for outcome in outcomes].count(True) == 1
    assert sum(isinstance(outcome, SessionExists) for outcome in outcomes) == 9
    assert (await store.load_session("s")).state == {"n": outcomes.index(None)}


@pytest.mark.parametrize("session_id", ODD_IDS)
async def test_ids_may_hold_odd_characters(store: Store, session_id: str) -> None:
    await store.create_session(new(session_id))
    await store.commit(step_commit(session_id, step(0)))
    assert (await store.load_session(session_id)).record.id == session_id
    assert [found.seq for found in await store.list_steps(session_id)] == [0]
    await store.delete_session(session_id)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_text_that_no_column_can_hold_is_refused_by_name(store: Store, text: str) -> None:
    for session in (
        new(text),
        new(partition_key=text),
        new(machine=text),
        new(metadata={"k": text}),
        new(metadata={text: "v"}),
        new(metadata={"k": [{"deep": text}]}),
        new(next_action=text),
        new(parent_session_id=text),
    ):
        with pytest.raises(TextUnstorable):
            await store.create_session(session)
    await store.create_session(new())
    for commit in (
        step_commit("s", step(0, action=text)),
        step_commit("s", step(0, next_action=text)),
        step_commit("s", step(0), run_id=text),
        step_commit("s", step(0), run_start=started(text)),
        step_commit("s", step(0), run_end=ended(reason=text)),
        step_commit("s", step(0), failure=failed(action=text)),
    ):
        with pytest.raises(TextUnstorable):
            await store.commit(commit)
    assert (await store.load_session("s")).record.seq == -1


@pytest.mark.parametrize("session_id", ["nobody", "a\0b", "\ud800", ""])
async def test_an_unknown_session_is_named(store: Store, session_id: str) -> None:
    for call in (
        store.get_session(session_id),
        store.load_session(session_id),
        store.delete_session(session_id),
        store.state_at(session_id, 0),
        store.get_step(session_id, 0),
        store.commit(step_commit(session_id, step(0))),
        store.commit(Commit(session_id, SessionStatus.IDLE, 1, run_start=started())),
    ):
        with pytest.raises(SessionNotFound) as caught:
            await call
        assert caught.value.session_id == session_id
    assert list(await store.list_steps(session_id)) == []
    assert list(await store.list_failures(session_id)) == []
    assert list(await store.list_runs(session_id)) == []
    assert list(await store.steps_after_event(session_id, 0)) == []


async def test_an_unknown_run_is_named(store: Store) -> None:
    for run_id in ("nobody", "a\0b"):
        with pytest.raises(RunNotFound) as caught:
            await store.get_run(run_id)
        assert caught.value.run_id == run_id


async def test_a_fork_begins_at_its_seq_and_knows_its_parent(store: Store) -> None:
    fork = new("fork", seq=7, state={"n": 8, "log": ["a"]}, prior_action="count", parent_session_id="s", parent_seq=7)
    await store.create_session(fork)
    record = await store.get_session("fork")
    assert (record.seq, record.prior_action, record.parent_session_id, record.parent_seq) == (7, "count", "s", 7)
    writer = Writer(store, fork)
    await writer.take(Increment("n", 1), Append("log", "b"))
    await writer.take(Set("n", 0))
    assert (await store.load_session("fork")).state == {"n": 0, "log": ["a", "b"]}
    assert await store.state_at("fork", 7) == {"n": 8, "log": ["a"]}
    assert await store.state_at("fork", 8) == {"n": 9, "log": ["a", "b"]}
    assert [found.seq for found in await store.list_steps("fork")] == [8, 9]
    for seq in (-1, 6, 10):
        with pytest.raises(StepNotFound):
            await store.state_at("fork", seq)
    for seq in (7, 10):
        with pytest.raises(StepNotFound):
            await store.get_step("fork", seq)
    with pytest.raises(StepConflict):
        await store.commit(step_commit("fork", step(7)))


async def test_an_id_that_no_index_can_hold_is_refused(store: Store) -> None:
    for session in (new("x" * 601), new(partition_key="x" * 601), new(machine="x" * 601)):
        with pytest.raises(TextUnstorable, match="600"):
            await store.create_session(session)
    with pytest.raises(SessionNotFound):
        await store.get_session("x" * 10_000)


async def test_delete_leaves_nothing_and_frees_the_ids(store: Store) -> None:
    await store.create_session(new(metadata={"env": "x"}))
    await store.create_session(new("other", metadata={"env": "x"}))
    await store.commit(step_commit("s", step(0), run_start=started("r1"), run_id="r1", failure=failed()))
    await store.delete_session("s")
    with pytest.raises(SessionNotFound):
        await store.get_session("s")
    with pytest.raises(RunNotFound):
        await store.get_run("r1")
    assert list(await store.unfinished_runs()) == []
    await store.create_session(new())
    assert list(await store.list_steps("s")) == []
    assert list(await store.list_failures("s")) == []
    assert list(await store.list_runs("s")) == []
    assert (await store.load_session("s")).state == {"n": 0}
    await store.commit(step_commit("s", step(0), run_start=started("r1"), run_id="r1"))
    assert (await store.load_session("other")).state == {"n": 0}


async def test_ping_returns(store: Store) -> None:
    await store.ping()
