"""Sessions in memory and out of it: they leave when they are idle and come back as they were; crashes and ends of the service."""

import asyncio
from contextlib import aclosing

import pytest

from app.persistence.factory import open_store
from app.persistence.records import Key, RunStatus, SessionFilter, SessionStatus
from app.persistence.store import SessionExists, StepNotFound, Store
from app.sessions.errors import IdInvalid, MachineNotHosted, MachineUnknown, RunCancelled, RunHandedOver, ShuttingDown
from app.sessions.events import Event
from app.sessions.requests import ForkRequest, NewSessionRequest, RunRequest, SessionEdit
from tests.machines import Gate, counter, gated, greeter, turns
from tests.persistence.making import queried
from tests.sessions.hosting import all_events, create, events_until, hosting, run, take_steps, types_of


async def test_too_many_idle_sessions_leave_and_come_back_as_they_were(store: Store) -> None:
    async with hosting([turns()], store, max_live_sessions=10) as host:
        sessions = [await create(host, "turns") for _ in range(50)]
        for _ in range(3):
            for session in sessions:
                await host.step(session, {})
                assert len(host.residents) <= 10
        for session in sessions:
            assert (await host.get(session)).state == {"words": ["a", "b", "c"]}


async def test_idle_sessions_leave_after_their_time_but_busy_ones_stay(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate), counter()], store, idle_ttl_s=0.01) as host:
        idle, busy = await create(host), await create(host, "gated")
        started = await host.start(busy, RunRequest(max_steps=2))
        await gate.until_reached()
        async with asyncio.timeout(60):
            while host.residents.get(idle) is not None:  # noqa: ASYNC110  # the caretaker gives no sign
                await asyncio.sleep(0.01)
        assert host.residents.get(busy) is not None
        gate.open()
        assert (await started.outcome()).steps == 2
        assert (await host.step(idle, {})).seq == 0


async def test_one_who_follows_a_session_hears_of_it_after_it_left_and_came_back(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)
        async with aclosing(host.follow(session, after=0)) as events:
            await host.step(session, {})
            seen: list[Event | None] = [await anext(events)]
            live = host.residents.get(session)
            assert live is not None
            host.residents.remove(live)
            await host.step(session, {})
            seen += [await anext(events) for _ in range(7)]
        assert types_of(event for event in seen if event) == ["run.started", "step.started", "step.finished", "run.finished"] * 2


async def test_many_who_ask_for_a_cold_session_get_the_same_one(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)
        for live in host.residents:
            host.residents.remove(live)
        results = await asyncio.gather(*(host.step(session, {}) for _ in range(10)), return_exceptions=True)
        assert sum(not isinstance(result, Exception) for result in results) == 1, "one runs, the others find it busy"
        assert (await host.get(session)).record.seq == 0


async def test_a_fork_begins_where_its_parent_stood_and_goes_its_own_way(store: Store) -> None:
    async with hosting([turns()], store) as host:
        parent = await create(host, "turns")
        await run(host, parent, 5)
        for seq in range(5):
            child = (await host.fork(parent, ForkRequest(seq))).record
            assert (child.seq, child.parent_session_id, child.parent_seq) == (seq, parent, seq)
            await host.step(child.id, {})
            assert (await host.get(child.id)).state == {"words": list("abcabcabc"[: seq + 2])}
        assert (await host.get(parent)).record.seq == 4
        with pytest.raises(StepNotFound):
            await host.fork(parent, ForkRequest(5))


async def test_a_fork_of_a_fork_can_begin_where_the_first_one_did(store: Store) -> None:
    async with hosting([turns()], store) as host:
        parent = await create(host, "turns")
        await run(host, parent, 3)
        child = (await host.fork(parent, ForkRequest(1))).record.id
        await run(host, child, 2)
        grandchild = (await host.fork(child, ForkRequest(1, id="grandchild"))).record
        assert (grandchild.id, grandchild.seq, grandchild.prior_action, grandchild.next_action) == ("grandchild", 1, "b", "c")


async def test_a_fork_without_a_step_begins_where_the_parent_stands(store: Store) -> None:
    async with hosting([turns()], store) as host:
        fresh = await create(host, "turns")
        child = (await host.fork(fresh, ForkRequest())).record
        assert (child.seq, child.next_action) == (-1, "a")
        await take_steps(host, fresh, 1)
        await host.edit(fresh, SessionEdit({"words": ["x"]}))
        after_edit = await host.fork(fresh, ForkRequest())
        assert (after_edit.record.seq, after_edit.record.next_action, after_edit.state) == (1, "b", {"words": ["x"]})
        assert (await host.fork(fresh, ForkRequest(1))).record.prior_action == "a"


async def test_creating_says_what_is_wrong(store: Store) -> None:
    async with hosting([counter()], store) as host:
        await create(host, session_id="taken")
        with pytest.raises(SessionExists):
            await create(host, session_id="taken")
        with pytest.raises(IdInvalid):
            await create(host, session_id="not an id")
        with pytest.raises(MachineUnknown):
            await create(host, "nope")


async def test_a_session_is_created_with_its_own_state_over_the_machines(store: Store) -> None:
    async with hosting([counter()], store) as host:
        request = NewSessionRequest("counter", None, {"n": 5, "note": "mine"}, "ann", {"purpose": "test"})
        loaded = await host.create(request)
        assert (loaded.state, loaded.record.partition_key, loaded.record.metadata) == (
            {"n": 5, "note": "mine"},
            "ann",
            {"purpose": "test"},
        )
        assert (await host.step(loaded.record.id, {})).state["n"] == 6


async def test_lists_show_what_runs_as_running(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        idle, busy = await create(host, "gated"), await create(host, "gated")
        await host.start(busy, RunRequest())
        await gate.until_reached()
        everything = await host.list_sessions(SessionFilter(), 10, None)
        assert {each.id: each.status for each in everything.sessions} == {idle: SessionStatus.IDLE, busy: SessionStatus.RUNNING}
        for status, expected in ((SessionStatus.RUNNING, [busy]), (SessionStatus.IDLE, [idle]), (SessionStatus.ENDED, [])):
            page = await host.list_sessions(SessionFilter(status=status), 10, None)
            assert [each.id for each in page.sessions] == expected


async def test_the_list_of_what_runs_has_pages(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        sessions = [await create(host, "gated") for _ in range(5)]
        for session in sessions:
            await (await host.start(session, RunRequest())).begun()
        seen: list[str] = []
        cursor = None
        while True:
            page = await host.list_sessions(SessionFilter(status=SessionStatus.RUNNING), 2, cursor)
            seen += [each.id for each in page.sessions]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == sessions[::-1]


async def test_a_service_that_ends_lets_steps_commit_and_leaves_the_run_open(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store, shutdown_grace_s=5.0) as host:
        session = await create(host, "gated")
        following = asyncio.create_task(events_until(host, session))
        started = await host.start(session, RunRequest())
        await gate.until_reached()
        host.begin_drain()
        with pytest.raises(ShuttingDown):
            await host.step(session, {})
        with pytest.raises(ShuttingDown):
            await create(host, "gated")
        gate.open()
        with pytest.raises(RunHandedOver):
            await started.outcome()
        events = await following
        assert types_of(events)[-1] == "step.finished"
        assert (await store.get_run(started.id)).status is RunStatus.RUNNING
        assert (await store.get_session(session)).seq == 1


async def test_nothing_begins_any_more_on_a_session_that_was_being_read_when_the_service_ended(database_url: str) -> None:
    """A run that the next start goes on with may have been left there: what another one does would be taken for its own."""
    async with hosting([counter()], open_store(database_url)) as host:
        session = await create(host)
    for key in (None, Key(b"digest", b"request", 0.0)):
        async with hosting([counter()], open_store(database_url)) as host:
            asked = asyncio.create_task(host.start(session, RunRequest(max_steps=1), key=key))
            await asyncio.sleep(0)  # it is accepted, and the session is being read
            host.begin_drain()
            with pytest.raises(ShuttingDown):
                await asked
        async with hosting([counter()], open_store(database_url)) as host:
            assert (await host.get(session)).record.seq == -1


async def test_a_run_that_does_not_end_within_the_grace_is_left_open(store: Store) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store, shutdown_grace_s=0.05) as host:
        session = await create(host, "gated")
        following = asyncio.create_task(events_until(host, session))
        started = await host.start(session, RunRequest())
        await gate.until_reached()
        await host.drain()
        assert types_of(await following)[-1] == "step.started"
        assert (await store.get_run(started.id)).status is RunStatus.RUNNING


async def test_followers_of_an_idle_session_are_let_go_at_the_end(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)

        async def follow() -> list[Event | None]:
            async with aclosing(host.follow(session, after=0)) as events:
                return [event async for event in events]

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.01)
        await host.drain()
        assert await following == []


async def test_a_run_that_takes_its_time_is_in_the_store_before_its_first_step(store: Store) -> None:
    gate = Gate()
    machine = gated(gate)
    async with hosting([machine], store) as host:
        session = await create(host, "gated")
        await take_steps(host, session, 1)
        started = await host.start(session, RunRequest(max_steps=1))
        async with asyncio.timeout(60):
            while not await store.unfinished_runs():  # noqa: ASYNC110  # the caretaker gives no sign
                await asyncio.sleep(0.01)
        gate.open()
        await started.outcome()
        assert await store.unfinished_runs() == []
        assert types_of(await all_events(host, session))[4:] == ["run.started", "step.started", "step.finished", "run.finished"]


async def test_runs_that_have_finished_keep_no_row_whether_their_start_was_stored_or_not(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.active_runs._TICK_S", 0.0)  # starts are stored while last steps are
    async with hosting([turns(pause_s=0.001), counter()], open_store(database_url)) as host:
        sessions = [await create(host, machine) for machine in ("turns", "counter") for _ in range(20)]
        for steps in (1, 2, 1):
            await asyncio.gather(*(run(host, session, steps) for session in sessions))
        queued = [await host.queue(session, RunRequest(max_steps=1)) for session in sessions]
        async with asyncio.timeout(60):
            while any([(await host.history.get_run(each.id)).finished_at_s is None for each in queued]):  # noqa: ASYNC110  # a run of the past gives no sign
                await asyncio.sleep(0.01)
        assert {(await host.get(session)).record.seq for session in sessions} == {4}
        assert await queried(database_url, "SELECT count(*) FROM runs") == 0


async def test_sessions_of_a_machine_that_is_not_hosted_can_be_seen_but_not_moved(database_url: str) -> None:
    async with hosting([counter(), greeter()], open_store(database_url)) as host:
        session = await create(host)
    async with hosting([greeter()], open_store(database_url)) as host:
        assert (await host.get(session)).state == {"n": 0}
        with pytest.raises(MachineNotHosted):
            await host.step(session, {})
        with pytest.raises(MachineNotHosted):
            await host.fork(session, ForkRequest())


async def test_sessions_survive_the_service(database_url: str) -> None:
    async with hosting([turns()], open_store(database_url)) as host:
        session = await create(host, "turns")
        await run(host, session, 2)
        before = await all_events(host, session)
    async with hosting([turns()], open_store(database_url)) as host:
        assert (await host.get(session)).state == {"words": ["a", "b"]}
        assert [(e.id, e.type) for e in await all_events(host, session)] == [(e.id, e.type) for e in before]
        assert (await host.step(session, {})).action == "c"


async def test_a_run_cancelled_by_the_end_of_its_session_says_so(store: Store) -> None:
    async with hosting([gated(Gate())], store) as host:
        session = await create(host, "gated")
        started = await host.start(session, RunRequest())
        await started.begun()
        await host.delete(session)
        with pytest.raises(RunCancelled) as caught:
            await started.outcome()
        assert caught.value.reason == "deleted"
