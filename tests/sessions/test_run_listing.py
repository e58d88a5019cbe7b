"""The runs of a session are listed in pages, each of them once, wherever it stands."""

import time

import pytest

from app.persistence.records import RunStart, RunStatus
from app.persistence.store import Store
from app.sessions.host import SessionHost
from app.sessions.requests import RunRequest
from tests.machines import Gate, counter, gated
from tests.sessions.hosting import all_events, create, hosting, take_steps, types_of


async def wait_in_store(host: SessionHost, session: str, *run_ids: str) -> None:
    """Runs that wait, and that nobody begins."""
    for number, run_id in enumerate(run_ids):
        await host.store.queue_run(session, RunStart(run_id, 0, time.time() + number, {}))


async def cancel(host: SessionHost, *run_ids: str) -> None:
    for run_id in run_ids:
        assert (await host.cancel_run(run_id)).status is RunStatus.CANCELLED


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_every_run_is_on_one_page_ended_or_under_way_or_waiting(store: Store, limit: int) -> None:
    gate = Gate()
    async with hosting([gated(gate)], store) as host:
        session = await create(host, "gated")
        first = await host.start(session, RunRequest(max_steps=1))
        await first.outcome()
        await wait_in_store(host, session, "never a", "never b", "never c", "waits a", "waits b", "waits c")
        await cancel(host, "never a", "never b")
        running = await host.start(session, RunRequest(max_steps=3))
        await gate.until_reached()
        await cancel(host, "never c")
        found: list[str] = []
        page = await host.history.list_runs(session, limit=limit)
        found += [run.id for run in page.runs]
        while page.next_cursor is not None:
            page = await host.history.list_runs(session, limit=limit, cursor=page.next_cursor)
            assert 0 < len(page.runs) <= limit
            found += [run.id for run in page.runs]
        assert found[:4] == [first.id, "never a", "never b", "never c"]
        assert sorted(found[4:]) == sorted([running.id, "waits a", "waits b", "waits c"])
        gate.open()


async def test_hundreds_of_runs_that_never_began_are_told_of_in_order(store: Store) -> None:
    async with hosting([counter()], store) as host:
        session = await create(host)
        never = [f"n{number}" for number in range(230)]
        await wait_in_store(host, session, *never)
        await take_steps(host, session, 2)
        await cancel(host, *never[:120])
        await take_steps(host, session, 1)
        await cancel(host, *never[120:])
        await take_steps(host, session, 1)
        seen = await all_events(host, session)
        ids = [event.id for event in seen]
        assert ids == sorted(set(ids))
        run = ["run.started", "step.started", "step.finished", "run.finished"]
        assert types_of(seen) == [*run * 2, *["run.cancelled"] * 120, *run, *["run.cancelled"] * 110, *run]
        rest = await all_events(host, session, after=ids[7])
        assert [event.id for event in rest] == ids[8:]
