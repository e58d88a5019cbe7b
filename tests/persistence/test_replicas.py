"""Claims: one replica at a time has a session, and the store takes commits from no other."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from app.engine.operations import Increment, Set
from app.persistence.records import Commit, Key, SessionStatus
from app.persistence.replicas import ClaimedElsewhere, FileReplica
from app.persistence.sql_store import SqlStore
from app.persistence.store import ClaimLost, RunNotFound, SessionNotFound, StepConflict, Store, StoreUnavailable
from tests.persistence.making import T0, ended, failed, new, opened, queried, started, step, step_commit


@pytest.fixture
async def pair(postgres_store_url: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two replicas, as two processes would be."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(postgres_store_url)) for _ in range(2)]
        for number, store in enumerate(stores):
            await store.replicas.join(f"http://replica-{number}")
        yield stores[0], stores[1]


async def silence(url: str, store: Store) -> None:
    """Let it look as if the replica had said nothing for a minute."""
    await queried(url, f"UPDATE replicas SET heartbeat_at = heartbeat_at - 60 WHERE id = '{store.replicas.id}' RETURNING 1")


async def test_a_claimed_session_belongs_to_one_replica(pair: tuple[Store, Store]) -> None:
    first, second = pair
    await first.create_session(new())
    loaded = await first.claim_session("s")
    assert (loaded.record.id, loaded.state) == ("s", {"n": 0})
    with pytest.raises(ClaimedElsewhere) as caught:
        await second.claim_session("s")
    assert (caught.value.session_id, caught.value.replica_id, caught.value.url) == (
        "s",
        first.replicas.id,
        "http://replica-0",
    )
    assert (await first.claim_session("s")).record.seq == -1, "claiming again is loading again"
    with pytest.raises(SessionNotFound):
        await second.claim_session("nobody")


async def test_a_replica_that_has_lost_a_session_cannot_delete_it(pair: tuple[Store, Store]) -> None:
    first, second = pair
    await first.create_session(new(is_claimed=True))
    await first.replicas.release(["s"])
    await second.claim_session("s")
    with pytest.raises(ClaimLost):
        await first.delete_session("s")
    assert (await second.load_session("s")).record.seq == -1
    await second.delete_session("s")
    for store in pair:
        with pytest.raises(SessionNotFound):
            await store.delete_session("s")


async def test_a_claim_loads_what_was_committed_last(pair: tuple[Store, Store]) -> None:
    first, second = pair
    await first.create_session(new(is_claimed=True))
    for seq in range(70):  # enough for snapshots
        await first.commit(step_commit("s", step(seq)))
    await first.replicas.release(["s"])
    loaded = await second.claim_session("s")
    assert (loaded.record.seq, loaded.state) == (69, {"n": 70})


async def test_the_store_takes_commits_from_nobody_but_the_claimant(pair: tuple[Store, Store]) -> None:
    first, second = pair
    await first.create_session(new(is_claimed=True))
    with pytest.raises(ClaimLost):
        await second.commit(step_commit("s", step(0)))
    await first.commit(step_commit("s", step(0), run_start=started(), run_id="r"))
    await first.replicas.release(["s"])
    await second.claim_session("s")
    for stale in (
        step_commit("s", step(1)),
        Commit("s", SessionStatus.FAILED, 99, run_end=ended()),
    ):
        with pytest.raises(ClaimLost):
            await first.commit(stale)
    await second.commit(step_commit("s", step(1)))
    assert (await first.get_session("s")).seq == 1
    assert (await first.get_run("r")).finished_at_s is None


async def test_the_store_takes_nothing_that_was_handed_in_under_an_earlier_claim(pair: tuple[Store, Store]) -> None:
    """The same replica has read the session again: what is still on its way from before would count, or end, runs wrongly."""
    store, other = pair
    await store.create_session(new())
    before = (await store.claim_session("s")).record.claim_no
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started(), run_id="r", claim_no=before))
    now = (await store.claim_session("s")).record.claim_no
    assert now > before
    for late in (
        step_commit("s", step(0), run_id="r"),
        Commit("s", SessionStatus.IDLE, 6, run_start=started("ghost", 6), run_id="ghost", after_seq=-1),
        Commit("s", SessionStatus.IDLE, 50, run_end=ended(), run_id="r", after_seq=-1),
    ):
        with pytest.raises(ClaimLost):
            await store.commit(replace(late, claim_no=before))
    assert [run.id for run in await store.unfinished_runs()] == ["r"]
    await store.commit(step_commit("s", step(0), run_id="r", claim_no=now))
    await store.replicas.release(["s"])
    assert (await other.claim_session("s")).record.claim_no > now


async def test_of_many_who_claim_at_the_same_time_one_gets_the_session(pair: tuple[Store, Store]) -> None:
    for number in range(20):
        await pair[0].create_session(new(f"s{number}"))
        claims = [store.claim_session(f"s{number}") for store in (*pair, *pair)]
        answers = await asyncio.gather(*claims, return_exceptions=True)
        winners = {index % 2 for index, answer in enumerate(answers) if not isinstance(answer, BaseException)}
        assert len(winners) == 1
        assert sum(isinstance(answer, ClaimedElsewhere) for answer in answers) == 2


async def test_a_replica_that_is_silent_is_buried_and_its_sessions_are_free(
    postgres_store_url: str, pair: tuple[Store, Store]
) -> None:
    first, second = pair
    await first.create_session(new(is_claimed=True))
    assert list(await second.replicas.bury(4.0)) == []
    await silence(postgres_store_url, first)
    assert list(await second.replicas.bury(4.0)) == [first.replicas.id]
    assert (await second.replicas.beat()).living == 1
    assert not (await first.replicas.beat()).is_known
    with pytest.raises(StoreUnavailable, match="taken for dead"):
        await first.claim_session("s")
    await first.commit(step_commit("s", step(0)))  # nobody else has the session yet
    assert (await second.claim_session("s")).record.seq == 0
    with pytest.raises(ClaimLost):
        await first.commit(step_commit("s", step(1)))
    await first.replicas.join("http://replica-0")
    with pytest.raises(ClaimedElsewhere):
        await first.claim_session("s")


async def test_one_that_has_come_back_at_its_address_buries_what_was_there_before(
    postgres_store_url: str, pair: tuple[Store, Store]
) -> None:
    first, other = pair
    await first.create_session(new(is_claimed=True))
    async with opened(postgres_store_url) as again:
        await again.replicas.join("http://replica-0")
        assert list(await again.replicas.bury_predecessors(2.0)) == [], "it lives"
        await silence(postgres_store_url, first)
        await silence(postgres_store_url, other)
        assert list(await again.replicas.bury_predecessors(2.0)) == [first.replicas.id], "and not the one of another address"
        assert (await again.claim_session("s")).record.id == "s"


async def test_a_heartbeat_keeps_a_replica_from_being_buried(postgres_store_url: str, pair: tuple[Store, Store]) -> None:
    first, second = pair
    await silence(postgres_store_url, first)
    beat = await first.replicas.beat()
    assert (beat.is_known, beat.living) == (True, 2)
    assert list(await second.replicas.bury(4.0)) == []


async def test_who_leaves_gives_up_everything(pair: tuple[Store, Store]) -> None:
    first, second = pair
    await first.create_session(new(is_claimed=True))
    await first.replicas.leave()
    assert (await second.claim_session("s")).record.seq == -1


async def test_orphans_are_the_runs_that_no_living_replica_has(postgres_store_url: str, pair: tuple[Store, Store]) -> None:
    first, second = pair
    now_s = time.time()
    for name in ("owned", "dead", "free", "queued"):
        await first.create_session(new(name, is_claimed=True))
        if name != "queued":
            await first.commit(Commit(name, SessionStatus.IDLE, 5, run_start=started(name)))
    await first.replicas.release(["free", "queued"])
    await first.queue_run("queued", started("waits", started_at_s=now_s))
    await queried(
        postgres_store_url, "DELETE FROM stepwell_pgqueuer WHERE dedupe_key = 'waits' RETURNING 1"
    )  # the queue forgets it

    async def orphans(store: Store, queued_before_s: float = now_s + 1) -> list[str]:
        return sorted(run.id for run in await store.replicas.orphans(queued_before_s=queued_before_s, limit=10))

    assert await orphans(second) == ["free", "waits"]
    assert await orphans(second, now_s - 1) == ["free"]
    await silence(postgres_store_url, first)
    await second.replicas.bury(4.0)
    assert await orphans(second) == ["dead", "free", "owned", "waits"]
    await second.claim_session("dead")
    assert await orphans(second) == ["free", "owned", "waits"], "what it has claimed is under way"


async def test_a_run_that_its_queue_has_forgotten_is_found_behind_a_thousand_others(postgres_store_url: str) -> None:
    async with opened(postgres_store_url) as store:
        await store.create_session(new())
        await store.queue_run("s", started("0000", started_at_s=T0))
        others = "generate_series(1, 1100) AS n CROSS JOIN"
        await queried(
            postgres_store_url,
            f"""
            INSERT INTO runs (id, session_key, status, parameters, started_at, steps, started_event_id)
            SELECT to_char(n, 'FM0000'), session_key, status, parameters, started_at + n / 2, 0, 0 FROM {others} runs
        """,
        )
        await queried(
            postgres_store_url,
            f"""
            INSERT INTO stepwell_pgqueuer (priority, created, updated, heartbeat, execute_after, status, entrypoint, dedupe_key)
            SELECT 0, created, updated, heartbeat, execute_after, status, entrypoint, to_char(n, 'FM0000')
            FROM {others} stepwell_pgqueuer
        """,
        )
        await queried(
            postgres_store_url, "DELETE FROM stepwell_pgqueuer WHERE dedupe_key IN ('0007', '0008', '0999', '1000', '1100')"
        )
        found = [[run.id for run in await store.replicas.orphans(queued_before_s=2e9, limit=10)] for _ in range(3)]
        assert found == [["0007", "0008", "0999"], ["1000", "1100"], ["0007", "0008", "0999"]]


async def test_of_two_who_both_believe_that_they_own_a_session_one_commits(pair: tuple[Store, Store]) -> None:
    """Claims lie, as after a clock that jumped or a row that somebody changed by hand: `seq` is the fence that is left."""
    first, second = pair
    assert isinstance(second, SqlStore)
    second._database.writer.claimant = first.replicas.id
    await first.create_session(new(is_claimed=True))
    for seq in range(20):
        moves = [
            step_commit(
                "s",
                step(seq, (Set("by", name), Increment("n", 1)), {"by": name, "n": seq + 1}),
                run_start=started(f"{name}{seq}", 10 * seq + 5, key=Key(f"{name}{seq}".encode(), b"", 0.0)),
                failure=failed(seq, 10 * seq + number + 8, run_id=f"{name}{seq}"),
                run_id=f"{name}{seq}",
            )
            for number, name in enumerate(("a", "b"))
        ]
        outcomes = await asyncio.gather(first.commit(moves[0]), second.commit(moves[1]), return_exceptions=True)
        winner, loser = ("a", "b") if outcomes[0] is None else ("b", "a")
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [StepConflict]
        assert (await first.get_step("s", seq)).run_id == f"{winner}{seq}"
        assert (await second.state_at("s", seq)) == {"by": winner, "n": seq + 1}
        assert [each.run_id for each in await first.list_failures("s", after_event_id=10 * seq)] == [f"{winner}{seq}"]
        assert await first.find_key(f"{loser}{seq}".encode()) is None
        with pytest.raises(RunNotFound):
            await first.get_run(f"{loser}{seq}")


async def test_a_store_without_replicas_lets_everything_be_claimed(store: Store) -> None:
    await store.create_session(new())
    assert (await store.claim_session("s")).state == {"n": 0}
    with pytest.raises(SessionNotFound):
        await store.claim_session("nobody")


async def test_a_second_service_on_an_sqlite_file_is_refused(tmp_path: Path) -> None:
    first, second = FileReplica(tmp_path / "sessions.db"), FileReplica(tmp_path / "sessions.db")
    await first.join("http://127.0.0.1:8000")
    with pytest.raises(StoreUnavailable, match=r"another service \(http://127.0.0.1:8000\) has this SQLite file open"):
        await second.join("http://127.0.0.1:8001")
    await first.leave()
    await second.join("http://127.0.0.1:8001")
    await second.leave()


async def test_a_session_that_has_expired_is_deleted_by_who_has_it_and_by_anybody_once_that_is_dead(
    pair: tuple[Store, Store], postgres_store_url: str
) -> None:
    first, second = pair
    now_s = time.time()
    for name in ("mine", "free"):
        await first.create_session(new(name, created_at_s=now_s, ttl_s=60.0, is_claimed=name == "mine"))
    assert await second.maybe_expired(now_s + 61, 10) == ["free"]
    assert await second.purge_expired(["mine", "free"], now_s + 61) == ["free"]
    assert await first.maybe_expired(now_s + 61, 10) == ["mine"]
    await silence(postgres_store_url, first)
    await second.replicas.bury(30)
    assert await second.purge_expired(["mine"], now_s + 61) == ["mine"]
    with pytest.raises(SessionNotFound):
        await first.claim_session("mine")


async def test_a_session_that_has_expired_cannot_be_claimed(pair: tuple[Store, Store]) -> None:
    first, second = pair
    await first.create_session(new(created_at_s=time.time() - 100, ttl_s=60.0))
    for store in pair:
        with pytest.raises(SessionNotFound):
            await store.claim_session("s")
    assert await second.purge_expired(["s"], time.time()) == ["s"]


async def test_each_replica_looks_through_the_runs_of_its_own_sessions(pair: tuple[Store, Store]) -> None:
    for number, store in enumerate((*pair, *pair)):
        await store.create_session(new(f"s{number}", is_claimed=True))
        await store.commit(Commit(f"s{number}", SessionStatus.IDLE, 5, run_start=started(f"r{number}")))
    for number, store in enumerate(pair):
        found = await store.running_runs(claimed_by=store.replicas.id, after=(-math.inf, ""), limit=10)
        assert [run.id for run in found] == [f"r{number}", f"r{number + 2}"]
