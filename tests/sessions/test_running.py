"""Steps and runs: what they give, what they leave, and what they refuse."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.errors import InvalidInputs, UnknownAction
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.records import RunStatus, SessionStatus
from app.persistence.sql_store import SqlStore
from app.persistence.store import SessionNotFound, Store
from app.sessions.errors import ActionFailed, RunCancelled, SeqMismatch, SessionBusy, SessionEnded
from app.sessions.requests import RunRequest, SessionEdit
from tests.machines import Gate, counter, failing, gated, greeter, mixed, turns
from tests.sessions.hosting import all_events, create, hosting, run, take_steps, types_of


async def test_a_step_moves_the_session_and_tells_what_comes_next(store: Store) -> None:
    async with hosting([turns()], store) as host:
        session = await create(host, "turns")
        outcome = await host.step(session, {})
        assert (outcome.seq, outcome.action, outcome.next_action, outcome.steps) == (0, "a", "b", 1)
        assert (outcome.status, outcome.reason, outcome.session_status) == (RunStatus.FINISHED, "max_steps", SessionStatus.IDLE)
        assert dict(outcome.state) == {"words": ["a"]}
        loaded = await host.get(session)
        assert (loaded.record.seq, loaded.record.prior_action, loaded.record.next_action) == (0, "a", "b")
        assert (await store.load_session(session)).state == loaded.state == {"words": ["a"]}


async def test_a_run_goes_on_until_a_halt_the_end_or_its_limit(store: Store) -> None:
    async with hosting([turns(), counter("three", 3)], store) as host:
        session = await create(host, "turns")
        reasons = []
        for request in (RunRequest(halt_before=("c",)), RunRequest(halt_after=("c",)), RunRequest(max_steps=2)):
            outcome = await (await host.start(session, request)).outcome()
            reasons.append((outcome.reason, outcome.steps, outcome.seq, outcome.next_action))
        assert reasons == [("halt_before", 2, 1, "c"), ("halt_after", 1, 2, "a"), ("max_steps", 2, 4, "c")]
        three = await create(host, "three")
        ended = await (await host.start(three, RunRequest())).outcome()
        assert (ended.reason, ended.steps, ended.session_status, ended.next_action) == ("end", 3, SessionStatus.ENDED, None)


async def test_an_ended_session_has_no_further_step_but_its_run_ends_at_once(store: Store) -> None:
    async with hosting([counter("one", 1)], store) as host:
        session = await create(host, "one")
        await host.step(session, {})
        with pytest.raises(SessionEnded):
            await host.step(session, {})
        outcome = await (await host.start(session, RunRequest())).outcome()
        assert (outcome.reason, outcome.steps, outcome.seq, outcome.action) == ("end", 0, 0, None)
        assert (await host.get(session)).record.status is SessionStatus.ENDED


async def test_a_session_has_one_run_at_a_time(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        first = await host.start(session, RunRequest(halt_after=("hold",)))
        await gate.until_reached()
        before = await host.get(session)
        for attempt in (host.step(session, {}), host.start(session, RunRequest()), host.edit(session, SessionEdit({"held": 9}))):
            with pytest.raises(SessionBusy) as caught:
                await attempt
            assert caught.value.run_id == first.id
        assert before.record.status is SessionStatus.RUNNING
        assert (await host.get(session)).state == before.state
        gate.open()
        assert (await first.outcome()).steps == 2


async def test_refused_requests_leave_no_trace(store: Store) -> None:
    async with hosting([greeter()], store) as host:
        session = await create(host, "greeter")
        before = await host.get(session)
        with pytest.raises(InvalidInputs):
            await host.step(session, {})
        with pytest.raises(InvalidInputs):
            await host.step(session, {"name": "ann", "age": 3})
        with pytest.raises(UnknownAction):
            await (await host.start(session, RunRequest({"name": "ann"}, halt_after=("nope",)))).outcome()
        with pytest.raises(SeqMismatch):
            await host.step(session, {"name": "ann"}, expected={7})
        assert await host.get(session) == before
        assert (await host.history.list_runs(session, limit=10)).runs == []
        assert await all_events(host, session) == []
        assert (await host.step(session, {"name": "ann"}, expected={-1})).state["name"] == "ann"


async def test_a_failing_action_is_recorded_and_moves_nothing(store: Store) -> None:
    async with hosting([failing()], store) as host:
        session = await create(host, "failing")
        with pytest.raises(ActionFailed) as caught:
            await (await host.start(session, RunRequest())).outcome()
        failed = caught.value
        assert (failed.seq, failed.action, failed.error_type, failed.message, failed.steps) == (
            1,
            "work",
            "ValueError",
            "the wheel is broken",
            1,
        )
        loaded = await host.get(session)
        assert (loaded.record.status, loaded.record.seq, loaded.record.next_action) == (SessionStatus.FAILED, 0, "work")
        (failure,) = await store.list_failures(session)
        assert (failure.seq, failure.action, failure.error_type, failure.run_id) == (1, "work", "ValueError", failed.run_id)
        assert "in work" in failure.traceback
        assert "s3cr3t" not in failure.traceback + failure.message + str(failed)
        record = await host.history.get_run(failed.run_id)
        assert (record.status, record.steps) == (RunStatus.FAILED, 1)
        assert types_of(await all_events(host, session)) == [
            "run.started",
            "step.started",
            "step.finished",
            "step.started",
            "step.failed",
            "run.failed",
        ]


async def test_a_failed_session_can_be_mended_and_goes_on(store: Store) -> None:
    async with hosting([failing()], store) as host:
        session = await create(host, "failing")
        with pytest.raises(ActionFailed):
            await (await host.start(session, RunRequest())).outcome()
        edited = await host.edit(session, SessionEdit({"broken": False}))
        assert (edited.record.seq, edited.record.status, edited.record.next_action) == (1, SessionStatus.IDLE, "work")
        outcome = await host.step(session, {})
        assert (outcome.seq, outcome.action, outcome.session_status) == (2, "work", SessionStatus.ENDED)


async def test_a_value_that_cannot_be_stored_fails_the_step_that_wrote_it(store: Store) -> None:
    @action(reads=[], writes=["thing"])
    async def write(state: State) -> State:
        return state.update(thing=object())

    machine = Machine("odd", lambda: ApplicationBuilder().with_actions(write).with_entrypoint("write"))
    async with hosting([machine], store) as host:
        session = await create(host, "odd")
        with pytest.raises(ActionFailed) as caught:
            await host.step(session, {})
        assert caught.value.error_type.endswith("UnserializableValue")
        loaded = await host.get(session)
        assert (loaded.record.seq, loaded.record.status, loaded.state) == (-1, SessionStatus.FAILED, {})


async def test_sync_actions_take_their_turn_off_the_loop(store: Store) -> None:
    async with hosting([mixed()], store) as host:
        session = await create(host, "mixed")
        outcome = await (await host.start(session, RunRequest(max_steps=4))).outcome()
        assert outcome.state["n"] == 22
        told = [event for event in await all_events(host, session) if event.type == "warning"]
        assert len(told) == 1, "one warning per action, not per call"
        assert [notice.action for notice in host.executors.notices("mixed")] == ["second"]


async def test_a_cancelled_run_ends_at_once_and_keeps_what_it_committed(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        started = await host.start(session, RunRequest())
        await gate.until_reached()
        record = await host.cancel_run(started.id)
        assert (record.status, record.reason, record.steps) == (RunStatus.CANCELLED, "requested", 1)
        with pytest.raises(RunCancelled):
            await started.outcome()
        loaded = await host.get(session)
        assert (loaded.record.seq, loaded.record.status, loaded.state) == (0, SessionStatus.IDLE, {"held": 0, "prepared": True})
        assert types_of(await all_events(host, session))[-3:] == ["step.started", "step.failed", "run.cancelled"]
        assert await host.cancel_run(started.id) == record, "what has ended stays as it ended"
        gate.open()
        assert (await host.step(session, {})).seq == 1


async def test_a_run_that_is_cancelled_before_it_begins_leaves_no_trace(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)
        started = await host.start(session, RunRequest())
        started.cancel("requested")
        with pytest.raises(RunCancelled):
            await started.outcome()
        assert await all_events(host, session) == []
        assert (await host.step(session, {})).seq == 0


async def test_a_run_out_of_time_is_cancelled_for_that_reason(store: Store) -> None:
    async with hosting([gated(Gate())], store) as host:
        session = await create(host, "gated")
        with pytest.raises(RunCancelled) as caught:
            await (await host.start(session, RunRequest(timeout_s=0.05))).outcome()
        assert (caught.value.reason, caught.value.steps) == ("timeout", 1)
        assert (await host.get(session)).record.status is SessionStatus.IDLE


async def test_many_sessions_wait_at_the_same_time(store: Store) -> None:
    async with hosting([turns("slow", pause_s=0.2)], store) as host:
        sessions = [await create(host, "slow") for _ in range(500)]
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(run(host, each, 3) for each in sessions))
        assert asyncio.get_running_loop().time() - began < 100.0, "500 times 0.6 s one after the other would take 300 s"
        assert {(await host.get(each)).record.seq for each in sessions} == {2}


async def test_sessions_that_nobody_made_are_not_found(store: Store) -> None:
    async with hosting([counter()], store) as host:
        for attempt in (
            host.get("nobody"),
            host.step("nobody", {}),
            host.delete("nobody"),
            host.history.steps("nobody", after_seq=-1, limit=1),
            host.history.position("nobody"),
        ):
            with pytest.raises(SessionNotFound):
                await attempt


async def test_history_tells_each_step_and_the_state_after_it(store: Store) -> None:
    async with hosting([turns()], store) as host:
        session = await create(host, "turns")
        await run(host, session, 4)
        steps = await host.history.steps(session, after_seq=0, limit=2)
        assert [(step.seq, step.action, step.next_action) for step in steps] == [(1, "b", "c"), (2, "c", "a")]
        step, state = await host.history.step_with_state(session, 2)
        assert (step.action, state) == ("c", {"words": ["a", "b", "c"]})


async def test_steps_of_many_sessions_keep_apart(store: Store) -> None:
    async with hosting([counter()], store) as host:
        sessions = [await create(host) for _ in range(20)]
        await asyncio.gather(*(take_steps(host, each, number) for number, each in enumerate(sessions)))
        assert [(await host.get(each)).state["n"] for each in sessions] == list(range(20))


async def test_a_run_whose_step_waits_for_the_disk_is_not_stored_twice(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/busy.db")
    assert isinstance(store, SqlStore)
    async with hosting([counter()], store) as host:
        session = await create(host)
        with closing(sqlite3.connect(tmp_path / "busy.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = store.flushes
            started = await host.start(session, RunRequest(max_steps=1))
            await asyncio.sleep(0.1)  # several times as long as a run may have no row, if none is on its way
            other.execute("ROLLBACK")
        assert (await started.outcome()).seq == 0
        await host.step(session, {})
        assert store.flushes == before + 2, "one for each step: the first of them brought the start of its run"
