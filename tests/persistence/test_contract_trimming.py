"""Histories of which the beginning is forgotten, in every store."""

from dataclasses import replace

import pytest

from app.engine.operations import Append, Increment
from app.persistence.records import Commit, History, RunStatus, SessionStatus
from app.persistence.store import RunNotFound, SessionNotFound, StepNotFound, StepTrimmed, Store
from tests.persistence.making import T0, Writer, ended, failed, new, started, step, step_commit


async def counted(store: Store, steps: int, session_id: str = "s") -> Writer:
    """A session of so many steps."""
    session = new(session_id, state={"n": 0, "log": []})
    await store.create_session(session)
    writer = Writer(store, session)
    for seq in range(steps):
        await writer.take(Increment("n", 1), Append("log", f"turn {seq}"))
    return writer


@pytest.mark.parametrize("before", [1, 37, 120, 199, 200])
async def test_what_is_kept_reads_as_before(store: Store, before: int) -> None:
    writer = await counted(store, 200)
    kept = (await store.list_steps("s", limit=1000))[before:]
    assert await store.trim("s", before_seq=before) == before
    assert list(await store.list_steps("s", limit=1000)) == kept
    assert (await store.load_session("s")).state == writer.states[199]
    for seq in range(before, 200, 7):
        assert await store.state_at("s", seq) == writer.states[seq]
        assert (await store.get_step("s", seq)).seq == seq
    for _ in range(60):
        await writer.take(Increment("n", 1), Append("log", "later"))
    assert (await store.load_session("s")).state == writer.states[259]
    assert await store.state_at("s", 230) == writer.states[230]


async def test_what_was_trimmed_is_told_from_what_never_was(store: Store) -> None:
    await counted(store, 30)
    await store.trim("s", before_seq=20)
    for seq in (0, 19):
        for call in (store.get_step("s", seq), store.state_at("s", min(seq, 18))):
            with pytest.raises(StepTrimmed, match="begins with step 20") as caught:
                await call
            assert caught.value.first_seq == 20
    for seq in (30, 99):
        with pytest.raises(StepNotFound) as missing:
            await store.get_step("s", seq)
        assert type(missing.value) is StepNotFound
    await store.create_session(new("fork", seq=25, state={"n": 26}, parent_session_id="s", parent_seq=25))
    with pytest.raises(StepNotFound) as never:
        await store.get_step("fork", 3)
    assert type(never.value) is StepNotFound


async def test_trimming_again_or_less_changes_nothing(store: Store) -> None:
    writer = await counted(store, 30)
    assert await store.trim("s", before_seq=20) == 20
    assert await store.trim("s", before_seq=20) == 20
    assert await store.trim("s", before_seq=3) == 20
    assert await store.trim("s") == 20
    assert await store.trim("s", before_seq=10**15) == 30
    assert (await store.load_session("s")).state == await store.state_at("s", 29) == writer.states[29]
    with pytest.raises(SessionNotFound):
        await store.trim("nobody", before_seq=1)


async def test_steps_go_by_their_age(store: Store) -> None:
    await counted(store, 30)  # a step ends half a second after T0 + seq
    assert await store.trim("s", before_s=T0 - 1) == 0
    assert await store.trim("s", before_s=T0 + 9.6) == 10
    assert [found.seq for found in await store.list_steps("s", limit=2)] == [10, 11]
    assert await store.trim("s", before_s=T0 + 1e6) == 30


async def test_runs_and_failures_go_with_the_steps_that_they_belong_to(store: Store) -> None:
    await store.create_session(new())
    for seq in range(4):
        start, end = started(f"r{seq}", 100 * seq + 10), ended(f"r{seq}", 100 * seq + 50)
        failure = failed(seq, 100 * seq + 21, run_id=f"r{seq}")
        made = step(seq, first_event_id=100 * seq + 30, event_id=100 * seq + 40)
        await store.commit(Commit("s", SessionStatus.IDLE, 100 * seq + 10, run_start=start))
        commit = step_commit("s", made, failure=failure, run_end=end, run_id=f"r{seq}", last_event_id=100 * seq + 50)
        await store.commit(commit)
    await store.commit(Commit("s", SessionStatus.IDLE, 410, run_start=started("under way", 410)))
    assert await store.trim("s", before_seq=2) == 2
    assert [run.id for run in await store.list_runs("s")] == ["r2", "r3", "under way"]
    assert [failure.run_id for failure in await store.list_failures("s")] == ["r2", "r3"]
    with pytest.raises(RunNotFound):
        await store.get_run("r1")
    assert [found.seq for found in await store.steps_after_event("s", 0)] == [2, 3]
    assert (await store.get_session("s")).trimmed_event_id == 140


async def test_a_run_of_which_a_step_is_kept_stays(store: Store) -> None:
    await store.create_session(new())
    await store.commit(step_commit("s", step(0), run_start=started("r", 5), run_id="r"))
    await store.commit(step_commit("s", step(1), run_end=ended("r", 50), run_id="r"))
    await store.trim("s", before_seq=1)
    assert (await store.get_run("r")).status is RunStatus.FINISHED


async def test_the_steps_of_a_run_under_way_stay_and_the_one_before_them(store: Store) -> None:
    writer = await counted(store, 10)
    await store.commit(Commit("s", SessionStatus.IDLE, 205, run_start=started("r", 205)))
    assert await store.trim("s", before_seq=10) == 9
    for seq in range(10, 14):
        await writer.take(Increment("n", 1), first_event_id=300 + seq, event_id=400 + seq)
    assert await store.trim("s", before_seq=13) == 9
    assert await store.state_at("s", 9) == writer.states[9]
    await store.commit(Commit("s", SessionStatus.IDLE, 500, run_end=ended("r", 500)))
    assert await store.trim("s", before_seq=13) == 13


async def test_a_walk_over_all_histories_sees_each_once(store: Store) -> None:
    for number in range(5):
        await counted(store, number, f"s{number}")
    await store.trim("s4", before_seq=3)
    seen: list[History] = []
    while page := await store.histories(seen[-1].position if seen else 0, 2):
        seen += page
    found = [replace(each, position=0) for each in seen]
    oldest = [None, T0 + 0.5, T0 + 0.5, T0 + 0.5, T0 + 3.5]
    bases = [-1, -1, -1, -1, 2]
    assert found == [History(f"s{n}", "counter", 0, n - 1, bases[n], oldest[n]) for n in range(5)]
