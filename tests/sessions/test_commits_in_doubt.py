"""The connection to the database breaks in the middle of a commit: whether it was carried out is seen when it is back."""

import asyncio
import time
from contextlib import aclosing

import pytest

from app.persistence.memory import MemoryStore
from app.persistence.records import Commit, Key, RunStatus, SessionStatus, StepKind
from app.persistence.store import StoreUnavailable
from app.sessions.errors import RunUnsettled
from app.sessions.events import Event, EventType, StepDone
from app.sessions.host import SessionHost
from app.sessions.requests import Durability, OnBusy, RunRequest, SessionEdit
from tests.machines import Gate, counter, gated
from tests.sessions.hosting import LAST, create, hosting, types_of


class Doubtful(MemoryStore):
    """A store whose answer to the commit `fails_at` is lost; `carries_out` says whether it had carried it out."""

    def __init__(self, *, carries_out: bool) -> None:
        super().__init__()
        self.carries_out = carries_out
        self.fails_at: int | None = None
        self.is_away = False
        self.commits = 0

    async def commit(self, commit: Commit) -> None:
        self.commits += 1
        if self.commits == self.fails_at:
            if self.carries_out:
                await super().commit(commit)
            self.is_away = True
            raise StoreUnavailable("the connection was lost", in_doubt=True)
        if self.is_away:
            raise StoreUnavailable("the database is away")
        await super().commit(commit)

    async def claim_session(self, session_id: str):  # type: ignore[no-untyped-def]  # as the one it overrides
        if self.is_away:
            raise StoreUnavailable("the database is away")
        return await super().claim_session(session_id)


@pytest.fixture(params=[True, False], ids=["carried out", "not carried out"])
def doubtful(request: pytest.FixtureRequest) -> Doubtful:
    return Doubtful(carries_out=request.param)


async def followed(host: SessionHost, session: str, told: list[Event], after: int = 0) -> None:
    async with aclosing(host.follow(session, after=after)) as events:
        async for event in events:
            if event is not None:
                told.append(event)
                if event.type in LAST:
                    return


def finished_in(told: list[Event]) -> list[int]:
    return [event.body.seq for event in told if isinstance(event.body, StepDone)]


@pytest.mark.parametrize("durability", list(Durability))
async def test_followers_see_what_was_stored_before_they_see_the_end(doubtful: Doubtful, durability: Durability) -> None:
    async with hosting([counter()], doubtful) as host:
        session = await create(host)
        await host.step(session, {})
        after = await host.history.position(session)
        told: list[Event] = []
        doubtful.fails_at = doubtful.commits + 2
        run = await host.start(session, RunRequest(max_steps=3, durability=durability))
        following = asyncio.create_task(followed(host, session, told, after))
        with pytest.raises(StoreUnavailable):
            await run.outcome()
        doubtful.is_away = False
        async with asyncio.timeout(60):
            await following
        log = await host.history.steps(session, after_seq=-1, limit=100)
        assert [event.id for event in told] == sorted({event.id for event in told})
        if durability is not Durability.EXIT:  # which shows steps before they are stored: that is what was asked for
            assert finished_in(told) == [step.seq for step in log][1:]
        record = await host.history.get_run(run.id)
        assert record.finished_at_s is not None
        assert record.steps == len(log) - 1
        assert (await host.step(session, {})).seq == len(log)


async def test_a_run_goes_on_when_the_end_of_another_one_in_its_session_is_in_doubt(doubtful: Doubtful) -> None:
    gate = Gate()
    async with hosting([gated(gate)], doubtful) as host:
        session = await create(host, "gated")
        run = await host.start(session, RunRequest(max_steps=3))
        await gate.until_reached()
        waiting = await host.queue(session, RunRequest(max_steps=1, on_busy=OnBusy.ENQUEUE))
        told: list[Event] = []
        following = asyncio.create_task(followed_run(host, session, waiting.id, told))
        doubtful.fails_at = doubtful.commits + 1
        with pytest.raises(StoreUnavailable):
            await host.cancel_run(waiting.id)
        doubtful.is_away = False
        gate.open()
        async with asyncio.timeout(60):
            assert (await run.outcome()).steps == 3
            await following
        record = await host.history.get_run(waiting.id)
        status, kind = (RunStatus.CANCELLED, "run.cancelled") if doubtful.carries_out else (RunStatus.FINISHED, "run.finished")
        assert (record.status, types_of(told)[-1]) == (status, kind)


async def followed_run(host: SessionHost, session: str, run_id: str, told: list[Event]) -> None:
    async with aclosing(host.follow(session, after=0, run_id=run_id)) as events:
        async for event in events:
            if event is not None:
                told.append(event)  # noqa: PERF401  # each is wanted as it comes


async def test_who_follows_a_run_that_came_to_nothing_is_let_go_to_ask_for_it_again() -> None:
    store = Doubtful(carries_out=False)
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        await host.step(session, {})
        key = Key(b"digest", b"request", time.time())
        run = await host.start(session, RunRequest(max_steps=1), key=key)
        await gate.until_reached()
        told: list[Event] = []
        following = asyncio.create_task(followed_run(host, session, run.id, told))
        store.is_away = True
        gate.open()
        with pytest.raises(StoreUnavailable):
            await run.outcome()
        store.is_away = False
        async with asyncio.timeout(60):
            await following
        assert types_of(told) == ["run.started", "step.started"]
        again = await host.start(session, RunRequest(max_steps=1), key=key)
        assert (await again.outcome()).steps == 1


class Twofold(MemoryStore):
    """A store that gets one commit twice: what is told of it is the conflict."""

    fails_at: int | None = None
    commits = 0

    async def commit(self, commit: Commit) -> None:
        self.commits += 1
        await super().commit(commit)
        if self.commits == self.fails_at:
            await super().commit(commit)


@pytest.mark.parametrize("durability", [Durability.SYNC, Durability.ASYNC])
async def test_a_run_whose_step_was_stored_and_refused_counts_it_and_goes_on(durability: Durability) -> None:
    store = Twofold()
    async with hosting([counter()], store) as host:
        session = await create(host)
        told: list[Event] = []
        store.fails_at = 2
        run = await host.start(session, RunRequest(max_steps=4, durability=durability))
        with pytest.raises(RunUnsettled):
            await run.outcome()
        async with asyncio.timeout(60):
            await followed(host, session, told)
        record = await host.history.get_run(run.id)
        log = await host.history.steps(session, after_seq=-1, limit=100)
        assert (record.status, record.steps, len(log), finished_in(told)) == (RunStatus.FINISHED, 4, 4, [0, 1, 2, 3])
        assert (await host.step(session, {})).seq == 4


async def test_a_run_that_the_store_has_never_heard_of_ends_for_its_followers(doubtful: Doubtful) -> None:
    async with hosting([counter()], doubtful) as host:
        session = await create(host)
        told: list[Event] = []
        doubtful.fails_at = doubtful.commits + 1
        following = asyncio.create_task(followed(host, session, told))
        while not host.residents.is_followed(session):  # noqa: ASYNC110  # the table gives no sign
            await asyncio.sleep(0)
        run = await host.start(session, RunRequest(max_steps=1))
        with pytest.raises(StoreUnavailable):
            await run.outcome()
        doubtful.is_away = False
        async with asyncio.timeout(60):
            await following
        if doubtful.carries_out:
            assert types_of(told) == ["run.started", "step.started", "step.finished", "run.finished"]
        else:
            assert types_of(told) == ["run.started", "step.started", "run.failed"]


async def test_an_edit_in_doubt_is_seen_by_followers_if_it_was_stored(doubtful: Doubtful) -> None:
    async with hosting([counter()], doubtful) as host:
        session = await create(host)
        await host.step(session, {})
        told: list[Event] = []
        doubtful.fails_at = doubtful.commits + 1

        async def follow_all() -> None:
            async with aclosing(host.follow(session, after=0)) as events:
                async for event in events:
                    if event is not None:
                        told.append(event)  # noqa: PERF401  # each is wanted as it comes

        following = asyncio.create_task(follow_all())
        with pytest.raises(StoreUnavailable):
            await host.edit(session, SessionEdit({"n": 40}))
        doubtful.is_away = False
        outcome = await host.step(session, {})
        async with asyncio.timeout(60):
            while finished_in(told)[-1:] != [outcome.seq]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait([following])
        kinds = [event.body.kind for event in told if isinstance(event.body, StepDone)]
        edits = [StepKind.EDIT] if doubtful.carries_out else []
        assert kinds == [StepKind.ACTION, *edits, StepKind.ACTION]
        assert finished_in(told) == list(range(len(kinds)))
        assert outcome.state["n"] == (41 if doubtful.carries_out else 2)


async def test_a_run_that_was_to_be_taken_back_is_taken_back_when_the_database_is_there_again(doubtful: Doubtful) -> None:
    gate = Gate()
    async with hosting([gated(gate)], doubtful) as host:
        session = await create(host, "gated")
        first = await host.start(session, RunRequest())
        await gate.until_reached()
        doubtful.fails_at = doubtful.commits + 1
        second = asyncio.create_task(host.start(session, RunRequest(max_steps=1, on_busy=OnBusy.ROLLBACK)))
        with pytest.raises(StoreUnavailable):
            await first.outcome()
        doubtful.is_away = False
        await asyncio.wait([second])
        async with asyncio.timeout(60):
            while (record := await host.history.get_run(first.id)).finished_at_s is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (record.status, record.reason) == (RunStatus.CANCELLED, "rolled_back")
        kinds = [step.kind for step in await host.history.steps(session, after_seq=-1, limit=10)]
        assert kinds[:2] == [StepKind.ACTION, StepKind.ROLLBACK]
        assert EventType.RUN_CANCELLED in [event.type for event in await events_now(host, session)]


async def events_now(host: SessionHost, session: str) -> list[Event]:
    told: list[Event] = []
    await asyncio.wait_for(followed(host, session, told), 60)
    return told


class Deaf(MemoryStore):
    """A store that can be read, and cannot be written to while `is_deaf`."""

    is_deaf = False

    async def commit(self, commit: Commit) -> None:
        if self.is_deaf:
            raise StoreUnavailable("the database takes nothing")
        await super().commit(commit)


async def test_an_end_that_could_not_be_stored_twice_is_stored_when_the_database_is_there_again() -> None:
    gate, store = Gate(), Deaf()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        run = await host.start(session, RunRequest())
        await gate.until_reached()  # its first step is stored
        store.is_deaf = True
        cancelled = asyncio.create_task(host.cancel_run(run.id))
        with pytest.raises(StoreUnavailable):
            await run.outcome()
        with pytest.raises(StoreUnavailable):
            await host.get(session)
        store.is_deaf = False
        assert (await host.get(session)).record.status is SessionStatus.IDLE
        await asyncio.wait([cancelled])
        record = await host.history.get_run(run.id)
        assert (record.status, record.reason, record.steps) == (RunStatus.CANCELLED, "requested", 1)
