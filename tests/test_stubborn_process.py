"""The process ends with its grace, whatever the code of its actions does."""

import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.service_process import running_service

GRACE_S = 1
SOON_S = 20.0  # the actions take 600 s; on a quiet machine the process takes 2
MACHINES = """
import asyncio
import contextlib
import threading
import time

from app.engine import ApplicationBuilder, State, action, streaming_action

LONG_S = 600


@action(reads=[], writes=["v"])
async def swallow(state: State) -> State:
    for _ in range(LONG_S):
        with contextlib.suppress(BaseException):
            await asyncio.sleep(1)
    return state.update(v=1)


@action(reads=[], writes=["v"])
async def to_thread(state: State) -> State:
    await asyncio.to_thread(time.sleep, LONG_S)
    return state.update(v=1)


@action(reads=[], writes=["v"])
async def own_thread(state: State) -> State:
    threading.Thread(target=time.sleep, args=(LONG_S,)).start()
    await asyncio.sleep(LONG_S)
    return state.update(v=1)


@action(reads=[], writes=["v"], executor="thread")
def sync(state: State) -> State:
    time.sleep(LONG_S)
    return state.update(v=1)


@action(reads=[], writes=["v"], executor="process")
def process(state: State) -> State:
    time.sleep(LONG_S)
    return state.update(v=1)


@action(reads=[], writes=["v"])
async def block(state: State) -> State:
    time.sleep(LONG_S)
    return state.update(v=1)


@streaming_action(reads=[], writes=["v"])
async def stream(state: State):
    yield {"i": 1}, None
    with contextlib.suppress(BaseException):
        await asyncio.sleep(LONG_S)
    await asyncio.sleep(LONG_S)
    yield {"v": 1}, state.update(v=1)


def _of(only):
    return ApplicationBuilder().with_actions(only=only).with_entrypoint("only").with_transitions(("only", "only"))


def m_swallow(): return _of(swallow)
def m_to_thread(): return _of(to_thread)
def m_own_thread(): return _of(own_thread)
def m_sync(): return _of(sync)
def m_process(): return _of(process)
def m_block(): return _of(block)
def m_stream(): return _of(stream)
"""
WAYS = ["swallow", "to_thread", "own_thread", "sync", "process", "block", "stream"]


@pytest.mark.parametrize("way", WAYS)
def test_a_process_ends_with_its_grace_and_as_it_always_does(way: str, tmp_path: Path) -> None:
    (tmp_path / "held.py").write_text(MACHINES)
    with running_service(f"held.py:m_{way}", cwd=tmp_path, variables={"STEPWELL_SHUTDOWN_GRACE_S": str(GRACE_S)}) as service:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            session = client.post("/v1/sessions", json={"machine": f"m_{way}"}).json()["id"]

        def run() -> None:
            with httpx.Client(base_url=service.url, timeout=60) as client:
                try:
                    client.post(f"/v1/sessions/{session}/runs", json={"max_steps": 1})
                except httpx.TransportError:
                    return

        asking = threading.Thread(target=run)
        asking.start()
        time.sleep(1.0)  # until it is in its action; where it is not yet, the process ends all the sooner
        began_s = time.monotonic()
        assert service.stop(signal.SIGTERM, timeout_s=60) == 0
        assert time.monotonic() - began_s < SOON_S
        asking.join(60)
