"""A replica that may have been taken for dead tells of nothing that another one does not know: ids are given out by the clock.

Whoever saw an item from it, and goes on elsewhere behind that, would pass over what was done there meanwhile.
"""

import asyncio
import math

from app.persistence.store import Store
from app.sessions.events import ItemGiven
from app.sessions.host import SessionHost
from app.sessions.requests import RunRequest
from tests.machines import Gate, streamer, turns
from tests.sessions.hosting import all_events, create, followed, hosting, types_of


def be_late(host: SessionHost) -> None:
    host.store.replicas.heard_s = -math.inf  # type: ignore[misc]  # of a store for one process alone
    assert host.claims.is_late


def be_heard(host: SessionHost) -> None:
    host.store.replicas.heard_s = math.inf  # type: ignore[misc]  # as above
    assert not host.claims.is_late


async def test_items_are_not_told_of_but_the_step_is_when_it_is_stored(store: Store) -> None:
    gate = Gate()
    async with hosting([streamer(4, gate)], store) as host:
        session = await create(host, "streamer")
        async with followed(host, session) as live:
            run = await host.start(session, RunRequest(max_steps=1))
            await gate.until_reached()
            be_late(host)
            gate.open()
            await run.outcome()
        assert types_of(live) == ["run.started", "step.started", "step.item", "step.finished", "run.finished"]


async def test_what_was_not_told_early_is_told_when_it_is_stored(store: Store) -> None:
    async with hosting([turns(pause_s=0.05)], store) as host:
        session = await create(host, "turns")
        async with followed(host, session) as live:
            run = await host.start(session, RunRequest(max_steps=4))
            async with asyncio.timeout(60):
                while "step.finished" not in types_of(live):  # noqa: ASYNC110  # a list gives no sign
                    await asyncio.sleep(0.005)
            be_late(host)
            await run.outcome()
        assert types_of(live) == ["run.started", *["step.started", "step.finished"] * 4, "run.finished"]
        assert [event.id for event in live] == [event.id for event in await all_events(host, session)]


async def test_no_item_is_told_of_after_one_that_was_not(store: Store) -> None:
    gates = Gate(), Gate()
    async with hosting([streamer(3, *gates)], store) as host:
        session = await create(host, "streamer")
        async with followed(host, session) as live:
            run = await host.start(session, RunRequest(max_steps=2))
            await gates[0].until_reached()  # item 0 was told
            be_late(host)
            gates[0].open()
            await gates[1].until_reached()  # item 1 was not
            be_heard(host)
            gates[1].open()
            await run.outcome()
        items = [(event.body.seq, event.body.number) for event in live if isinstance(event.body, ItemGiven)]
        assert items == [(0, 0), (1, 0), (1, 1), (1, 2)]
