"""Each use of the time of day, on a machine whose clock is wrong.

On PostgreSQL the machine's clock is wrong from the start: the database's counts. On SQLite and in memory it jumps while the
service runs, and a jump counts only when it has lasted.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from app.persistence.factory import open_store
from app.persistence.records import RunStatus, SessionFilter
from app.persistence.replicas import ClaimedElsewhere
from app.persistence.store import SessionNotFound, Store
from app.sessions.events import Event, StepDone
from app.sessions.host import SessionHost
from app.sessions.host_settings import HostSettings
from app.sessions.housekeeping import Housekeeping, Retention
from app.sessions.requests import NewSessionRequest, RunRequest
from app.sessions.rhythm import Rhythm
from app.sessions.schedules import ScheduleRequest
from app.sessions.webhook_messages import WebhookSettings
from app.system.clocks import Clock, current_time_s, since_boot_s, using_clock
from tests.endpoint import receiving
from tests.machines import Gate, counter, gated
from tests.server import running_server
from tests.sessions.hosting import all_events, create, drop, hosting, leave_a_run, take_steps
from tests.sessions.test_schedules import over, until

NEAR_S = 30.0  # what a busy machine may need between two looks at a clock; the clocks here differ by an hour
HOUR_S = 3600.0
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Machine:
    """A machine whose clock is `ahead_s` before the true time; `later_s` have passed besides."""

    ahead_s: float = 0.0
    later_s: float = 0.0

    def wall_s(self) -> float:
        return time.time() + self.ahead_s + self.later_s

    def ticks_s(self) -> float:
        return since_boot_s() + self.later_s


@dataclass
class Skew:
    """The clock is wrong by `by_s`, from the start or as soon as the service runs."""

    url: str
    by_s: float
    machine: Machine

    def jump(self) -> None:
        self.machine.ahead_s = self.by_s


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    with using_clock(Clock(machine.wall_s, machine.ticks_s)):
        yield machine


@pytest.fixture(params=[HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def skew(request: pytest.FixtureRequest, store_url: str) -> Iterator[Skew]:
    is_postgres = store_url.startswith("postgresql")
    machine = Machine(request.param if is_postgres else 0.0)
    with using_clock(Clock(machine.wall_s, machine.ticks_s)):
        yield Skew(store_url, request.param, machine)


def is_now(time_s: float | None) -> bool:
    return time_s is not None and abs(time_s - time.time()) < NEAR_S


async def test_ids_and_times_of_events_are_of_the_true_time(skew: Skew) -> None:
    async with hosting([counter()], open_store(skew.url, migrate=True)) as host:
        session = await create(host)
        await take_steps(host, session, 1)
        skew.jump()
        await take_steps(host, session, 2)
        events = await all_events(host, session)
        assert [event for event in events if not is_now(event.id / 1e6)] == []
        steps = await host.history.steps(session, after_seq=-1, limit=10)
        assert [step.seq for step in steps if is_now(step.finished_at_s)] == [0, 1, 2]


async def test_a_session_expires_by_the_true_time(skew: Skew) -> None:
    async with hosting([counter()], open_store(skew.url, migrate=True)) as host:
        first = (await host.create(NewSessionRequest("counter", ttl_s=HOUR_S / 2))).record
        skew.jump()
        later = (await host.create(NewSessionRequest("counter", ttl_s=HOUR_S / 2))).record
        for record in (first, later):
            assert is_now((record.expires_at_s or 0.0) - HOUR_S / 2)
        chores = Housekeeping(host.store, host.residents, host.machines, Retention(), HOUR_S)
        await chores.purge()
        for record in (first, later):
            assert (await host.step(record.id, {})).seq == 0
        assert [each.id for each in (await host.store.list_sessions(SessionFilter(), 5, None)).sessions] == [later.id, first.id]


async def test_a_run_that_is_taken_up_again_has_the_time_that_was_left_of_its_limit(skew: Skew) -> None:
    async with hosting([counter(), gated(Gate())], open_store(skew.url, migrate=True)) as host:
        skew.jump()
        for run_id, limit_s, machine in (("early", HOUR_S / 2, "counter"), ("late", HOUR_S / 8, "gated")):
            session = await create(host, machine)
            await host.step(session, {})
            drop(host, session)
            await leave_a_run(host.store, session, run_id, age_s=HOUR_S / 4, timeout_s=limit_s, max_steps=1)
            await host.get(session)
        assert await over(host, "early") is RunStatus.FINISHED
        assert await over(host, "late") is RunStatus.CANCELLED


async def test_a_schedule_is_due_by_the_true_time(skew: Skew) -> None:
    async with hosting([counter()], open_store(skew.url, migrate=True)) as host:
        skew.jump()
        session = await create(host)
        soon = await host.create_schedule(ScheduleRequest(Rhythm(every_s=1.0), RunRequest(max_steps=1), session))
        later = await host.create_schedule(ScheduleRequest(Rhythm(every_s=HOUR_S / 2), RunRequest(max_steps=1), session))
        fired = await until(host, soon.id, lambda each: each.last_run_id)
        assert is_now(fired.last_at_s)
        assert is_now(fired.next_at_s)
        assert (await host.schedules.get(later.id)).last_run_id is None
        assert is_now((later.next_at_s or 0.0) - HOUR_S / 2)


async def test_a_webhook_is_due_by_the_true_time(skew: Skew) -> None:
    webhooks = WebhookSettings(is_private_allowed=True, first_pause_s=0.05, attempts=4, timeout_s=15.0)
    with receiving(lambda number: 503 if number == 1 else 204) as endpoint:
        async with hosting([counter()], open_store(skew.url, migrate=True), webhooks=webhooks) as host:
            session = await create(host)
            skew.jump()
            begun = await host.start(session, RunRequest(max_steps=1), webhook={"url": endpoint.url, "secret": SECRET})
            await begun.outcome()
            received = await asyncio.to_thread(endpoint.until, 2)
    assert [is_now(float(each.headers["webhook-timestamp"])) for each in received] == [True, True]


async def test_an_idempotency_key_is_forgotten_by_the_true_time(skew: Skew) -> None:
    with running_server([counter()], open_store(skew.url, migrate=True), HostSettings(key_ttl_s=HOUR_S / 2)) as server:
        async with server.async_client() as client:
            path = f"/v1/sessions/{(await client.post('/v1/sessions', json={'machine': 'counter'})).json()['id']}/steps"
            keys = [{"Idempotency-Key": "before"}, {"Idempotency-Key": "after"}]
            answers = [await client.post(path, json={}, headers=keys[0])]
            skew.jump()
            answers.append(await client.post(path, json={}, headers=keys[1]))
            server.call(forget_keys)
            again = [await client.post(path, json={}, headers=key) for key in keys]
    assert [each.json()["seq"] for each in answers] == [0, 1]
    assert [each.json() for each in again] == [each.json() for each in answers]


def heads(events: Sequence[Event]) -> list[tuple[int, str]]:
    return [(event.id, event.type.value) for event in events]


async def forget_keys(host: SessionHost) -> None:
    await Housekeeping(host.store, host.residents, host.machines, Retention(), host.settings.key_ttl_s).forget_keys()


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
async def test_a_replica_lives_by_the_databases_clock(by_s: float, postgres_store_url: str) -> None:
    machine = Machine(by_s)
    with using_clock(Clock(machine.wall_s, machine.ticks_s)):
        async with (
            hosting([counter()], open_store(postgres_store_url)) as first,
            hosting([counter()], open_store(postgres_store_url)) as other,
        ):
            session = await create(first)
            await take_steps(first, session, 1)
            assert await other.store.replicas.bury(4.0) == []
            assert is_now(current_time_s())
            with pytest.raises(ClaimedElsewhere):
                await other.store.claim_session(session)
            await first.step(session, {})


async def test_what_is_due_on_sqlite_and_in_memory_comes_when_the_time_has_passed(machine: Machine, store: Store) -> None:
    """The same uses, to see that they do look at the clock: an hour passes."""
    async with hosting([counter()], store) as host:
        session = await create(host)
        mortal = (await host.create(NewSessionRequest("counter", ttl_s=HOUR_S / 2))).record.id
        schedule = await host.create_schedule(ScheduleRequest(Rhythm(every_s=HOUR_S / 2), RunRequest(max_steps=1), session))
        machine.later_s = HOUR_S
        fired = await until(host, schedule.id, lambda each: each.last_run_id)
        assert await over(host, fired.last_run_id or "") is RunStatus.FINISHED
        with pytest.raises(SessionNotFound):
            await host.get(mortal)
        events = await all_events(host, session)
        assert [event for event in events if is_now(event.id / 1e6 - HOUR_S)] == events != []


@pytest.mark.parametrize("is_loaded_again", [False, True])
async def test_event_ids_grow_and_followers_miss_nothing_when_the_clock_is_set_back_for_good(
    is_loaded_again: bool, machine: Machine, store: Store
) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)
        await take_steps(host, session, 2)
        before = await all_events(host, session)
        machine.ahead_s = -HOUR_S
        machine.later_s += 1.0
        current_time_s()  # it has seen the jump
        machine.later_s += 89.0
        assert is_now(current_time_s() + HOUR_S - 90.0), "the service has taken the new time over"
        if is_loaded_again:
            drop(host, session)
        await take_steps(host, session, 2)
        events = await all_events(host, session)
        assert heads(events[: len(before)]) == heads(before)
        assert [event.id for event in events] == sorted({event.id for event in events})
        assert heads(await all_events(host, session, after=before[-1].id)) == heads(events[len(before) :])
        assert [event.body.seq for event in events if isinstance(event.body, StepDone)] == [0, 1, 2, 3]


async def test_a_replica_that_joins_after_the_databases_clock_was_set_back_gives_out_ids_above_those_of_the_others(
    postgres_store_url: str,
) -> None:
    told_before = Clock()
    told_before.tell(time.time() + HOUR_S, since_boot_s(), since_boot_s())
    with using_clock(told_before):
        first = open_store(postgres_store_url)
        async with hosting([counter()], first) as host:
            session = await create(host)
            await take_steps(host, session, 1)
            assert is_now(current_time_s())
            await first.replicas.beat()
            shown = (await all_events(host, session))[-1].id
            assert is_now(shown / 1e6 - HOUR_S)
            with using_clock(Clock()):
                async with hosting([counter()], open_store(postgres_store_url)) as other:
                    elsewhere = await create(other)
                    await take_steps(other, elsewhere, 1)
                    assert (await all_events(other, elsewhere))[0].id > shown
                    assert is_now(current_time_s())
