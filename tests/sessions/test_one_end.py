"""A run has one end with one id: it is told when it is stored, and what is in doubt is read again first."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from app.persistence.factory import open_store
from app.persistence.records import Commit, RunEnd, RunRecord, RunStatus, SessionStatus
from app.persistence.store import StoreUnavailable
from app.sessions.errors import RunUnsettled
from app.sessions.events import Event, StepDone
from app.sessions.host import SessionHost
from app.sessions.requests import Durability, OnBusy, RunRequest
from tests.machines import Gate, failing, gated
from tests.sessions.hosting import LAST, create, followed, hosting, leave_a_run, types_of
from tests.sessions.unreliable import Unreliable

LIMIT_S = 60.0


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Unreliable:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/sessions.db"}
    url = urls.get(request.param) or str(request.getfixturevalue("postgres_store_url"))
    return Unreliable(open_store(url, migrate=True))


async def ended(host: SessionHost, run_id: str) -> RunRecord:
    async with asyncio.timeout(LIMIT_S):
        while (record := await host.history.get_run(run_id)).finished_at_s is None:  # noqa: ASYNC110  # a row gives no sign
            await asyncio.sleep(0.01)
    return record


async def require_seen(seen: list[Event], *types: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while len(seen) < len(types):  # noqa: ASYNC110  # a list gives no sign
            await asyncio.sleep(0.01)
    assert types_of(seen) == list(types)


def require_one_end(seen: list[Event], record: RunRecord) -> None:
    """What was told of the run is what is stored of it, and nothing was told after its end."""
    of_run = [event for event in seen if event.run_id == record.id]
    ids = [event.id for event in seen]
    assert ids == sorted(set(ids))
    ends = [event for event in of_run if event.type in LAST]
    assert [event.id for event in ends] == [record.finished_event_id]
    assert of_run[-1] is ends[0]
    end = ends[0].body
    assert isinstance(end, RunEnd)
    assert (end.status, end.steps, end.reason) == (record.status, record.steps, record.reason)


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("in_doubt", [False, True], ids=["refused", "in doubt"])
async def test_a_run_without_a_key_goes_on_after_an_outage_if_it_has_taken_steps(
    away: Unreliable, in_doubt: bool, durability: Durability
) -> None:
    gate = Gate()
    async with hosting([gated(gate)], away.port) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            run = await host.start(session, RunRequest(max_steps=3, durability=durability))
            await gate.until_reached()
            started = host.runs.get(run.id)
            assert started is not None
            await started.secure()
            away.go_away_at_next_commit(in_doubt=in_doubt)
            gate.open()
            with pytest.raises(RunUnsettled) as told:
                await run.outcome()
            assert told.value.run_id == run.id
            assert not [event for event in seen if event.type in LAST]
            away.is_away = False
            record = await ended(host, run.id)
        assert (record.status, record.reason, record.steps) == (RunStatus.FINISHED, "max_steps", 3)
        require_one_end(seen, record)
        if durability is not Durability.EXIT:  # which shows steps that an outage takes back
            assert [event.body.seq for event in seen if isinstance(event.body, StepDone)] == [0, 1, 2]


@pytest.mark.parametrize("in_doubt", [False, True], ids=["refused", "in doubt"])
@pytest.mark.parametrize("carries_out", [False, True], ids=["lost", "carried out"])
async def test_the_end_of_a_failed_run_is_told_once_and_when_it_is_stored(
    away: Unreliable, in_doubt: bool, carries_out: bool
) -> None:
    async with hosting([failing()], away.port) as host:
        session = await create(host, "failing")
        async with followed(host, session) as seen:
            away.fails_at, away.in_doubt, away.carries_out = 2, in_doubt, carries_out and in_doubt
            run = await host.start(session, RunRequest())
            with pytest.raises(RunUnsettled):
                await run.outcome()
            assert not [event for event in seen if event.type in LAST]
            away.is_away = False
            record = await ended(host, run.id)
        assert (record.status, record.steps) == (RunStatus.FAILED, 1)
        assert record.error is not None
        assert record.error["type"] == "step-failed"
        require_one_end(seen, record)


@pytest.mark.parametrize("rolls_back", [False, True], ids=["interrupt", "rollback"])
async def test_the_end_of_a_run_that_was_pushed_aside_is_told_once_and_when_it_is_stored(
    away: Unreliable, rolls_back: bool
) -> None:
    gate = Gate()
    async with hosting([gated(gate)], away.port) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            run = await host.start(session, RunRequest())
            await gate.until_reached()  # its first step is stored
            away.is_away = True
            on_busy = OnBusy.ROLLBACK if rolls_back else OnBusy.INTERRUPT
            pushing = asyncio.create_task(host.start(session, RunRequest(max_steps=1, on_busy=on_busy)))
            with pytest.raises(RunUnsettled):
                await run.outcome()
            with pytest.raises(StoreUnavailable):
                await pushing
            assert not [event for event in seen if event.type in LAST]
            away.is_away = False
            record = await ended(host, run.id)
        reason = "rolled_back" if rolls_back else "interrupted"
        assert (record.status, record.reason, record.steps) == (RunStatus.CANCELLED, reason, 1)
        require_one_end(seen, record)


async def test_a_cancel_that_could_not_be_stored_is_not_answered_as_done_and_is_carried_out_later(away: Unreliable) -> None:
    gate = Gate()
    async with hosting([gated(gate)], away.port) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            run = await host.start(session, RunRequest())
            await gate.until_reached()
            away.is_away = True
            with pytest.raises(RunUnsettled):
                await host.cancel_run(run.id)
            away.is_away = False
            record = await ended(host, run.id)
        assert (record.status, record.reason) == (RunStatus.CANCELLED, "requested")
        require_one_end(seen, record)


async def test_a_run_that_waits_is_told_to_be_cancelled_when_that_is_stored(away: Unreliable) -> None:
    gate = Gate()
    async with hosting([gated(gate)], away.port) as host:
        session = await create(host, "gated")
        run = await host.start(session, RunRequest(max_steps=2))
        await gate.until_reached()
        queued = await host.queue(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE))
        async with asyncio.timeout(LIMIT_S):
            while host.desk.turns.get(queued.id) is None:  # noqa: ASYNC110  # the queue gives no sign
                await asyncio.sleep(0.01)
        waiting = asyncio.create_task(host.desk.handle(queued.id))
        await asyncio.sleep(0)
        away.go_away_at_next_commit(in_doubt=True, carries_out=False)
        with pytest.raises(StoreUnavailable):
            await host.cancel_run(queued.id)
        with pytest.raises(StoreUnavailable):
            await waiting
        away.is_away = False
        gate.open()
        record = await ended(host, queued.id)
        assert (record.status, record.steps) == (RunStatus.FINISHED, 1)
        assert (await ended(host, run.id)).status is RunStatus.FINISHED


async def test_a_run_of_which_nothing_is_stored_is_told_to_have_failed_when_that_is_sure(away: Unreliable) -> None:
    async with hosting([gated(Gate())], away.port) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            away.go_away_at_next_commit(in_doubt=True)
            run = await host.start(session, RunRequest(max_steps=1))
            with pytest.raises(RunUnsettled):
                await run.outcome()
            await require_seen(seen, "run.started", "step.started")
            away.is_away = False
            await require_seen(seen, "run.started", "step.started", "run.failed")
            assert (await host.step(session, {})).seq == 0


async def test_a_run_of_which_nothing_is_stored_is_told_to_have_failed_once_however_many_look_for_it(away: Unreliable) -> None:
    async with hosting([gated(Gate())], away.port) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            away.go_away_at_next_commit(in_doubt=True)
            run = await host.start(session, RunRequest(max_steps=1))
            with pytest.raises(RunUnsettled):
                await run.outcome()
            await require_seen(seen, "run.started", "step.started")
            away.is_away = False
            await asyncio.gather(*(host.get(session) for _ in range(5)))
            await host.step(session, {})
        step = ("run.started", "step.started", "step.finished", "run.finished")
        assert types_of(seen) == ["run.started", "step.started", "run.failed", *step]


@pytest.mark.parametrize("refused", [("begin_attempt",), ()], ids=["every write", "every step"])
async def test_a_run_is_not_given_up_because_the_store_has_refused_its_step_again_and_again(
    away: Unreliable, refused: tuple[str, ...]
) -> None:
    gate = Gate()
    away.refused = refused
    async with hosting([gated(gate)], away.port) as host:
        session = await create(host, "gated")
        run = await host.start(session, RunRequest(max_steps=2))
        await gate.until_reached()
        away.takes_nothing = True
        gate.open()
        with pytest.raises(RunUnsettled):
            await run.outcome()
        for _ in range(5):
            with contextlib.suppress(StoreUnavailable):
                await host.get(session)  # it is read again, and the run goes on if it can
            if (again := host.runs.get(run.id)) is not None:
                await again.ended()
        away.takes_nothing = False
        record = await ended(host, run.id)
        assert (record.status, record.steps) == (RunStatus.FINISHED, 2)


async def test_a_run_that_nobody_has_taken_up_is_not_taken_up_while_it_is_cancelled(
    away: Unreliable, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, asked, goes_on = Gate(), asyncio.Event(), asyncio.Event()
    async with hosting([gated(gate)], away.port) as host:
        session = await create(host, "gated")
        for run_id in ("first", "second"):  # as an older version could leave them: the second one waits for the first
            await leave_a_run(host.store, session, run_id, age_s=2 - len(run_id) / 10, max_steps=2)
        async with followed(host, session) as seen:
            await host.get(session)
            await gate.until_reached()
            assert host.runs.get("second") is None
            progress_of_run = host.store.progress_of_run

            async def know_progress_later(run: RunRecord) -> tuple[int, int | None]:
                progress = await progress_of_run(run)
                if asyncio.current_task() is cancelling and not asked.is_set():
                    asked.set()
                    await goes_on.wait()
                return progress

            monkeypatch.setattr(away, "progress_of_run", know_progress_later, raising=False)
            cancelling = asyncio.create_task(host.cancel_run("second"))
            await asked.wait()
            gate.open()
            await ended(host, "first")
            reading = asyncio.create_task(host.get(session))  # it is read again, and what is left of it goes on
            await asyncio.wait([reading], timeout=0.5)
            goes_on.set()
            cancelled = await cancelling
            await reading
        record = await ended(host, "second")
        assert (record.status, record.steps, record.finished_event_id) == (cancelled.status, 0, cancelled.finished_event_id)
        assert record.status is RunStatus.CANCELLED
        require_one_end(seen, record)


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["with its last step", "without a step"])
async def test_a_run_that_somebody_else_has_ended_tells_the_end_that_stands(away: Unreliable, is_cancelled: bool) -> None:
    gate = Gate()
    async with hosting([gated(gate)], away.port) as host:
        session = await create(host, "gated")
        async with followed(host, session) as seen:
            run = await host.start(session, RunRequest(max_steps=2))
            await gate.until_reached()
            live = host.residents.get(session)
            assert live is not None
            end = RunEnd(run.id, RunStatus.CANCELLED, live.stream.last_id + 1, time.time(), 1, "requested")
            await host.store.commit(Commit(session, SessionStatus.IDLE, end.event_id, run_end=end, run_id=run.id))
            if not is_cancelled:
                gate.open()
            with pytest.raises(RunUnsettled):
                await (host.cancel_run(run.id) if is_cancelled else run.outcome())
            gate.open()
            await host.step(session, {})
        record = await ended(host, run.id)
        assert (record.finished_event_id, record.steps) == (end.event_id, 1)
        require_one_end(seen, record)
