"""A run for which nothing runs is handed over at once when the service ends, and that is no attempt that failed."""

import asyncio
import time
from pathlib import Path

import pytest

from app.engine import ApplicationBuilder, Retry, State, action
from app.engine.machine import Machine
from app.persistence.factory import open_store
from app.persistence.records import RunStatus
from app.sessions.requests import OnBusy, RunRequest
from tests.sessions.hosting import create, hosting

GRACE_S = 60.0


def patient() -> Machine:
    """`ask` is refused, and waits for ten minutes before it asks again."""

    @action(reads=[], writes=["answer"], retry=Retry(on=ConnectionError, wait_initial_s=600.0, wait_jitter_s=0, wait_max_s=600.0))
    async def ask(state: State) -> State:
        raise ConnectionError

    return Machine("patient", lambda: ApplicationBuilder().with_actions(ask).with_entrypoint("ask"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else str(request.getfixturevalue("postgres_store_url"))


async def test_a_run_between_two_attempts_is_handed_over_at_once(url: str) -> None:
    async with hosting([patient()], open_store(url), shutdown_grace_s=GRACE_S) as host:
        session = await create(host, "patient")
        run_id = (await host.queue(session, RunRequest())).id
        waiting = await host.queue(session, RunRequest(on_busy=OnBusy.ENQUEUE))
        async with asyncio.timeout(GRACE_S):
            while (run := host.runs.get(run_id)) is None or not run.is_pausing:  # noqa: ASYNC110  # another task's doing
                await asyncio.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < GRACE_S / 2
    store = open_store(url)
    await store.open()
    try:
        left, behind = await store.get_run(run_id), await store.get_run(waiting.id)
        assert (left.status, left.attempts, behind.status) == (RunStatus.RUNNING, -1, RunStatus.QUEUED)
    finally:
        await store.close()
