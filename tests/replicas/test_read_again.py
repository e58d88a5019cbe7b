"""A replica was taken for dead and reads its sessions again, while runs of before are still coming to their end."""

import asyncio

import pytest

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.records import LoadedSession, RunRecord, RunStart, RunStatus
from app.persistence.replicas import ClaimedElsewhere
from app.persistence.store import ClaimLost
from app.routes.event_stream import EventStreams
from app.sessions.claims import ClaimSettings
from app.sessions.errors import SessionBusy
from app.sessions.events import Event, EventType
from app.sessions.host import SessionHost
from app.sessions.live import LiveSession
from app.sessions.requests import RunRequest
from app.sessions.stream import EventStream
from tests.machines import Gate, counter, gated
from tests.persistence.making import queried
from tests.sessions.hosting import all_events, create, drop, followed, hosting, leave_a_run, types_of

UNDISTURBED = ClaimSettings(beat_s=200.0, dead_after_s=200.0)  # nobody learns of what is done to the replicas but by a refusal


async def bury(url: str, host: SessionHost) -> None:
    """Take the replica for dead; it learns of that with its next beat, and is another one from then on."""
    await queried(url, f"DELETE FROM replicas WHERE id = '{host.store.replicas.id}' RETURNING 1")


def stubborn(cancelled: Gate, gate: Gate) -> Machine:
    """One action for ever, which waits at the gate; one that is cancelled there waits at the other gate before it goes."""

    @action(reads=[], writes=["n"])
    async def hold(state: State) -> State:
        try:
            await gate.wait()
        finally:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # it runs in one
                await cancelled.wait()
        return state.increment(n=1)

    return Machine(
        "stubborn",
        lambda: (
            ApplicationBuilder().with_actions(hold).with_transitions(("hold", "hold")).with_state(n=0).with_entrypoint("hold")
        ),
    )


async def test_the_end_of_a_run_of_before_does_not_free_the_session_that_was_read_again(
    postgres_store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.active_runs._TICK_S", 1000.0)  # or it would go on, if its start were stored by then
    cancelled, gate = Gate(), Gate()
    async with hosting([stubborn(cancelled, gate)], open_store(postgres_store_url, migrate=True)) as host:
        session = await create(host, "stubborn")
        lost = await host.start(session, RunRequest(max_steps=1))
        await gate.until_reached()
        await bury(postgres_store_url, host)
        await host.claims.beat()
        await cancelled.until_reached()
        gate.reached.clear()
        run = await host.start(session, RunRequest(max_steps=1))
        await gate.until_reached()
        cancelled.open()
        with pytest.raises(ClaimLost):
            await lost.outcome()
        with pytest.raises(SessionBusy):
            await host.start(session, RunRequest(max_steps=1))
        gate.open()
        assert (await run.outcome()).seq == 0
        assert [(each.status, each.steps) for each in await host.store.list_runs(session)] == [(RunStatus.FINISHED, 1)]


async def test_a_run_goes_on_while_what_it_was_before_is_still_on_its_way_out(postgres_store_url: str) -> None:
    cancelled, gate = Gate(), Gate()
    async with hosting([stubborn(cancelled, gate)], open_store(postgres_store_url, migrate=True)) as host:
        session = await create(host, "stubborn")
        queued = await host.queue(session, RunRequest(max_steps=2))
        await gate.until_reached()
        lost = host.runs.get(queued.id)
        assert lost is not None
        await lost.secure()
        await bury(postgres_store_url, host)
        await host.claims.beat()
        await cancelled.until_reached()
        gate.open()
        handle = await host.desk.handle(queued.id)
        assert handle is not lost
        assert (await handle.outcome()).steps == 2
        cancelled.open()
        await lost.ended()
        record = await host.history.get_run(queued.id)
        assert (record.status, record.steps, host.runs.get(queued.id)) == (RunStatus.FINISHED, 2, None)


async def test_followers_are_let_go_while_the_service_ends_if_a_run_would_have_to_go_on_for_them(postgres_store_url: str) -> None:
    async with hosting([counter()], open_store(postgres_store_url, migrate=True)) as host:
        session = await create(host)
        await leave_a_run(host.store, session, max_steps=1)
        drop(host, session)
        host.begin_drain()

        async def nowhere(*_: object) -> None:
            raise AssertionError("no other replica has it")

        followed = EventStreams(host, nowhere).response(session, after=0)
        assert len([part async for part in followed.body_iterator]) == 1, "the greeting, and no error"


async def test_followers_of_a_session_that_was_lost_are_told_of_no_end_and_go_elsewhere(
    postgres_store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.active_runs._TICK_S", 1000.0)  # or the run would go on at the other one
    here, there = Gate(), Gate()
    there.open()
    async with (
        hosting([gated(here)], open_store(postgres_store_url, migrate=True), claims=UNDISTURBED) as loser,
        hosting([gated(there)], open_store(postgres_store_url, migrate=True), claims=UNDISTURBED) as winner,
    ):
        session = await create(loser, "gated")
        await loser.step(session, {})
        lost = await loser.start(session, RunRequest(max_steps=1))
        await here.until_reached()
        seen: list[Event] = []

        async def follow() -> None:
            seen.extend([event async for event in loser.follow(session, after=0) if event is not None])

        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await bury(postgres_store_url, loser)
        await winner.step(session, {})
        run = loser.runs.get(lost.id)
        assert run is not None
        run.cancel("requested")
        with pytest.raises(ClaimLost):
            await lost.outcome()
        async with asyncio.timeout(30):
            await following
        assert types_of(seen)[-2:] == ["run.started", "step.started"]
        assert types_of(await all_events(winner, session, seen[-1].id))[-2:] == ["step.finished", "run.finished"]


async def test_a_session_that_was_lost_while_it_was_read_does_not_come_into_memory(postgres_store_url: str) -> None:
    gate = Gate()

    async def held(_: LiveSession) -> None:
        await gate.wait()

    async with (
        hosting([counter()], open_store(postgres_store_url, migrate=True), claims=UNDISTURBED) as loser,
        hosting([counter()], open_store(postgres_store_url, migrate=True), claims=UNDISTURBED) as winner,
    ):
        session = await create(loser)
        await leave_a_run(loser.store, session, max_steps=1)
        drop(loser, session)
        loser.registry._resume = held
        reading = asyncio.create_task(loser.registry.alive(session))
        await gate.until_reached()
        await bury(postgres_store_url, loser)
        async with followed(loser, session):
            await loser.claims.beat()
            await winner.own(session)
            gate.open()
            with pytest.raises(ClaimedElsewhere):
                await reading
            assert loser.residents.get(session) is None


async def test_a_claim_in_the_name_of_one_who_was_taken_for_dead_is_made_again(
    postgres_store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    async with (
        hosting([counter()], open_store(postgres_store_url, migrate=True), claims=UNDISTURBED) as loser,
        hosting([counter()], open_store(postgres_store_url, migrate=True), claims=UNDISTURBED) as winner,
    ):
        session = await create(loser)
        drop(loser, session)
        claim = loser.store.claim_session

        async def slow(session_id: str) -> LoadedSession:
            claimed = await claim(session_id)
            await gate.wait()
            return claimed

        monkeypatch.setattr(loser.store, "claim_session", slow)
        reading = asyncio.create_task(loser.registry.alive(session))
        await gate.until_reached()
        await bury(postgres_store_url, loser)
        await loser.claims.beat()
        await winner.own(session)
        gate.open()
        with pytest.raises(ClaimedElsewhere):
            await reading
        assert loser.residents.get(session) is None


async def test_who_comes_to_follow_while_the_session_is_lost_looks_for_it_elsewhere(
    postgres_store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.host._RECOVERY_INTERVAL_S", 1000.0)  # which would find that out in the end
    here, looking, asked = Gate(), Gate(), asyncio.Event()
    async with (
        hosting([gated(here)], open_store(postgres_store_url, migrate=True), claims=UNDISTURBED) as loser,
        hosting([gated(here)], open_store(postgres_store_url, migrate=True), claims=UNDISTURBED) as winner,
    ):
        session = await create(loser, "gated")
        run = await loser.start(session, RunRequest(max_steps=2))
        await here.until_reached()
        get_run = loser.history.get_run

        async def slow(run_id: str) -> RunRecord:
            found = await get_run(run_id)
            await looking.wait()
            return found

        async def elsewhere(*_: object) -> None:
            asked.set()

        monkeypatch.setattr(loser.history, "get_run", slow)
        streamed = EventStreams(loser, elsewhere).response(session, after=0, run_id=run.id).body_iterator

        async def follow() -> None:
            async for _ in streamed:
                pass

        following = asyncio.create_task(follow())
        async with asyncio.timeout(60):
            while not loser.residents.followers:  # noqa: ASYNC110  # a follower gives no sign
                await asyncio.sleep(0.002)
            next(iter(loser.residents)).stream.close()  # as at each end that is not that of the run: it looks again
            await looking.until_reached()
            await bury(postgres_store_url, loser)
            await loser.claims.beat()
            assert (await winner.get(session)).record.seq == 0
            assert (await winner.own(session)).seq == 0
            looking.open()
            await asked.wait()
        following.cancel()
        await asyncio.wait([following])


def test_what_another_replica_did_is_looked_up_in_the_store() -> None:
    stream = EventStream(10, 8)
    stream.emit(EventType.RUN_STARTED, "run", RunStart("run", 11, 0.0, {}))
    here = stream.last_id
    stream.catch_up(here)
    assert (stream.floor, stream.last_id) == (10, here)
    stream.catch_up(here + 5)
    assert (stream.floor, stream.last_id) == (here + 5, here + 5)
