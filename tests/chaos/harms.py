"""What is done to a cluster, one thing at a time. Each harm returns when whatever it stopped has been started again."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType

import httpx

from tests.chaos.checker import blocked_run_faults
from tests.chaos.cluster import Cluster, Replica
from tests.chaos.witness import Witness

__all__ = ["GENTLE", "HARMS", "Harm", "plan"]

DEAD_AFTER_S = 4.0  # of silence, as ClaimSettings has it

OUTAGE_S = 30.0
REQUEST_LIMIT_S = 60.0
CANCEL_LIMIT_S = 10.0  # on a machine that is busy; it takes half a second
BLOCKED_LIMIT_S = 120.0  # for what takes 10 to 22 s, and then waits for its turn on a busy machine
STOP_LIMIT_S = 40.0  # the grace of 10 s, and what a busy machine makes of it; the action takes 600

Harm = Callable[[Cluster, Witness, random.Random], Awaitable[None]]


def plan(rounds: int, chance: random.Random) -> Sequence[str]:
    """Return which harm each round does: each kind but the long outage once, before any comes again."""
    planned: list[str] = []
    while len(planned) < rounds:
        kinds = [name for name in HARMS if name != "outage"]
        chance.shuffle(kinds)
        planned += kinds
    return planned[:rounds]


async def kill(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """`kill -9` of a replica; it is started again a little later."""
    replica = chance.choice(cluster.replicas)
    witness.set_back()
    await asyncio.to_thread(replica.kill)
    await _note_orphans(cluster, witness, replica)
    await asyncio.sleep(chance.uniform(0.0, 3.0))
    await asyncio.to_thread(replica.start)


async def kill_all(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """`kill -9` of every replica."""
    for replica in cluster.replicas:
        await asyncio.to_thread(replica.kill)
    witness.set_back()
    await asyncio.gather(*(asyncio.to_thread(replica.start) for replica in cluster.replicas))


async def freeze(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """A replica stands still for longer than it takes to be taken for dead, and goes on as if nothing had been."""
    replica = chance.choice(cluster.replicas)
    witness.set_back()
    frozen = asyncio.create_task(asyncio.to_thread(replica.freeze, DEAD_AFTER_S + chance.uniform(2.0, 4.0)))
    await asyncio.sleep(0.1)
    await _note_orphans(cluster, witness, replica)
    await frozen


async def stop_database(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """PostgreSQL is stopped in order, and started again."""
    await _without_database(cluster, witness, "fast", chance.uniform(0.0, 5.0))


async def crash_database(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """PostgreSQL is stopped as by a power cut, and has to recover."""
    await _without_database(cluster, witness, "immediate", chance.uniform(0.0, 5.0))


async def cut(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """Every connection of one replica, or of all, to the database breaks, a few times in a row."""
    for _ in range(chance.randint(1, 5)):
        for replica in chance.sample(cluster.replicas, chance.randint(1, len(cluster.replicas))):
            await asyncio.to_thread(replica.line.order, "cut")
        await asyncio.sleep(chance.uniform(0.0, 0.3))


async def lose_answers(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """What the database says next does not arrive: what was asked of it is carried out, and nobody knows."""
    for _ in range(chance.randint(1, 5)):
        await asyncio.to_thread(chance.choice(cluster.replicas).line.order, "lose")
        await asyncio.sleep(chance.uniform(0.0, 0.5))


async def terminate(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """The database throws out some of its clients."""
    for _ in range(chance.randint(1, 5)):
        question = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND random() < $1"
        )
        await cluster.ask(f"{question} AND pid <> pg_backend_pid()", chance.choice((0.3, 0.6, 1.0)))
        await asyncio.sleep(chance.uniform(0.0, 0.3))


async def hang(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """Nothing passes between one replica and the database for a while, long enough to be taken for dead, or not."""
    replica = chance.choice(cluster.replicas)
    witness.set_back()
    await asyncio.to_thread(replica.line.order, "hold")
    await asyncio.sleep(chance.uniform(1.0, DEAD_AFTER_S + 4.0))
    await asyncio.to_thread(replica.line.order, "release")


async def restart(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """A replica is replaced in order, as by a deployment."""
    replica = chance.choice(cluster.replicas)
    witness.set_back()
    under_way = await cluster.runs_of(replica)
    code = await asyncio.to_thread(replica.stop)
    witness.orphaned += [(run_id, time.time()) for run_id in under_way]
    if code != 0:
        witness.wrong.append(f"a replica that was asked to stop ended with {code}")
    await asyncio.to_thread(replica.start)


async def defy(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """An action that cannot be cancelled: its run is cancelled, its replica is stopped, and killed if it does not end."""
    replica = chance.choice(cluster.replicas)
    witness.set_back()
    async with httpx.AsyncClient(base_url=replica.url, timeout=REQUEST_LIMIT_S, verify=False) as http:
        session = (await http.post("/v1/sessions", json={"machine": "stubborn"})).json()["id"]
        path = f"/v1/sessions/{session}"
        accepted = await http.post(f"{path}/runs", json={"max_steps": 1}, headers={"Prefer": "respond-async"})
        run = f"/v1/runs/{accepted.json()['id']}"
        while (await http.get(run)).json()["status"] != "running":  # noqa: ASYNC110  # polling is all that there is
            await asyncio.sleep(0.05)
        began_s = time.monotonic()
        answer = await http.post(f"{run}/cancel")
        took_s = time.monotonic() - began_s
        if answer.json().get("status") != "cancelled" or took_s > CANCEL_LIMIT_S:
            witness.wrong.append(f"a cancel of an action that swallows it was answered {answer.status_code} after {took_s:.1f} s")
        began_s = time.monotonic()
        code = await asyncio.to_thread(replica.stop)
        if code != 0 or time.monotonic() - began_s > STOP_LIMIT_S:
            witness.wrong.append(f"a replica with such an action ended with {code} after {time.monotonic() - began_s:.1f} s")
        await asyncio.to_thread(replica.start)
    async with httpx.AsyncClient(base_url=replica.url, timeout=REQUEST_LIMIT_S, verify=False) as http:
        if (status := (await http.get(run)).json().get("status")) != "cancelled":
            witness.wrong.append(f"a run that was cancelled is {status} after a restart")
        await http.delete(path)


async def fill(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """An action fills the default executor of its loop; a large step of another session is committed meanwhile."""
    replica = chance.choice(cluster.replicas)
    async with _session_at(replica, "grows") as (http, path), _blocked(cluster, witness, replica, "fills") as run:
        began_s = time.monotonic()
        answer = await http.post(f"{path}/steps", json={})
        took_s = time.monotonic() - began_s
        is_full = (await http.get(run)).json()["status"] == "running"
        if answer.status_code != 200 or not is_full:
            witness.wrong.append(f"beside a full executor a large step was answered {answer.status_code} after {took_s:.1f} s")


async def hold(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """An async action holds the loop of its replica for longer than a replica may be silent."""
    replica = chance.choice(cluster.replicas)
    async with _blocked(cluster, witness, replica, "holds"):
        pass


async def outage(cluster: Cluster, witness: Witness, chance: random.Random) -> None:
    """The database is away for half a minute."""
    await _without_database(cluster, witness, "immediate", OUTAGE_S)


HARMS: Mapping[str, Harm] = MappingProxyType(
    {
        harm.__name__: harm
        for harm in (
            kill,
            freeze,
            stop_database,
            cut,
            lose_answers,
            crash_database,
            kill_all,
            terminate,
            hang,
            restart,
            defy,
            fill,
            hold,
            outage,
        )
    }
)
GENTLE = frozenset({"fill", "hold"})
"""They take nothing away: no replica may be taken for dead, and no action may be called again because of them."""


@contextlib.asynccontextmanager
async def _session_at(replica: Replica, machine: str) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A session that this replica has claimed; it is deleted afterwards."""
    async with httpx.AsyncClient(base_url=replica.url, timeout=BLOCKED_LIMIT_S, verify=False) as http:
        path = f"/v1/sessions/{(await http.post('/v1/sessions', json={'machine': machine})).json()['id']}"
        try:
            await http.patch(path, json={"state": {"set": {"n": 0}}})
            yield http, path
        finally:
            await http.delete(path)


@contextlib.asynccontextmanager
async def _blocked(cluster: Cluster, witness: Witness, replica: Replica, machine: str) -> AsyncIterator[str]:
    """While an action of `machine` is at work there; the value is its run. Afterwards its end and its calls are checked."""
    async with _session_at(replica, machine) as (http, path):
        session = path.rpartition("/")[2]
        accepted = await http.post(f"{path}/runs", json={"max_steps": 1}, headers={"Prefer": "respond-async"})
        run = f"/v1/runs/{accepted.json()['id']}"
        async with asyncio.timeout(BLOCKED_LIMIT_S):
            while not cluster.calls_of(session):  # noqa: ASYNC110  # another process gives no sign
                await asyncio.sleep(0.05)
        claim = await cluster.claim_on(session)
        yield run
        until_s = time.monotonic() + BLOCKED_LIMIT_S
        while (ended := (await http.get(run)).json()).get("finished_at") is None:
            if time.monotonic() > until_s:
                witness.wrong.append(f"{run} was blocked for a while, and is lost: {ended}")
                return
            await asyncio.sleep(0.1)
        known = await cluster.ask("SELECT attempts FROM runs WHERE id = $1", ended["id"])
        attempts = known[0]["attempts"] if known else 0  # else its end is stored with its last step
        witness.wrong += blocked_run_faults(ended, claim, await cluster.claim_on(session), cluster.calls_of(session), attempts)


async def _note_orphans(cluster: Cluster, witness: Witness, replica: Replica) -> None:
    now_s = time.time()
    witness.orphaned += [(run_id, now_s) for run_id in await cluster.runs_of(replica)]


async def _without_database(cluster: Cluster, witness: Witness, mode: str, seconds: float) -> None:
    await asyncio.to_thread(cluster.database.stop, mode)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(cluster.database.start)
    witness.set_back()
