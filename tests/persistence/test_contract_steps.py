"""Commits in every store: order, conflicts, history, the state at any step."""

import asyncio
from dataclasses import replace

import pytest

from app.engine.operations import Append, Delete, Extend, Increment, Operation, Set
from app.persistence.records import Commit, RunStatus, SessionStatus, StepKind, StepRecord
from app.persistence.store import SessionNotFound, StepConflict, StepNotFound, Store
from tests.persistence.making import T0, Writer, ended, failed, new, started, step, step_commit


async def test_a_step_moves_the_session_and_is_kept_whole(store: Store) -> None:
    await store.create_session(new())
    operations = (Increment("n", 1), Set("who", "ä"), Append("log", {"a": 1}), Extend("log", (2, None)), Delete("who"))
    made = step(0, operations, {"n": 1, "log": [{"a": 1}, 2, None]}, next_action="rest", result={"n": 1, "who": "ä"})
    await store.commit(step_commit("s", made, run_id="r", last_event_id=13))
    loaded = await store.load_session("s")
    assert loaded.state == {"n": 1, "log": [{"a": 1}, 2, None]}
    record = loaded.record
    assert (record.seq, record.prior_action, record.next_action, record.last_event_id) == (0, "count", "rest", 13)
    assert record.updated_at_s == T0 + 0.5
    expected = StepRecord("s", 0, StepKind.ACTION, "r", "count", operations, {"n": 1, "who": "ä"}, "rest", T0, T0 + 0.5, 11, 12)
    assert await store.get_step("s", 0) == expected
    assert list(await store.list_steps("s")) == [expected]


async def test_status_and_end_are_kept(store: Store) -> None:
    await store.create_session(new())
    await store.commit(step_commit("s", step(0, next_action=None), status=SessionStatus.ENDED))
    record = await store.get_session("s")
    assert (record.status, record.next_action) == (SessionStatus.ENDED, None)


async def test_an_edit_is_a_step_after_which_the_same_action_is_the_last(store: Store) -> None:
    await store.create_session(new())
    await store.commit(step_commit("s", step(0)))
    edit = step(1, (Set("n", 100),), {"n": 100}, action="edit", kind=StepKind.EDIT, next_action="other")
    await store.commit(step_commit("s", edit))
    record = await store.get_session("s")
    assert (record.seq, record.prior_action, record.next_action) == (1, "count", "other")
    assert (await store.get_step("s", 1)).kind is StepKind.EDIT


async def test_running_is_never_stored(store: Store) -> None:
    await store.create_session(new())
    with pytest.raises(ValueError, match="running"):
        await store.commit(step_commit("s", step(0), status=SessionStatus.RUNNING))


@pytest.mark.parametrize("seq", [0, 2, 7, -1, 2**40])
async def test_a_step_that_does_not_follow_is_a_conflict_and_changes_nothing(store: Store, seq: int) -> None:
    await store.create_session(new())
    await store.commit(step_commit("s", step(0)))
    before = await store.load_session("s")
    stale = step_commit("s", replace(step(1), seq=seq), run_start=started("r"), failure=failed(), run_id="r")
    with pytest.raises(StepConflict) as caught:
        await store.commit(stale)
    assert (caught.value.session_id, caught.value.seq) == ("s", seq)
    assert await store.load_session("s") == before
    assert [found.seq for found in await store.list_steps("s")] == [0]
    assert list(await store.list_runs("s")) == []
    assert list(await store.list_failures("s")) == []


async def test_of_two_writers_of_one_step_one_wins(store: Store) -> None:
    await store.create_session(new())
    commits = [step_commit("s", step(0, (Set("by", who),), {"n": 0, "by": who})) for who in ("a", "b", "c")]
    outcomes = await asyncio.gather(*map(store.commit, commits), return_exceptions=True)
    assert outcomes[0] is None
    assert [type(outcome) for outcome in outcomes[1:]] == [StepConflict, StepConflict]
    assert (await store.load_session("s")).state["by"] == "a"


async def test_a_conflict_does_not_touch_the_other_sessions_of_its_batch(store: Store) -> None:
    ids = [f"s{n}" for n in range(64)]
    await asyncio.gather(*(store.create_session(new(session_id)) for session_id in ids))
    await asyncio.gather(*(store.commit(step_commit(session_id, step(0))) for session_id in ids[::2]))
    outcomes = await asyncio.gather(
        *(store.commit(step_commit(session_id, step(0))) for session_id in ids),
        store.commit(step_commit("nobody", step(0))),
        store.create_session(new("s0")),
        store.create_session(new("fresh")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes[:64]] == [StepConflict, type(None)] * 32
    assert isinstance(outcomes[64], SessionNotFound)
    assert outcomes[66] is None
    for session_id in ids:
        assert (await store.load_session(session_id)).state == {"n": 1}


async def test_commits_of_one_session_at_once_are_stored_in_the_order_of_the_calls(store: Store) -> None:
    session = new(state={"log": []})
    await store.create_session(session)
    commits = [step_commit("s", step(seq, (Append("log", seq),), {"log": list(range(seq + 1))})) for seq in range(30)]
    await asyncio.gather(*map(store.commit, commits))
    assert (await store.load_session("s")).state == {"log": list(range(30))}
    assert [found.seq for found in await store.list_steps("s")] == list(range(30))


async def test_after_a_conflict_in_a_row_of_commits_what_came_before_it_stands(store: Store) -> None:
    await store.create_session(new())
    commits = [step_commit("s", step(seq)) for seq in (0, 1, 3, 2, 3)]
    outcomes = await asyncio.gather(*map(store.commit, commits), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), StepConflict, type(None), type(None)]
    assert (await store.load_session("s")).state == {"n": 4}


async def test_a_stale_row_of_commits_fails_but_what_needs_no_step_is_kept(store: Store) -> None:
    await store.create_session(new())
    await store.commit(step_commit("s", step(0)))
    commits = [
        Commit("s", SessionStatus.IDLE, 20, run_start=started("r", 20)),
        step_commit("s", step(0)),
        Commit("s", SessionStatus.FAILED, 22, run_end=ended("r", 22, status=RunStatus.FAILED)),
    ]
    outcomes = await asyncio.gather(*map(store.commit, commits), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), StepConflict, type(None)]
    assert (await store.get_run("r")).status is RunStatus.FAILED


async def test_creating_and_committing_at_once_keeps_the_order(store: Store) -> None:
    session = new()
    await asyncio.gather(
        store.create_session(session), *(store.commit(step_commit("s", step(seq))) for seq in range(3)), return_exceptions=False
    )
    assert (await store.load_session("s")).state == {"n": 3}


async def test_a_commit_is_carried_out_although_its_caller_is_cancelled(store: Store) -> None:
    ids = [f"s{n}" for n in range(20)]
    await asyncio.gather(*(store.create_session(new(session_id)) for session_id in ids))
    tasks = [asyncio.create_task(store.commit(step_commit(session_id, step(0)))) for session_id in ids]
    await asyncio.sleep(0)  # now each of them has been called
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.create_session(new("last"))  # goes after them
    for session_id in ids:
        assert (await store.get_session(session_id)).seq == 0


async def test_history_is_read_in_slices(store: Store) -> None:
    await store.create_session(new())
    await asyncio.gather(*(store.commit(step_commit("s", step(seq))) for seq in range(20)))

    async def seqs(**limits: int) -> list[int]:
        return [found.seq for found in await store.list_steps("s", **limits)]

    assert await seqs() == list(range(20))
    assert await seqs(limit=3) == [0, 1, 2]
    assert await seqs(after_seq=16) == [17, 18, 19]
    assert await seqs(after_seq=-1, limit=1) == [0]
    assert await seqs(before_seq=2) == [0, 1]
    assert await seqs(after_seq=5, before_seq=9, limit=2) == [6, 7]
    assert await seqs(after_seq=19) == []
    assert await seqs(limit=0) == []


async def test_steps_after_an_event_are_found_anywhere_in_the_history(store: Store) -> None:
    await store.create_session(new())
    await asyncio.gather(*(store.commit(step_commit("s", step(seq))) for seq in range(20)))
    for after in range(-1, 215):
        expected = [seq for seq in range(20) if 10 * seq + 12 > after]
        assert [found.seq for found in await store.steps_after_event("s", after)] == expected
    assert [found.seq for found in await store.steps_after_event("s", 100, limit=2)] == [9, 10]


async def test_the_state_at_every_step_is_known_also_across_snapshots(store: Store) -> None:
    session = new(state={"n": 0, "big": "x" * 3000, "log": []})
    await store.create_session(session)
    writer = Writer(store, session)
    for number in range(150):
        operations: list[Operation] = [Increment("n", 1)]
        if number % 3 == 0:
            operations.append(Append("log", f"entry {number} " + "abcdefgh"[: number % 8] * 40))
        if number % 7 == 0:
            operations.append(Set("big", str(number) * 500))
        if number % 50 == 49:
            operations += [Delete("log"), Extend("log", (number, {"deep": [number]}))]
        await writer.take(*operations)
    for seq, state in writer.states.items():
        assert await store.state_at("s", seq) == state
    assert (await store.load_session("s")).state == writer.states[149]
    with pytest.raises(StepNotFound) as caught:
        await store.state_at("s", 150)
    assert (caught.value.session_id, caught.value.seq) == ("s", 150)


async def test_a_stored_value_is_not_the_callers_object(store: Store) -> None:
    mine = ["a"]
    await store.create_session(new(state={"list": mine}))
    await store.commit(step_commit("s", step(0, (Set("other", mine),), {"list": mine, "other": mine}, result={"r": mine})))
    mine.append("later")
    loaded = (await store.load_session("s")).state
    assert loaded == {"list": ["a"], "other": ["a"]}
    loaded["list"].append("changed")
    assert (await store.load_session("s")).state == {"list": ["a"], "other": ["a"]}
    assert (await store.get_step("s", 0)).result == {"r": ["a"]}
