"""What becomes of a run that is asked for while another one has the session."""

import asyncio
from typing import Any

import pytest

from app.persistence.factory import open_store
from app.persistence.memory import MemoryStore
from app.persistence.records import RunStatus, SessionStatus, StepKind
from app.persistence.store import SessionNotFound, Store
from app.sessions.errors import RunCancelled, SeqMismatch, SessionBusy, ShuttingDown
from app.sessions.host import SessionHost
from app.sessions.requests import OnBusy, RunOutcome, RunRequest, SessionEdit
from app.sessions.run_desk import RunHandle
from tests.machines import Gate, counter, gated, turns
from tests.sessions.hosting import all_events, create, drop, hosting, leave_a_run, types_of


async def busy(host: SessionHost, gate: Gate) -> tuple[str, RunHandle]:
    """A session that has been edited, and a run of it that has prepared and holds at the gate."""
    session = await create(host, "gated")
    await host.edit(session, SessionEdit({"mark": "before"}))
    run = await host.start(session, RunRequest(halt_after=("hold",)))
    await gate.until_reached()
    return session, run


def asked(host: SessionHost, session: str, on_busy: OnBusy, **options: object) -> "asyncio.Task[RunHandle]":
    return asyncio.create_task(host.start(session, RunRequest(on_busy=on_busy, **options)))  # type: ignore[arg-type]  # by name


async def outcome(asked_for: "asyncio.Task[RunHandle]") -> RunOutcome:
    return await (await asked_for).outcome()


async def settled(host: SessionHost, session: str, waiting: int) -> None:
    """Return when so many wait."""
    live = host.residents.get(session)
    assert live is not None
    while len(live.line) < waiting:  # noqa: ASYNC110  # a line gives no sign
        await asyncio.sleep(0)


async def test_runs_that_wait_begin_in_the_order_in_which_they_came(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, first = await busy(host, gate)
        waiting = []
        for number in range(3):
            waiting.append(asked(host, session, OnBusy.ENQUEUE, max_steps=1))
            await settled(host, session, number + 1)
        gate.open()
        assert (await first.outcome()).seq == 2
        assert [(await (await each).outcome()).seq for each in waiting] == [3, 4, 5]
        assert (await host.get(session)).record.status is SessionStatus.IDLE


async def test_an_interrupted_run_keeps_what_it_has_committed(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, first = await busy(host, gate)
        second = asked(host, session, OnBusy.INTERRUPT, max_steps=1)
        with pytest.raises(RunCancelled) as caught:
            await first.outcome()
        assert (caught.value.reason, caught.value.seq, caught.value.steps) == ("interrupted", 1, 1)
        gate.open()
        outcome = await (await second).outcome()
        assert (outcome.seq, outcome.action) == (2, "hold")


async def test_a_run_that_is_taken_back_leaves_the_session_where_it_began(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, first = await busy(host, gate)
        second = asked(host, session, OnBusy.ROLLBACK, max_steps=1)
        with pytest.raises(RunCancelled) as caught:
            await first.outcome()
        assert (caught.value.reason, caught.value.seq) == ("rolled_back", 2)
        outcome = await (await second).outcome()
        assert (outcome.seq, outcome.action, dict(outcome.state)) == (
            3,
            "prepare",
            {"held": 0, "mark": "before", "prepared": True},
        )
        steps = await host.history.steps(session, after_seq=-1, limit=10)
        assert [(step.kind, step.run_id) for step in steps] == [
            (StepKind.EDIT, None),
            (StepKind.ACTION, first.id),
            (StepKind.ROLLBACK, first.id),
            (StepKind.ACTION, outcome.run_id),
        ]
        assert await store.state_at(session, 2) == await store.state_at(session, 0) == {"held": 0, "mark": "before"}
        assert types_of(await all_events(host, session))[5:9] == ["step.failed", "step.finished", "run.cancelled", "run.started"]
        record = await store.get_run(first.id)
        assert (record.status, record.reason, record.steps) == (RunStatus.CANCELLED, "rolled_back", 1)


async def test_a_session_that_was_taken_back_comes_back_from_the_store_as_it_was(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, _ = await busy(host, gate)
        third = await asked(host, session, OnBusy.ROLLBACK, max_steps=1)
        await third.outcome()
        gate.reached.clear()
        held = await host.start(session, RunRequest())
        await gate.until_reached()
        fourth = await asked(host, session, OnBusy.ROLLBACK, max_steps=1)
        with pytest.raises(RunCancelled):
            await held.outcome()
        gate.open()
        assert (await fourth.outcome()).action == "hold", "it stands after the `prepare` of the third run"
        loaded = await store.load_session(session)
        assert (loaded.record.prior_action, loaded.record.next_action) == ("hold", "prepare")


async def test_a_run_without_steps_is_taken_back_without_a_step(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        await host.step(session, {})
        first = await host.start(session, RunRequest())
        await gate.until_reached()
        second = asked(host, session, OnBusy.ROLLBACK, max_steps=1)
        with pytest.raises(RunCancelled):
            await first.outcome()
        gate.open()
        assert (await (await second).outcome()).seq == 1


async def test_who_interrupts_goes_before_those_that_wait(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, first = await busy(host, gate)
        patient = asked(host, session, OnBusy.ENQUEUE, max_steps=1)
        await settled(host, session, 1)
        hasty = asked(host, session, OnBusy.INTERRUPT, max_steps=1)
        gate.open()
        with pytest.raises(RunCancelled):
            await first.outcome()
        assert [(await (await each).outcome()).seq for each in (hasty, patient)] == [2, 3]


async def test_a_run_that_waits_can_be_seen_and_cancelled(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, first = await busy(host, gate)
        waiting = asked(host, session, OnBusy.ENQUEUE)
        await settled(host, session, 1)
        live = host.residents.get(session)
        assert live is not None
        run_id = live.line[0].order.run_id
        assert (await host.history.get_run(run_id)).status is RunStatus.QUEUED
        assert (await host.cancel_run(run_id)).status is RunStatus.CANCELLED
        with pytest.raises(RunCancelled):
            await waiting
        gate.open()
        assert (await first.outcome()).seq == 2


async def test_what_a_waiting_run_expects_is_looked_at_when_its_turn_comes(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, _ = await busy(host, gate)
        stale = asyncio.create_task(host.start(session, RunRequest(on_busy=OnBusy.ENQUEUE), expected={1}))
        await settled(host, session, 1)
        fresh = asyncio.create_task(host.start(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE), expected={2}))
        await settled(host, session, 2)
        gate.open()
        with pytest.raises(SeqMismatch):
            await stale
        assert (await (await fresh).outcome()).seq == 3


async def test_those_who_wait_are_sent_away_when_the_session_or_the_service_ends(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, _ = await busy(host, gate)
        waiting = asked(host, session, OnBusy.ENQUEUE)
        await settled(host, session, 1)
        await host.delete(session)
        with pytest.raises(SessionNotFound):
            await waiting
        gate.reached.clear()
        other, _ = await busy(host, gate)
        waiting = asked(host, other, OnBusy.ENQUEUE)
        await settled(host, other, 1)
        host.begin_drain()
        with pytest.raises(ShuttingDown):
            await waiting


async def test_an_edit_is_refused_while_somebody_waits(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session, _ = await busy(host, gate)
        waiting = asked(host, session, OnBusy.ENQUEUE, max_steps=1)
        await settled(host, session, 1)
        with pytest.raises(SessionBusy):
            await host.edit(session, SessionEdit({"mark": "no"}))
        gate.open()
        await (await waiting).outcome()


async def test_a_hundred_that_interrupt_each_other_leave_one_log_without_gaps(store: Store) -> None:
    async with hosting([turns("slow", pause_s=0.001)], store) as host:
        session = await create(host, "slow")
        kinds = [OnBusy.INTERRUPT, OnBusy.ROLLBACK, OnBusy.ENQUEUE]
        runs = [asked(host, session, kinds[number % 3], max_steps=4) for number in range(100)]
        ended = await asyncio.gather(*map(outcome, runs), return_exceptions=True)
        assert all(not isinstance(each, BaseException) or isinstance(each, RunCancelled) for each in ended)
        steps = await host.history.steps(session, after_seq=-1, limit=1000)
        assert [step.seq for step in steps] == list(range(len(steps)))
        loaded = await store.load_session(session)
        assert loaded.state == (await host.get(session)).state
        events = await all_events(host, session)
        assert [event.id for event in events] == sorted({event.id for event in events})
        assert await store.unfinished_runs() == []


async def test_a_run_that_is_cancelled_while_it_begins_ends_once_and_counts_its_steps(database_url: str) -> None:
    async with hosting([counter()], open_store(database_url)) as host:
        session = await create(host)
        for pause in range(60):
            queued = await host.queue(session, RunRequest(max_steps=3, on_busy=OnBusy.ENQUEUE))
            for _ in range(pause):
                await asyncio.sleep(0)
            cancelled = await host.cancel_run(queued.id)
            live = host.residents.get(session)
            while live is not None and live.run is not None:
                await live.run.ended()
            record = await host.store.get_run(queued.id)
            steps = await host.history.steps(session, after_seq=-1, limit=1000)
            assert record.steps == sum(step.run_id == queued.id for step in steps), f"after {pause} turns of the loop"
            assert (record.status, record.finished_event_id) == (cancelled.status, cancelled.finished_event_id)


class SlowToLook(MemoryStore):
    """A store that looks at what was when it is allowed to."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    async def state_at(self, session_id: str, seq: int) -> dict[str, Any]:
        await self.gate.wait()
        return await super().state_at(session_id, seq)


async def test_a_run_that_is_pushed_aside_twice_while_it_is_taken_back_comes_to_its_end() -> None:
    gate, looking = Gate(), Gate()
    async with hosting([gated(gate)], SlowToLook(looking)) as host:
        session = await create(host, "gated")
        await host.step(session, {})
        await leave_a_run(host.store, session)
        drop(host, session)
        await host.own(session)
        await host.registry.alive(session)
        await gate.until_reached()
        first = asked(host, session, OnBusy.ROLLBACK, max_steps=1)
        await looking.until_reached()
        second = asked(host, session, OnBusy.INTERRUPT, max_steps=1)
        await settled(host, session, 1)
        gate.open()
        looking.open()
        async with asyncio.timeout(60):
            for each in (first, second):
                await asyncio.gather(outcome(each), return_exceptions=True)
        assert (await host.history.get_run("left")).status is RunStatus.CANCELLED
