"""A run has one end: who stores another one is refused, and told of the one that stands."""

import asyncio
from dataclasses import replace

import pytest

from app.persistence.postgres_writer import PostgresWriter
from app.persistence.records import Commit, RunStatus, SessionStatus
from app.persistence.sql_store import SqlStore
from app.persistence.store import RunEnded, Store
from app.persistence.waves import assemble, entry_of_commit
from tests.persistence.making import ended, new, opened, started, step, step_commit

CANCELLED = replace(ended(event_id=60, steps=0), status=RunStatus.CANCELLED, reason="requested")


async def begin(store: Store) -> None:
    await store.create_session(new())
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started(), run_id="r"))


@pytest.mark.parametrize("parts", ["an end", "a step and an end", "a step that holds the run", "a start and an end"])
async def test_a_second_end_of_a_run_is_refused_and_the_first_one_named(store: Store, parts: str) -> None:
    await begin(store)
    await store.commit(Commit("s", SessionStatus.IDLE, 60, run_end=CANCELLED, run_id="r"))
    before = await store.get_session("s")
    late = {
        "an end": Commit("s", SessionStatus.IDLE, 70, run_end=ended(event_id=70), run_id="r", after_seq=-1),
        "a step and an end": step_commit("s", step(0), run_end=ended(event_id=70), run_id="r"),
        "a step that holds the run": step_commit("s", step(0), run_end=ended(event_id=70), run_id="r", finished=started()),
        "a start and an end": Commit(
            "s", SessionStatus.IDLE, 70, run_start=started(), run_end=replace(CANCELLED, event_id=70), run_id="r"
        ),
    }
    with pytest.raises(RunEnded) as refused:
        await store.commit(late[parts])
    run = await store.get_run("r")
    assert refused.value.run == run
    assert (run.status, run.finished_event_id, run.reason) == (RunStatus.CANCELLED, 60, "requested")
    assert await store.get_session("s") == before


async def test_of_two_ends_that_are_handed_in_together_the_first_one_stands(store: Store) -> None:
    await begin(store)
    ends = CANCELLED, ended(event_id=70, steps=0)
    commits = [store.commit(Commit("s", SessionStatus.IDLE, end.event_id, run_end=end, run_id="r", after_seq=-1)) for end in ends]
    first, second = await asyncio.gather(*commits, return_exceptions=True)
    assert first is None
    assert isinstance(second, RunEnded)
    assert (await store.get_run("r")).finished_event_id == second.run.finished_event_id == 60


async def test_a_run_that_has_ended_in_its_step_gets_no_other_end(store: Store) -> None:
    await begin(store)
    await store.commit(step_commit("s", step(0), run_end=ended(), run_id="r", finished=started()))
    with pytest.raises(RunEnded) as refused:
        await store.commit(Commit("s", SessionStatus.IDLE, 60, run_end=CANCELLED, run_id="r", after_seq=0))
    assert refused.value.run == await store.get_run("r")
    assert refused.value.run.status is RunStatus.FINISHED


async def test_an_end_that_is_handed_in_again_is_stored(store: Store) -> None:
    await begin(store)
    for _ in range(2):
        await store.commit(Commit("s", SessionStatus.IDLE, 60, run_end=CANCELLED, run_id="r", after_seq=-1))
    assert (await store.get_run("r")).finished_event_id == 60


async def test_an_end_in_doubt_counts_as_stored_if_the_run_has_it_and_not_because_the_session_got_on(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as store:
        await begin(store)
        assert isinstance(store, SqlStore)
        writer = store._database.writer
        assert isinstance(writer, PostgresWriter)

        async def has_landed(event_id: int) -> bool:
            end = replace(CANCELLED, event_id=event_id)
            commit = Commit("s", SessionStatus.IDLE, event_id, run_end=end, run_id="r", after_seq=-1)
            wave, _ = assemble([entry_of_commit(commit, asyncio.get_running_loop().create_future())])
            return bool((await writer.landed(wave)).moved)

        await store.commit(Commit("s", SessionStatus.IDLE, 90, run_start=started("other", 90), run_id="other"))
        assert not await has_landed(60)
        await store.commit(Commit("s", SessionStatus.IDLE, 60, run_end=CANCELLED, run_id="r", after_seq=-1))
        assert await has_landed(60)
        assert not await has_landed(61)
