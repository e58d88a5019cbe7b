"""Real processes whose machines' clocks are wrong: two replicas 30 seconds apart, and a service on SQLite set back by an hour."""

import asyncio
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.replicas.test_failover import LIMIT_S, until_acquainted
from tests.service_process import ServiceProcess, running_service
from tests.sse import events

FAILOVER_LIMIT_S = 20.0  # 10 on a machine that does nothing else
STEPS = 8

# imported by every Python that has its folder on the path, before anything else
SITE = """
import os
import textwrap
import time

_by_s = float(os.environ.get("CLOCK_IS_WRONG_BY_S", "0"))
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _by_s
time.time_ns = lambda: _time_ns() + int(_by_s * 1e9)
"""
MACHINE = """
    import asyncio
    from app.engine import ApplicationBuilder, State, streaming_action

    @streaming_action(reads=["n"], writes=["n"])
    async def say(state: State):
        for part in range(5):
            yield {"part": part}, None
            await asyncio.sleep(0.1)
        yield {"n": state["n"] + 1}, state.increment(n=1)

    def clock() -> ApplicationBuilder:
        return ApplicationBuilder().with_actions(say).with_transitions(("say", "say")).with_state(n=0).with_entrypoint("say")
"""


@dataclass
class Seen:
    """What a follower has seen, wherever it was."""

    ids: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    items: list[tuple[int, int]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    finished_at_s: list[float] = field(default_factory=list)  # on the clock of this test

    def note(self, event_id: int, kind: str, data: dict[str, Any]) -> None:
        self.ids.append(event_id)
        if kind == "step.finished":
            self.finished.append(data["seq"])
            self.finished_at_s.append(time.monotonic())
        elif kind == "step.item":
            self.items.append((data["seq"], data["index"]))
        elif kind.startswith("run.") and kind != "run.started":
            self.ends.append(kind)


def serve(folder: Path, url: str, by_s: float) -> Any:
    """A service whose machine's clock is wrong by so many seconds."""
    (folder / "sitecustomize.py").write_text(SITE)
    (folder / "clock.py").write_text(textwrap.dedent(MACHINE))
    variables = {"PYTHONPATH": str(folder), "CLOCK_IS_WRONG_BY_S": str(by_s)}
    return running_service("--database-url", url, "clock.py", cwd=folder, variables=variables)


async def follow(service: ServiceProcess, path: str, seen: Seen, until: Callable[[Seen], bool]) -> None:
    """Follow on from what was seen, until so much was."""
    headers = {"Last-Event-ID": str(seen.ids[-1] if seen.ids else 0)}
    async with asyncio.timeout(LIMIT_S), httpx.AsyncClient(base_url=service.url, timeout=LIMIT_S) as client:
        while True:
            try:
                async with client.stream("GET", f"{path}/events", headers=headers) as answer:
                    if answer.status_code == 200:
                        async for event in events(answer):
                            seen.note(*event)
                            if until(seen):
                                return
                    else:
                        assert answer.status_code == 503, (answer.status_code, await answer.aread())
            except httpx.TransportError:
                pass  # the other replica, to which it was passed on, is gone
            headers = {"Last-Event-ID": str(seen.ids[-1] if seen.ids else 0)}
            await asyncio.sleep(0.1)


async def begin(service: ServiceProcess, steps: int = STEPS) -> str:
    """A session there, with a run in the background."""
    async with httpx.AsyncClient(base_url=service.url, timeout=LIMIT_S) as client:
        path = f"/v1/sessions/{(await client.post('/v1/sessions', json={'machine': 'clock'})).json()['id']}"
        await run(service, path, steps)
        return path


async def run(service: ServiceProcess, path: str, steps: int) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=LIMIT_S) as client:
        body = {"max_steps": steps, "on_busy": "enqueue"}
        accepted = await client.post(f"{path}/runs", json=body, headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202, accepted.text


def is_amid_step(seq: int) -> Callable[[Seen], bool]:
    """Whether an item of this step was seen, which is never stored."""
    return lambda seen: (seq, 1) in seen.items


@pytest.mark.parametrize("by_s", [30.0, -30.0], ids=["ahead", "behind"])
async def test_a_killed_replicas_run_goes_on_elsewhere_and_followers_miss_nothing(
    by_s: float, postgres_store_url: str, tmp_path: Path
) -> None:
    with serve(tmp_path, postgres_store_url, by_s) as owner, serve(tmp_path, postgres_store_url, 0.0) as other:
        await until_acquainted(postgres_store_url)
        path = await begin(owner)
        seen = [Seen(), Seen()]  # one of them reads at each replica
        readers = [follow(service, path, each, is_amid_step(2)) for service, each in zip((owner, other), seen, strict=True)]
        await asyncio.gather(*readers)
        owner.kill()
        killed_s = time.monotonic()
        await asyncio.gather(*(follow(other, path, each, lambda seen: bool(seen.ends)) for each in seen))
        back = Seen()
        await follow(other, path, back, lambda seen: bool(seen.ends))
    for each in (*seen, back):
        assert each.ids == sorted(set(each.ids))
        assert each.finished == list(range(STEPS))
        assert each.ends == ["run.finished"]
    assert min(at_s for at_s in seen[0].finished_at_s if at_s > killed_s) - killed_s < FAILOVER_LIMIT_S


async def test_a_follower_that_changes_between_replicas_whose_clocks_are_apart_misses_nothing(
    postgres_store_url: str, tmp_path: Path
) -> None:
    with serve(tmp_path, postgres_store_url, 30.0) as ahead, serve(tmp_path, postgres_store_url, 0.0) as behind:
        await until_acquainted(postgres_store_url)
        seen = {await begin(ahead): Seen(), await begin(behind): Seen()}
        for seq in range(STEPS - 1):
            service = (ahead, behind)[seq % 2]
            await asyncio.gather(*(follow(service, path, each, is_amid_step(seq)) for path, each in seen.items()))
        await asyncio.gather(*(follow(ahead, path, each, lambda seen: bool(seen.ends)) for path, each in seen.items()))
    for each in seen.values():
        assert each.ids == sorted(set(each.ids))
        assert each.finished == list(range(STEPS))


async def test_a_service_on_sqlite_that_starts_with_its_clock_set_back_goes_on_with_higher_ids(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    seen, back = Seen(), Seen()
    with serve(tmp_path, url, 0.0) as service:
        path = await begin(service, 2)
        await follow(service, path, seen, lambda seen: bool(seen.ends))
        await run(service, path, 4)
        await follow(service, path, seen, is_amid_step(3))
        service.kill()
    with serve(tmp_path, url, -3600.0) as service:
        await follow(service, path, seen, lambda seen: len(seen.ends) == 2)
        await follow(service, path, back, lambda seen: len(seen.ends) == 2)
    for each in (seen, back):
        assert each.ids == sorted(set(each.ids))
        assert each.finished == list(range(6))
        assert each.ends == ["run.finished"] * 2
