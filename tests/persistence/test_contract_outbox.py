"""Webhooks in every store: due once their run has ended, one taker at a time, and no secret longer than it is needed."""

import asyncio
from dataclasses import replace

from app.persistence.records import Commit, Delivery, RunStatus, SessionStatus, Undelivered
from app.persistence.store import Store
from tests.persistence.making import T0, ended, new, opened, queried, started

HOOK = {"url": "https://example.org/hook", "secret": "whsec_x"}
URL = HOOK["url"]


async def a_run(store: Store, run_id: str = "r", webhook: dict[str, str] | None = None, *, is_over: bool = True) -> None:
    start = started(run_id, webhook=HOOK if webhook is None else webhook)
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=start))
    if is_over:
        await store.commit(Commit("s", SessionStatus.IDLE, 50, run_end=ended(run_id)))


async def test_a_webhook_is_due_when_its_run_has_ended(store: Store) -> None:
    await store.create_session(new())
    await a_run(store, is_over=False)
    assert list(await store.outbox.claim(T0 + 99, T0 + 200)) == []
    assert (await store.get_run("r")).webhook == Delivery(URL, T0 + 1)
    await store.commit(Commit("s", SessionStatus.IDLE, 50, run_end=ended()))
    assert list(await store.outbox.claim(T0, T0 + 200)) == []
    (found,) = await store.outbox.claim(T0 + 99, T0 + 200)
    run = await store.get_run("r")
    assert found == Undelivered(run, Delivery(URL, T0 + 200), "whsec_x")
    assert (run.status, run.webhook) == (RunStatus.FINISHED, Delivery(URL, T0 + 200))
    assert list(await store.outbox.claim(T0 + 199, T0 + 300)) == [], "it is somebody's for now"
    assert len(await store.outbox.claim(T0 + 200, T0 + 300)) == 1, "who took it has died"
    assert "whsec_x" not in repr(found)


async def test_a_webhook_of_a_run_that_waited_is_kept_when_it_begins(store: Store) -> None:
    await store.create_session(new())
    await store.queue_run("s", started("r", webhook=HOOK))
    assert (await store.get_run("r")).webhook == Delivery(URL, T0 + 1)
    await store.commit(Commit("s", SessionStatus.IDLE, 5, run_start=started("r", started_at_s=T0 + 3)))
    await store.commit(Commit("s", SessionStatus.IDLE, 50, run_end=ended()))
    (found,) = await store.outbox.claim(T0 + 99, T0 + 200)
    assert (found.run.id, found.secret) == ("r", "whsec_x")


async def test_a_run_that_begins_and_ends_in_one_commit_is_told_of(store: Store) -> None:
    await store.create_session(new())
    start = started("r", webhook={"url": URL})
    await store.commit(Commit("s", SessionStatus.IDLE, 50, run_start=start, run_end=ended("r")))
    (found,) = await store.outbox.claim(T0 + 99, T0 + 200)
    assert (found.run.id, found.secret) == ("r", None)


async def test_what_came_of_an_attempt_is_noted(store: Store) -> None:
    await store.create_session(new())
    await a_run(store)
    (found,) = await store.outbox.claim(T0 + 99, T0 + 200)
    tried = replace(found.delivery, due_at_s=T0 + 120, attempts=1, last_at_s=T0 + 100, answer="503")
    await store.outbox.note("r", tried)
    assert (await store.get_run("r")).webhook == tried
    (again,) = await store.outbox.claim(T0 + 120, T0 + 200)
    assert (again.delivery.attempts, again.secret) == (1, "whsec_x")
    over = replace(tried, due_at_s=None, attempts=2, last_at_s=T0 + 121, answer="204", is_delivered=True)
    await store.outbox.note("r", over)
    assert (await store.get_run("r")).webhook == over
    assert list(await store.outbox.claim(T0 + 999, T0 + 2000)) == []
    assert [run.webhook for run in await store.list_runs("s")] == [over]


async def test_the_oldest_come_first_and_no_more_than_were_asked_for(store: Store) -> None:
    await store.create_session(new())
    for number in range(5):
        await a_run(store, f"r{number}")
        await store.outbox.note(f"r{number}", Delivery(URL, T0 + 100 - number))
    found = [await store.outbox.claim(T0 + 100, T0 + 200, limit=2) for _ in range(3)]
    assert [{each.run.id for each in some} for some in found] == [{"r4", "r3"}, {"r2", "r1"}, {"r0"}]


async def test_the_webhooks_of_a_deleted_session_are_gone(store: Store) -> None:
    await store.create_session(new())
    await a_run(store)
    await store.delete_session("s")
    assert list(await store.outbox.claim(T0 + 99, T0 + 200)) == []
    await store.outbox.note("r", Delivery(URL))


async def test_a_secret_leaves_the_database_with_the_last_attempt(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.create_session(new())
        await a_run(store)
        before = await queried(database_url, "SELECT webhook FROM runs")
        await store.outbox.note("r", Delivery(URL, None, 1, T0, "200", is_delivered=True))
        after = await queried(database_url, "SELECT webhook FROM runs")
    assert len(after) < len(before)


async def test_two_replicas_never_get_the_same_webhook(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        await one.create_session(new())
        for number in range(40):
            await a_run(one, f"r{number}")
        claims = [store.outbox.claim(T0 + 99, T0 + 200, limit=3) for store in [one, other] * 8]
        found = [each.run.id for some in await asyncio.gather(*claims) for each in some]
        assert len(found) == len(set(found)) == 40
