"""Runs and failures in every store."""

import asyncio
import contextlib
import math
from dataclasses import replace

import pytest

from app.persistence.records import Commit, RunEnd, RunRecord, RunStart, RunStatus, SessionStatus, StepKind
from app.persistence.store import RunEnded, RunNotFound, StepConflict, Store
from tests.persistence.making import T0, ended, failed, new, started, step, step_commit

PARAMETERS = {"inputs": {"by": 2}, "halt_after": ["count"]}


async def test_a_run_that_began_is_running_until_its_end_is_stored(store: Store) -> None:
    await store.create_session(new())
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started()))
    begun = RunRecord("r", "s", RunStatus.RUNNING, PARAMETERS, T0 + 1, None, 0, None, None, 5, None)
    assert await store.get_run("r") == begun
    assert list(await store.unfinished_runs()) == [begun]
    await store.commit(Commit("s", SessionStatus.IDLE, 50, run_end=ended()))
    over = RunRecord("r", "s", RunStatus.FINISHED, PARAMETERS, T0 + 1, T0 + 9, 1, "halt_after", None, 5, 50)
    assert await store.get_run("r") == over
    assert list(await store.unfinished_runs()) == []
    record = await store.get_session("s")
    assert (record.updated_at_s, record.last_event_id, record.seq) == (T0 + 9, 50, -1)


async def test_what_has_no_step_is_refused_where_the_session_does_not_stand(store: Store) -> None:
    await store.create_session(new())
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started(), run_id="r", after_seq=-1))
    refused = await asyncio.gather(
        store.commit(step_commit("s", step(1), run_id="r")),
        store.commit(Commit("s", SessionStatus.IDLE, 50, run_end=ended(steps=1), run_id="r", after_seq=1)),
        return_exceptions=True,
    )
    assert [(type(answer), getattr(answer, "seq", None)) for answer in refused] == [(StepConflict, 1), (StepConflict, 2)]
    assert (await store.get_run("r")).status is RunStatus.RUNNING
    taken = step_commit("s", step(0), run_id="r"), Commit("s", SessionStatus.IDLE, 50, run_end=ended(), run_id="r", after_seq=0)
    await asyncio.gather(*map(store.commit, taken))
    assert (await store.get_run("r")).status is RunStatus.FINISHED


async def test_the_progress_of_a_run_is_what_it_has_done_itself(store: Store) -> None:
    await store.create_session(new())
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started("none"), run_id="none"))
    await store.commit(step_commit("s", step(0), run_id="before"))
    await store.commit(Commit("s", SessionStatus.IDLE, 15, run_start=started("r", 15), run_id="r"))
    for seq, run_id, kind in (
        (1, "r", StepKind.ACTION),
        (2, "r", StepKind.ACTION),
        (3, None, StepKind.EDIT),
        (4, "other", StepKind.ACTION),
        (5, "r", StepKind.ROLLBACK),
    ):
        await store.commit(step_commit("s", step(seq, kind=kind), run_id=run_id))
    assert [await store.progress_of_run(run) for run in await store.unfinished_runs()] == [(0, None), (2, 1)]


@pytest.mark.parametrize(
    ("whole", "is_new"), [(None, False), (started(), False), (started(), True)], ids=["in its row", "in its step", "known new"]
)
async def test_a_run_of_one_step_is_one_commit(store: Store, whole: RunStart | None, is_new: bool) -> None:
    await store.create_session(new())
    commit = step_commit("s", step(0), run_start=started(), run_end=ended(), run_id="r", last_event_id=50)
    await store.commit(replace(commit, finished=whole, is_whole_run=is_new))
    assert await store.get_run("r") == RunRecord(
        "r", "s", RunStatus.FINISHED, PARAMETERS, T0 + 1, T0 + 9, 1, "halt_after", None, 5, 50
    )
    assert (await store.get_step("s", 0)).run_id == "r"
    assert (await store.get_session("s")).last_event_id == 50


async def test_a_run_of_some_steps_can_be_stored_in_its_last_one(store: Store) -> None:
    run_id, odd = "01934f0e-7c1a-7000-8000-0123456789ab", T0 + 1 / 3
    start = started(run_id, started_at_s=odd, parameters={"inputs": {"text": "\0 \ud800", "n": 2**70}})
    await store.create_session(new())
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=start, run_id=run_id))
    await store.commit(step_commit("s", step(0), run_id=run_id))
    begun = await store.get_run(run_id)
    assert (begun.status, begun.parameters, [run.id for run in await store.unfinished_runs()]) == (
        RunStatus.RUNNING,
        start.parameters,
        [run_id],
    )
    end = ended(run_id, steps=2, finished_at_s=odd + 7)
    await store.commit(step_commit("s", step(1), run_end=end, run_id=run_id, last_event_id=50, finished=start))
    over = replace(begun, status=RunStatus.FINISHED, finished_at_s=odd + 7, steps=2, reason="halt_after", finished_event_id=50)
    assert await store.get_run(run_id) == over
    assert (list(await store.list_runs("s")), list(await store.unfinished_runs())) == ([over], [])
    assert [found.run_id for found in await store.list_steps("s")] == [run_id, run_id]
    assert (await store.get_step("s", 1)).result == {"n": 2}
    assert (await store.load_session("s")).state == {"n": 2}
    await store.delete_session("s")
    with pytest.raises(RunNotFound):
        await store.get_run(run_id)


@pytest.mark.parametrize("end", [None, ended(event_id=70, status=RunStatus.FAILED, steps=0)], ids=["alone", "with its end"])
async def test_a_start_that_comes_after_the_run_is_stored_in_its_step_begins_nothing(store: Store, end: RunEnd | None) -> None:
    await store.create_session(new())
    commit = step_commit("s", step(0), run_start=started(), run_end=ended(), run_id="r", last_event_id=50, finished=started())
    await store.commit(commit)
    over = await store.get_run("r")
    with contextlib.nullcontext() if end is None else pytest.raises(RunEnded):
        await store.commit(Commit("s", SessionStatus.IDLE, 70, run_start=started(), run_end=end))
    assert (await store.get_run("r"), list(await store.list_runs("s"))) == (over, [over])
    assert list(await store.unfinished_runs()) == []


async def test_a_run_that_is_stored_in_a_step_finishes_with_it(store: Store) -> None:
    await store.create_session(new())
    for wrong in (
        Commit("s", SessionStatus.IDLE, 50, run_end=ended(), finished=started()),
        step_commit("s", step(0), finished=started()),
        step_commit("s", step(0), run_end=ended(status=RunStatus.CANCELLED), finished=started()),
    ):
        with pytest.raises(ValueError, match="finishes with it"):
            await store.commit(wrong)
    assert (await store.get_session("s")).seq == -1


@pytest.mark.parametrize("whole", [None, started()], ids=["in its row", "in its step"])
async def test_the_parts_of_a_run_may_be_waiting_at_the_same_time(store: Store, whole: RunStart | None) -> None:
    await store.create_session(new())
    await asyncio.gather(
        store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started())),
        store.commit(step_commit("s", step(0), run_id="r")),
        store.commit(step_commit("s", step(1), run_id="r", run_end=ended(steps=2), last_event_id=50, finished=whole)),
    )
    run = await store.get_run("r")
    assert (run.status, run.steps, run.finished_event_id) == (RunStatus.FINISHED, 2, 50)
    assert (list(await store.list_runs("s")), list(await store.unfinished_runs())) == ([run], [])
    assert (await store.get_session("s")).seq == 1


async def test_a_failed_run_keeps_its_problem_and_the_failed_step_its_texts(store: Store) -> None:
    await store.create_session(new())
    problem = {"type": "urn:x", "title": "odd \0 \ud800", "status": 500, "nested": {"a": [1]}}
    await store.commit(
        Commit(
            "s",
            SessionStatus.FAILED,
            32,
            run_start=started(),
            failure=failed(),
            run_end=ended(event_id=32, status=RunStatus.FAILED, reason=None, error=problem, steps=0),
            run_id="r",
        )
    )
    assert (await store.get_run("r")).error == problem
    assert list(await store.list_failures("s")) == [failed(run_id="r")]
    record = await store.get_session("s")
    assert (record.status, record.seq) == (SessionStatus.FAILED, -1)


async def test_failures_are_listed_by_event(store: Store) -> None:
    await store.create_session(new())
    for event_id in (31, 41, 51):
        await store.commit(Commit("s", SessionStatus.FAILED, event_id, failure=failed(event_id=event_id, run_id=f"r{event_id}")))
    assert [failure.event_id for failure in await store.list_failures("s")] == [31, 41, 51]
    assert [failure.event_id for failure in await store.list_failures("s", after_event_id=31, limit=1)] == [41]
    assert [failure.run_id for failure in await store.list_failures("s", after_event_id=41)] == ["r51"]
    assert list(await store.list_failures("s", after_event_id=51)) == []


@pytest.mark.parametrize("in_steps", [(), (1,), (0, 2), (0, 1, 2)], ids=str)
async def test_runs_are_listed_by_their_events(store: Store, in_steps: tuple[int, ...]) -> None:
    await store.create_session(new())
    await store.create_session(new("other"))
    await store.commit(Commit("other", SessionStatus.IDLE, 5, run_start=started("of the other", 5)))
    for number in range(4):
        begin, end = 100 * number + 10, 100 * number + 50
        start = started(f"r{number}", begin)
        await store.commit(Commit("s", SessionStatus.IDLE, begin, run_start=start))
        if number < 3:
            last = step(number, first_event_id=end - 10, event_id=end - 5)
            whole = start if number in in_steps else None
            commit = step_commit("s", last, run_end=ended(f"r{number}", end), run_id=f"r{number}", finished=whole)
            await store.commit(replace(commit, last_event_id=end))

    async def after(event_id: int, limit: int = 100) -> list[str]:
        return [run.id for run in await store.list_runs("s", after_event_id=event_id, limit=limit)]

    assert await after(0) == ["r0", "r1", "r2", "r3"]
    assert await after(10) == ["r0", "r1", "r2", "r3"]  # r0 ended after its beginning
    assert await after(49) == ["r0", "r1", "r2", "r3"]  # after its last step, but before its end
    assert await after(50) == ["r1", "r2", "r3"]
    assert await after(249, limit=2) == ["r2", "r3"]
    assert await after(250) == ["r3"]
    assert await after(310) == []
    assert await after(0, limit=1) == ["r0"]


async def test_runs_are_listed_by_their_ends_also_those_that_never_began(store: Store) -> None:
    await store.create_session(new())
    for name in ("never a", "never b", "waits"):
        await store.queue_run("s", started(name, started_at_s=T0))
    for name, begin, end in (("r0", 10, 50), ("r1", 60, 100), ("r2", 210, 0)):
        await store.commit(Commit("s", SessionStatus.IDLE, begin, run_start=started(name, begin), run_id=name))
        if end:
            await store.commit(Commit("s", SessionStatus.IDLE, end, run_end=ended(name, end), run_id=name))
        if name == "r1":
            for number, never in ((150, "never a"), (200, "never b")):
                cancelled = ended(never, number, status=RunStatus.CANCELLED)
                await store.commit(Commit("s", SessionStatus.IDLE, number, run_end=cancelled, run_id=never))

    async def after(event_id: int, limit: int) -> list[str]:
        return [run.id for run in await store.list_runs("s", after_event_id=event_id, limit=limit)]

    assert await after(0, 10) == ["r0", "r1", "never a", "never b", "r2"]
    assert [await after(event_id, 1) for event_id in (0, 50, 100, 150, 200)] == [["r0"], ["r1"], ["never a"], ["never b"], ["r2"]]


async def test_unfinished_runs_of_all_sessions_are_listed_oldest_first(store: Store) -> None:
    for number in range(5):
        await store.create_session(new(f"s{number}"))
        start = started(f"r{number}", started_at_s=T0 + 100 - number)
        await store.commit(Commit(f"s{number}", SessionStatus.IDLE, 5, run_start=start))
    await store.commit(Commit("s2", SessionStatus.IDLE, 50, run_end=ended("r2", status=RunStatus.CANCELLED)))
    assert [(run.id, run.session_id) for run in await store.unfinished_runs()] == [
        ("r4", "s4"), ("r3", "s3"), ("r1", "s1"), ("r0", "s0"),
    ]  # fmt: skip
    assert [run.id for run in await store.unfinished_runs(limit=1)] == ["r4"]


async def test_runs_under_way_are_looked_through_in_parts(store: Store) -> None:
    for number in range(5):
        await store.create_session(new(f"s{number}"))
        start = started(f"r{number}", started_at_s=T0 + number // 2)
        await store.commit(Commit(f"s{number}", SessionStatus.IDLE, 5, run_start=start))
    await store.commit(Commit("s2", SessionStatus.IDLE, 50, run_end=ended("r2", status=RunStatus.CANCELLED)))
    await store.queue_run("s2", started("waiting", started_at_s=T0))
    seen, after = [], (-math.inf, "")
    while found := await store.running_runs(claimed_by=None, after=after, limit=2):
        seen.append([run.id for run in found])
        after = found[-1].started_at_s, found[-1].id
    assert seen == [["r0", "r1"], ["r3", "r4"]]


async def test_a_run_that_begins_twice_is_stored_once(store: Store) -> None:
    await store.create_session(new())
    for _ in range(2):
        await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started()))
    assert len(await store.list_runs("s")) == 1


async def test_a_run_whose_start_was_stored_before_ends_with_the_commit_that_brings_both(store: Store) -> None:
    await store.create_session(new())
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started()))
    await store.commit(step_commit("s", step(0), run_start=started(), run_end=ended(), run_id="r", last_event_id=50))
    over = RunRecord("r", "s", RunStatus.FINISHED, PARAMETERS, T0 + 1, T0 + 9, 1, "halt_after", None, 5, 50)
    assert await store.get_run("r") == over
    await store.commit(Commit("s", SessionStatus.IDLE, 50, run_start=started()))
    assert await store.get_run("r") == over, "a start that comes late does not begin it again"


async def test_the_end_of_a_run_of_another_session_changes_nothing(store: Store) -> None:
    await store.create_session(new())
    await store.create_session(new("other"))
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started()))
    await store.commit(Commit("other", SessionStatus.IDLE, 50, run_end=ended()))
    assert (await store.get_run("r")).status is RunStatus.RUNNING
